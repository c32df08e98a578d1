"""Reading what people have, and writing files that appear whole: layouts, images, masks."""
