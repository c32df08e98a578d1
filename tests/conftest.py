"""Fixtures that several test folders share."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import make_data, road_commands, with_options

# A test must never wait for the network that albumentations asks for updates.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Tests side by side share the cores: several with several threads each would slow each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    from pseudoval.cli.commands import run
    from pseudoval.demo import render_dataset

    root = tmp_path_factory.mktemp("road")
    data = root / "data"
    data.mkdir()
    render_dataset(data, seed=0, size=64, train=9, test_good=3, defects_per_kind=1,
                   categories=["fabric", "flange"])  # fmt: skip
    for arguments in road_commands(root):
        assert run(arguments) == 0, arguments
    return root


@pytest.fixture(scope="session")
def several(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (seeds 3 and 4, one model per category), ``run``, ``refit``."""
    from pseudoval.cli.commands import run

    root = tmp_path_factory.mktemp("several")
    _, train, tune, _, _ = road_commands(road)
    model, out, data = root / "model", str(root / "run"), str(road / "data")
    for arguments in [
        with_options(train, "--seed", "3", "--seeds", "2", "--per-category", out=model),
        with_options(tune, model=model, out=out),
        ["evaluate", out, data],
        ["train", data, "--refit", out, "--out", str(root / "refit")],
        ["evaluate", out, data, "--model", str(root / "refit")],
    ]:
        assert run(arguments) == 0, arguments
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories of eight smooth textures each."""
    return make_data(tmp_path / "data")
