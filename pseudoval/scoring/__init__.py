"""A detector and images make a score matrix, predictions or examples."""
