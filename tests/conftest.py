"""Fixtures that several test folders share."""

import os
from pathlib import Path

import numpy as np
import pytest

# A test must never wait for the network that albumentations asks for updates.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of its own for every test."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and weights, or a skip that says what is missing."""
    path = Path(os.environ.get("PSEUDOVAL_SHARED", Path(__file__).parents[2] / "shared"))
    if not (path / "data" / "real" / "bottle").is_dir():
        pytest.skip(f"no real images: {path} is missing; set PSEUDOVAL_SHARED to the folder")
    return path
