"""DATA to PSEUDO: the split, the anomalies, the manifest."""
