"""MODEL folders: training, opening, settings, members."""

from pseudoval.models.open import open_detector, open_detectors

__all__ = ["open_detector", "open_detectors"]
