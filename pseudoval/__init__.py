"""Choose hyperparameters of unsupervised image anomaly detectors with normal images only."""

__version__ = "0.1.0"
