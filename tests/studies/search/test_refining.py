"""Coarse to fine: which values are added, and what a RUN says of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import contents, planned_scores, refused
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pseudoval.cli.commands import run
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.bootstrap import Replicates, bootstrap_auroc
from studies import Stage, run_study
from studies.search.refining import between


def no_bootstrap() -> None:
    return None


def added(stage: Stage, values: list[float]) -> list[dict]:
    configs = stage.configs(dict.fromkeys(stage.inherits, 7))
    return between(stage, configs, np.array(values), no_bootstrap)  # type: ignore[arg-type,return-value]


def test_half_way_to_both_neighbours_and_never_beyond_the_ends() -> None:
    stage = Stage(name="k", grid={"k": (1, 2, 5, 12)}, inherits=("t",))
    assert added(stage, [0.1, 0.2, 0.9, 0.3]) == [{"t": 7, "k": 3}, {"t": 7, "k": 8}]
    assert added(stage, [0.1, 0.9, 0.5, 0.3]) == [{"t": 7, "k": 3}], "none between 1 and 2"
    assert added(stage, [0.1, 0.2, 0.3, 0.9]) == [{"t": 7, "k": 8}], "12 is the end"
    assert added(stage, [0.9, 0.9, 0.3, 0.2]) == [], "of equal ones the smallest leads"
    assert added(stage, [np.nan, 0.2, 0.9, np.nan]) == [{"t": 7, "k": 3}, {"t": 7, "k": 8}]


def test_several_parameters_are_refined_one_at_a_time() -> None:
    stage = Stage(name="joint", grid={"k": (1, 5, 9), "t": (100, 200)})
    values = [0.1, 0.2, 0.3, 0.4, 0.9, 0.5]  # t = 100 with every k, then t = 200
    assert added(stage, values) == [
        {"t": 150, "k": 5}, {"t": 200, "k": 3}, {"t": 200, "k": 7},
    ]  # fmt: skip
    assert added(replace(stage, codes=("k",)), values) == [{"t": 150, "k": 5}]


def test_none_towards_a_neighbour_within_a_standard_error(rng: np.random.Generator) -> None:
    stage = Stage(name="t", grid={"t": (100, 200, 300)}, fixed={"k": 0})
    labels = np.tile([0, 1], 40)
    shared = rng.standard_normal(80)
    scores = np.array([labels * s + shared + 0.3 * rng.standard_normal(80) for s in (0, 1.5, 1.5)])
    configs = stage.configs({})
    matrix = bootstrap_auroc(scores, ["a"] * 80, labels, [str(i // 2) for i in range(80)])
    order = np.argsort(-matrix.means)
    assert set(order[:2]) == {1, 2}
    gap = matrix.means[order[0]] - matrix.means[order[1]]
    spread = (matrix.values[0, order[0]] - matrix.values[0, order[1]]).std()
    assert gap < spread, "else this says nothing"

    def replicates() -> Replicates:
        return matrix

    found = between(stage, configs, matrix.means, replicates)
    leader, other = configs[order[0]]["t"], configs[order[1]]["t"]
    towards = (int(leader) + int(other)) // 2
    assert towards not in [config["t"] for config in found]
    assert len(between(stage, configs, matrix.means, no_bootstrap)) == len(found) + 1


PEAK = 130


def plan(config: dict, label: int, noise: np.ndarray) -> float:
    """Best at t = 130, falling off to both sides, and at the smallest K."""
    if config["k"] == 0:
        return label * (3 - abs(config["t"] - PEAK) / 30) + 0.3 * noise[0]
    return label * (1 + 1 / config["k"])


def tune(road: Path, out: Path, *more: str) -> list[str]:
    return ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"), "--out",
            str(out), "--t", "25,100,300", "--k", "1,9", *more]  # fmt: skip


def test_a_study_that_refines(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_scores(monkeypatch, road / "pseudo", lambda c, label, noise: plan(c, label, noise * 0))
    monkeypatch.setattr("studies.search.refining.gap_errors", lambda made, row: np.zeros(99)[: len(
        made.means)])  # fmt: skip
    out = tmp_path / "run"
    assert run(tune(road, out, "--refine", "--objective", "image_ap")) == 0
    best = json.loads((out / "best.json").read_text())
    values = best["stages"][0]["values"]
    assert values == sorted(values) and set(values) >= {25, 62, 100, 200, 300}
    assert best["stages"][0]["configs"] == [{"t": t, "k": 0} for t in values]
    trials = pd.read_csv(out / "trials.csv")
    first = trials[trials["stage"] == "t"]
    assert first["params"].tolist()[:3] == ["t=25;k=0", "t=100;k=0", "t=300;k=0"]
    assert len(first) == len(values) and (first["state"] == "COMPLETE").all()
    storage = JournalStorage(JournalFileBackend(str(out / "optuna.journal")))
    study = optuna.load_study(study_name="t_then_k/t", storage=storage)
    assert sorted(trial.params["t"] for trial in study.trials) == values
    header = json.loads((out / "run.json").read_text())
    assert header["refine"] == 2 and header["stages"][0]["refine"] == 2
    assert header["grids"] == {"t": [25, 100, 300], "k": [1, 9]}
    matrix = ScoreMatrix.load(out / "pseudo_scores.npz")
    assert [config["t"] for config in matrix.configs if config["k"] == 0] == values
    before = contents(out)
    assert run(tune(road, out, "--refine", "--objective", "image_ap")) == 0
    assert contents(out) == before
    refused(capsys, tune(road, out, "--refine", "1", "--objective", "image_ap"), "another refine")
    assert run(["evaluate", str(out), str(road / "data")]) == 0
    assert run(["report", str(out)]) == 0
    found = json.loads((out / "report" / "correlation.json").read_text())
    assert found["stages"][0]["values"] == values


def test_two_rounds_close_in_on_the_peak(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pixel objective has no bootstrap, so that both rounds are made."""
    peaked = {25: 0.2, 100: 0.8, 300: 0.5, 62: 0.6, 200: 0.7, 81: 0.7, 150: 0.9}
    planned_scores(monkeypatch, road / "pseudo", lambda config, label, noise: label)
    monkeypatch.setattr("studies.search.stage.values", lambda objective, matrix: np.array(
        [peaked[c["t"]] if c["k"] == 0 else 0.5 for c in matrix.configs]))  # fmt: skip
    found = run_study(
        "t_then_k", model=road / "model", pseudo=road / "pseudo", out=tmp_path / "run",
        t=[25, 100, 300], k=[1], refine=2, objective="pixel_auroc",
    )  # fmt: skip
    assert found.best["stages"][0]["values"] == [25, 62, 81, 100, 150, 200, 300]
    assert found.best["stages"][1]["values"] == [1]


def test_refine_of_a_study_file(road: Path, tmp_path: Path) -> None:
    from pseudoval.errors import UserError
    from pseudoval.models.open import open_detector
    from studies import read_study

    detector = open_detector(road / "model", seed=0)
    path = tmp_path / "fine.toml"
    text = "[[stage]]\nvalues.t = [25, 300]\nediting = false\nrefine = 3\nrace = true\n"
    path.write_text(text)
    (stage,) = read_study(path, detector).stages
    assert (stage.refine, stage.race) == (3, True)
    assert (stage.described()["refine"], stage.described()["race"]) == (3, True)
    path.write_text(text + 'sampler = "tpe"\n')
    with pytest.raises(UserError, match=r"fine.toml, line 4: refine is for whole grids"):
        read_study(path, detector)
    path.write_text(text.replace("refine = 3", "refine = -1"))
    with pytest.raises(UserError, match=r"line 4: refine is a number of rounds"):
        read_study(path, detector)
