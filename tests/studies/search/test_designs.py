"""Studies beside the paper's: the other order, the full grid, TPE; and their examples."""

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import planned_scores
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies import Outcome, run_study

T, K = [25, 50, 100, 300, 900], [1, 2, 4, 6]


@pytest.fixture
def planned(road: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """t = 100 and K = 4 are the best; editing matters little."""

    def plan(config: dict, label: int, noise: np.ndarray) -> float:
        far = abs(np.log(config["t"] / 100)) + 0.3 * abs(config["k"] - 4)
        return label + 0.5 * far * noise[config["k"] % 8]

    planned_scores(monkeypatch, road / "pseudo", plan)


def tuned(study: object, road: Path, out: Path, **options: object) -> Outcome:
    return run_study(
        study, model=road / "model", pseudo=road / "pseudo", out=out,
        **{"t": T, "k": K, **options},
    )  # type: ignore[arg-type] # fmt: skip


def stored(out: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(out / "optuna.journal")))
    return optuna.load_study(study_name=name, storage=storage).trials


@pytest.mark.usefixtures("blank_pictures")
def test_k_then_t_begins_at_the_default_t(planned: None, road: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    best = tuned("k_then_t", road, out, t=[100, 200, 900]).best
    first, last = best["stages"]
    assert first["configs"] == [{"t": 200, "k": k} for k in K]
    assert last["configs"] == [{"t": t, "k": first["selected"]} for t in (100, 200, 900)]
    assert best["params"] == {"t": last["selected"], "k": first["selected"]}
    matrix = ScoreMatrix.load(out / "pseudo_scores.npz")
    assert len(matrix.configs) == 6, "what both stages scored is there once"
    assert first["pseudo_auroc"][K.index(first["selected"])] == last["pseudo_auroc"][1]
    assert not tuned("k_then_t", road, out, t=[100, 200, 900]).fresh
    # Cells off the path, and a report, know that one configuration belongs to both stages.
    audited = tuned("k_then_t", road, out, t=[100, 200, 900], audit_share=1.0)
    assert audited.best["audit"]["cells"] == 3 * 4 - 6
    assert len(ScoreMatrix.load(out / "pseudo_scores.npz").configs) == 12
    assert run(["report", str(out)]) == 0


@pytest.mark.usefixtures("blank_pictures")
def test_joint_tries_every_cell(planned: None, road: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    best = tuned("joint", road, out).best
    (stage,) = best["stages"]
    assert stage["configs"] == [{"t": t, "k": k} for t in T for k in K]
    assert stage["param"] == "configuration"
    assert stage["values"][:2] == ["t=25;k=1", "t=25;k=2"]
    told = stage["pseudo_auroc"]
    assert stage["selected"] == stage["values"][told.index(max(told))]
    assert best["params"] == stage["configs"][told.index(max(told))]
    trials = stored(out, "joint/joint")
    assert [trial.params for trial in trials] == stage["configs"]
    assert [trial.value for trial in trials] == told
    header = json.loads((out / "run.json").read_text())
    assert header["grids"] == {"t": T, "k": K}
    assert run(["evaluate", str(out), str(road / "data")]) == 0
    assert run(["report", str(out)]) == 0
    page = (out / "report" / "report.html").read_text()
    assert "--study joint" in page and "--t 25,50,100,300,900 --k 1,2,4,6" in page


def test_tpe_tries_a_third_and_no_cell_twice(planned: None, road: Path, tmp_path: Path) -> None:
    best = tuned("joint_tpe", road, tmp_path / "run").best
    (stage,) = best["stages"]
    assert len(stage["configs"]) == 7, "a third of 20, rounded up"
    trials = stored(tmp_path / "run", "joint_tpe/joint")
    new = {trial.user_attrs["config"]: trial for trial in reversed(trials)}.values()
    assert {tuple(trial.params.values()) for trial in new} == {
        (config["t"], config["k"]) for config in stage["configs"]
    }
    table = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert table["number"].tolist() == sorted(trial.number for trial in new)
    assert all(trial.state == TrialState.COMPLETE for trial in trials), "repeats are told, too"
    assert stage["configs"] == sorted(stage["configs"], key=lambda c: (c["t"], c["k"]))
    other = tuned("joint_tpe", road, tmp_path / "other", seed=1).best
    assert other["stages"][0]["configs"] != stage["configs"], "the seed suggests"
    assert tuned("joint_tpe", road, tmp_path / "again").best == best


def test_interrupted_tpe_suggests_the_same_again(
    planned: None, road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.search.samplers.BATCH", 3)
    whole = tuned("joint_tpe", road, tmp_path / "whole").best
    honest, calls = LafiteDetector.score_block, []

    def dies(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(len(configs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", dies)
    with pytest.raises(KeyboardInterrupt):
        tuned("joint_tpe", road, tmp_path / "run")
    again = tuned("joint_tpe", road, tmp_path / "run").best
    assert again == whole
    assert calls == [3, 3, 3, 1], "the first batch is not scored again"
