"""How sure a figure is, and which configuration wins."""
