"""``check-detector`` says what breaks the contract, and leaves with 2 where something does."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused
from own_classes import Power

from pseudoval.cli.commands import run

DOCS = Path(__file__).parents[3] / "docs"
CLOCK = count()


class Keeps(Power):
    """A sound detector: fewer values than ``Power``, so that the check is quick."""

    parameters = Power.parameters[:1]

    def score(self, loaded: Any, image: Any, *, power: float) -> Any:  # type: ignore[override]
        return (np.abs(image - loaded["mean"]).mean(axis=2) / 255) ** power


class Falls(Keeps):
    def score(self, loaded: Any, image: Any, *, power: float) -> Any:  # type: ignore[override]
        return -super().score(loaded, image, power=power)


class Moody(Keeps):
    def score(self, loaded: Any, image: Any, *, power: float) -> Any:  # type: ignore[override]
        return super().score(loaded, image, power=power).max() + next(CLOCK)


class Company(Keeps):
    """Gets used to what it sees, in each object anew."""

    seen = 0

    def score(self, loaded: Any, image: Any, *, power: float) -> Any:  # type: ignore[override]
        self.seen += 1
        return super().score(loaded, image, power=power).max() + self.seen


class Drifts(Keeps):
    def fit(self, images: Any) -> Any:
        return {**super().fit(images), "drift": next(CLOCK)}


class Holes(Keeps):
    def score(self, loaded: Any, image: Any, *, power: float) -> Any:  # type: ignore[override]
        found = super().score(loaded, image, power=power)
        return found * np.nan if power == 2 else found


class Tuples(Keeps):
    def fit(self, images: Any) -> Any:
        return {"mean": (1, 2)}


def checked(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code, and the names of what breaks."""
    capsys.readouterr()
    code = run(["check-detector", name, str(data), "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "BREAKS ")) for line in lines)
    broken = [line.partition(":")[0] for line in lines if line.startswith("BREAKS")]
    return code, [line.removeprefix("BREAKS").strip() for line in broken]


@pytest.mark.parametrize(
    ("name", "breaks"),
    [
        ("Keeps", []),
        ("Falls", ["direction"]),
        ("Moody", ["state", "determinism", "company and order"]),
        ("Company", ["determinism", "company and order"]),
        ("Drifts", ["state"]),
        ("Holes", ["finite numbers"]),
        ("Tuples", ["fit and score"]),
    ],
)
def test_what_breaks_the_contract(
    road: Path, capsys: pytest.CaptureFixture[str], name: str, breaks: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(Path(__file__).parent)
    code, broken = checked(f"test_conformance:{name}", road / "data", capsys)
    assert (code, [one for one in broken if one != "direction" or breaks == [one]]) == (
        2 if broken else 0, breaks)  # fmt: skip


def test_the_documented_detector_keeps_it(
    road: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCS)
    assert checked("own_detector:Repaint", road / "data", capsys) == (0, [])


def test_nothing_is_left_and_mistakes_are_told(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(
        capsys, ["check-detector", "lafite", str(road / "data")], "keeps the protocol by itself"
    )
    refused(capsys, ["check-detector", "absent:No", str(road / "data")], "no module 'absent'")
    refused(capsys, ["check-detector", "own_classes:Power", str(tmp_path)], "no category")
    assert not [*tmp_path.iterdir()]
