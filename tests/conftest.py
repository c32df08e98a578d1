"""Fixtures that several test folders share."""

import fcntl
import os
import shutil
from collections.abc import Callable
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


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process which asks for it makes, for all that test side by side.

    Tests only read it, or work in a copy: another may be looking at it.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, finished = root / name, root / f"{name}.finished"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``pseudo``, ``model``, ``run`` made by every command, tiny."""
    from pseudoval.cli.commands import run
    from pseudoval.demo import render_dataset

    def make(root: Path) -> None:
        data = root / "data"
        data.mkdir()
        render_dataset(data, seed=0, size=64, train=9, test_good=3, defects_per_kind=1,
                       categories=["fabric", "flange"])  # fmt: skip
        for arguments in road_commands(root):
            assert run(arguments) == 0, arguments

    return made_once(tmp_path_factory, "road", make)


@pytest.fixture(scope="session")
def several(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (seeds 3 and 4, one model per category), ``run``, ``refit``."""
    from pseudoval.cli.commands import run

    def make(root: Path) -> None:
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

    return made_once(tmp_path_factory, "several", make)


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose pictures have no content: encoding them is most of the time that one takes."""
    monkeypatch.setattr("reports.figures.style._encode", lambda figure, kind, **options: b"")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories of eight smooth textures each."""
    return make_data(tmp_path / "data")
