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

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies import Outcome, Stage, run_study
from studies.search.samplers import tried

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
    assert len({tuple(trial.params.items()) for trial in trials}) == len(trials) == 7
    table = pd.read_csv(tmp_path / "run" / "trials.csv")
    assert table["number"].tolist() == list(range(7))
    assert stage["configs"] == sorted(stage["configs"], key=lambda c: (c["t"], c["k"]))
    other = tuned("joint_tpe", road, tmp_path / "other", seed=1).best
    assert other["stages"][0]["configs"] != stage["configs"], "the seed suggests"
    assert tuned("joint_tpe", road, tmp_path / "again").best == best


def test_tpe_learns(rng: np.random.Generator) -> None:
    stage = Stage(
        name="joint", grid={"t": tuple(range(1, 31)), "k": tuple(range(1, 31))},
        sampler="tpe", trials=120,
    )  # fmt: skip
    seen: list[float] = []

    def score(configs: object) -> np.ndarray:
        values = [-((c["t"] - 20) ** 2) - (c["k"] - 8) ** 2 for c in configs]  # type: ignore[attr-defined]
        seen.extend(values)
        return np.array(values, dtype=float)

    order = tried(stage, stage.configs({}), 0, score)
    assert len(order) == len(seen) == 120
    assert len({(config["t"], config["k"]) for config in order}) == 120
    assert np.median(seen[-40:]) > np.median(seen[:10]) + 100
    assert max(seen) >= -2


def test_tpe_tries_all_of_a_small_grid_and_lives_with_failures() -> None:
    stage = Stage(name="k", grid={"k": tuple(range(1, 13))}, sampler="tpe", trials=50)
    batches: list[int] = []

    def score(configs: object) -> np.ndarray:
        batches.append(len(configs))  # type: ignore[arg-type]
        return np.array([np.nan if c["k"] % 3 == 0 else c["k"] for c in configs])  # type: ignore[attr-defined]

    order = tried(stage, stage.configs({}), 3, score)
    assert sorted(config["k"] for config in order) == list(range(1, 13))
    assert batches == [8, 4]


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
