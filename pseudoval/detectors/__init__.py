"""Detectors behind one protocol: ``lafite`` and ``knn``."""

from pseudoval.detectors.protocol import Block, Detector, ExplainsTogether, Parameter

NAMES = ("lafite", "knn")

__all__ = ["NAMES", "Block", "Detector", "ExplainsTogether", "Parameter"]
