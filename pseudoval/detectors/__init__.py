"""Detectors behind one protocol: ``lafite`` and ``knn``."""

from pseudoval.detectors.protocol import Block, Detector, Parameter

NAMES = ("lafite", "knn")

__all__ = ["NAMES", "Block", "Detector", "Parameter"]
