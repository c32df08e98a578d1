"""Fixtures that several test folders share."""

import os
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``pseudo``, ``model``, ``run`` made by every command, tiny."""
    from pseudoval.cli import run
    from pseudoval.demo_data import render_dataset

    root = tmp_path_factory.mktemp("road")
    data = root / "data"
    data.mkdir()
    render_dataset(data, seed=0, size=64, train=9, test_good=3, defects_per_kind=1,
                   categories=["fabric", "flange"])  # fmt: skip
    for arguments in road_commands(root):
        assert run(arguments) == 0, arguments
    return root


def road_commands(root: Path, data: str = "data") -> list[list[str]]:
    """The commands of the whole road in a folder, on a model that trains in seconds."""
    folder = {name: str(root / name) for name in ("pseudo", "model", "run")}
    small = ["features.image_size=64", "features.grid=8", "unet.base_channels=16",
             "unet.multipliers=1,2", "diffusion.sampling_steps=2", "score.pool=8"]  # fmt: skip
    return [
        ["build", str(root / data), "--out", folder["pseudo"], "--per-normal", "1"],
        ["train", str(root / data), "--pseudo", folder["pseudo"], "--out", folder["model"],
         "--preset", "demo", "--epochs", "3", *[a for s in small for a in ("--set", s)]],
        ["tune", "--model", folder["model"], "--pseudo", folder["pseudo"], "--out", folder["run"],
         "--t", "900,25,300", "--k", "1,4"],
        ["evaluate", folder["run"], str(root / data)],
        ["report", folder["run"]],
    ]  # fmt: skip


@pytest.fixture(scope="session")
def commands() -> Callable[..., list[list[str]]]:
    """``road_commands``, for tests that walk the road themselves."""
    return road_commands
