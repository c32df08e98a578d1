"""MODEL folders: training, opening, settings, members."""
