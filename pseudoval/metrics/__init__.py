"""Figures without chance: the score matrix, image and pixel metrics, the result table."""
