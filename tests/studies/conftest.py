"""A study that is long enough to be interrupted, for the tests of storage and workers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import postgres
import pytest

from pseudoval.cli.commands import run

GRIDS = ["--t", "25,100,300,900", "--k", "1,2,4", "--repeats", "2"]
SAME = ("best.json", "noise-0/pseudo_scores.npz", "noise-1/pseudo_scores.npz")


class Wide:
    """Eight blocks an image set, two members, two stages.

    Attributes:
        whole: a RUN that one worker made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = folder / "whole"

    def arguments(self, out: Path, *more: str) -> list[str]:
        """A ``tune`` command."""
        model, pseudo = str(self.folder / "model"), str(self.folder / "pseudo")
        return [
            "tune", "--model", model, "--pseudo", pseudo, "--out", str(out), *GRIDS, *more,
        ]  # fmt: skip

    def start(self, out: Path, *more: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "pseudoval", *self.arguments(out, *more)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def is_same(self, out: Path) -> bool:
        """Whether a RUN has the results of the one that one worker made."""
        tables = [pd.read_csv(run / "trials.csv") for run in (self.whole, out)]
        first, second = (table.drop(columns="seconds") for table in tables)
        return first.equals(second) and all(
            (self.whole / name).read_bytes() == (out / name).read_bytes() for name in SAME
        )


@pytest.fixture(scope="session")
def wide(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Wide:
    """The tiny model with a larger pseudo set, and a RUN."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "model").symlink_to(road / "model")
    made = Wide(folder)
    pseudo = str(folder / "pseudo")
    assert run(["build", str(road / "data"), "--out", pseudo, "--per-normal", "20"]) == 0
    assert run(made.arguments(made.whole)) == 0
    return made


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of a PostgreSQL database; a skip where there is no server."""
    with postgres.server() as url:
        yield url
