"""Whether a pseudo set is worth choosing on."""
