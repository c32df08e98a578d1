"""Every public name of ``studies`` is documented with an example, and the examples run."""

import copy
import doctest
from pathlib import Path

import pandas as pd
import pytest
from helpers import road_commands, with_options

import studies
from pseudoval.cli.commands import run
from pseudoval.detectors import Parameter
from pseudoval.models.open import open_detector
from studies.design import built_in, ranges, stages, study_files

MODULES = {
    "run": studies.run, "built_in": built_in, "ranges": ranges, "stages": stages,
    "study_files": study_files,
}  # fmt: skip


@pytest.fixture(scope="module")
def at_hand(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (LafitE), ``knn``, ``mvg`` and ``pseudo``, as the examples assume."""
    root = tmp_path_factory.mktemp("examples")
    for name in ("model", "pseudo"):
        (root / name).symlink_to(road / name)
    train = with_options(road_commands(road)[1], out=root / "knn")
    assert run([*train, "--detector", "knn"]) == 0
    assert run([*with_options(train, out=root / "mvg"), "--detector", "mvg"]) == 0
    return root


def test_every_public_name_has_an_example() -> None:
    for name in studies.__all__:
        if name != "STUDIES":  # a dict; the studies in it have their own
            assert ">>> " in (getattr(studies, name).__doc__ or ""), name
    assert {"run_study", "Outcome", "Stage", "Study", "read_study"} <= set(studies.__all__)
    assert {make.__name__ for make in studies.STUDIES.values()} <= set(studies.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(at_hand: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(at_hand)
    given = {
        "detector": open_detector(at_hand / "model", seed=0),
        "knn": open_detector(at_hand / "knn", seed=0),
        "mvg": open_detector(at_hand / "mvg", seed=0),
    }
    given["kept"] = copy.copy(given["detector"])
    epoch = Parameter("epoch", grid=(20, 40), needs_fit=True)
    given["kept"].parameters = (*given["detector"].parameters, epoch)
    result = doctest.testmod(MODULES[name], extraglobs=given)
    assert result.attempted > 0 and result.failed == 0


def test_curves_are_a_data_frame(at_hand: Path, tmp_path: Path) -> None:
    found = studies.run_study(
        "t_then_k", model=at_hand / "model", pseudo=at_hand / "pseudo", out=tmp_path / "run",
        t=[25, 300], k=[1, 4],
    )  # fmt: skip
    curves = found.curves
    assert isinstance(curves, pd.DataFrame) and len(curves) == 4
    chosen = curves[curves["selected"]]
    assert chosen["value"].tolist() == [found.best["params"]["t"], found.best["params"]["k"]]
    assert (curves["low"] <= curves["objective_value"]).all()
    assert (curves["objective_value"] <= curves["high"]).all()
    assert curves["objective_value"].tolist() == curves["pseudo_auroc"].tolist()
