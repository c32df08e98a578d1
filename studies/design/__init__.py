"""What a study tries: stages, the studies by name, study files."""
