"""One study over several seeds: chosen on the mean, and each seed a RUN of its own."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import contents, refused, road_commands, with_options
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pseudoval.cli.commands import run
from pseudoval.data.files import folder_kind
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.rules import select_best
from studies.search.members import mean_over_members

SEEDS = ["seed-3", "seed-4"]


def of_seed(several: Path, seed: str) -> tuple[dict, ScoreMatrix, np.ndarray]:
    best = json.loads((several / "run" / seed / "best.json").read_text())
    matrix = ScoreMatrix.load(several / "run" / seed / "pseudo_scores.npz")
    return best, matrix, macro_auroc(matrix.scores, matrix.categories, matrix.labels)


def test_the_choice_is_made_on_the_mean(several: Path) -> None:
    best = json.loads((several / "run" / "best.json").read_text())
    (_, matrix, first), (_, other, second) = (of_seed(several, seed) for seed in SEEDS)
    assert matrix.configs == other.configs
    assert first.tolist() != second.tolist(), "the seeds must differ for this test to say anything"
    start = 0
    for stage in best["stages"]:
        rows = slice(start, start + len(stage["values"]))
        start = rows.stop
        assert stage["pseudo_auroc"] == pytest.approx((first[rows] + second[rows]) / 2, abs=1e-12)
        assert stage["pseudo_auroc_by_seed"] == {
            "seed-3": first[rows].tolist(), "seed-4": second[rows].tolist(),
        }  # fmt: skip
        chosen = select_best(stage["configs"], stage["pseudo_auroc"])
        assert stage["selected"] == stage["values"][chosen]
    assert best["pseudo_auroc"] == max(best["stages"][-1]["pseudo_auroc"])
    assert not (several / "run" / "pseudo_scores.npz").exists()


def test_every_seed_is_a_run_with_the_common_choice(several: Path, road: Path) -> None:
    joint = json.loads((several / "run" / "best.json").read_text())
    header = json.loads((several / "run" / "run.json").read_text())
    assert header["members"] == SEEDS
    for seed in SEEDS:
        folder = several / "run" / seed
        best, matrix, values = of_seed(several, seed)
        own = json.loads((folder / "run.json").read_text())
        assert folder_kind(folder) == "run"
        assert best["params"] == joint["params"]
        assert best["pseudo_auroc"] == values[matrix.row(joint["params"])]
        assert [stage["selected"] for stage in best["stages"]] == [
            stage["selected"] for stage in joint["stages"]
        ]
        told = [value for stage in best["stages"] for value in stage["pseudo_auroc"]]
        assert told == values.tolist()
        assert "members" not in own
        assert (folder / own["model"]).resolve() == (several / "model" / seed).resolve()
        assert (folder / own["pseudo"][0]).resolve() == (road / "pseudo").resolve()
        assert own["model_sha256"] == best["model_sha256"] == matrix.header["model_sha256"]
        assert matrix.header["seed"] == header["seed"] == 0, "the noise is that of the RUN"
        assert any((folder / "examples").glob("pseudo-*.npz"))
    single = json.loads((road / "run" / "run.json").read_text())
    assert "members" not in single


def test_trials_hold_the_mean_and_each_seed(several: Path) -> None:
    trials = pd.read_csv(several / "run" / "trials.csv")
    best = json.loads((several / "run" / "best.json").read_text())
    assert trials["pseudo_auroc"].tolist() == [
        value for stage in best["stages"] for value in stage["pseudo_auroc"]
    ]
    storage = JournalStorage(JournalFileBackend(str(several / "run" / "optuna.journal")))
    for stage in best["stages"]:
        loaded = optuna.load_study(study_name=f"t_then_k/{stage['name']}", storage=storage)
        assert [trial.value for trial in loaded.trials] == stage["pseudo_auroc"]
        for row, trial in enumerate(loaded.trials):
            for seed in SEEDS:
                told = trial.user_attrs[f"by_seed/{seed}"]
                assert told == stage["pseudo_auroc_by_seed"][seed][row]
            parts = [trial.user_attrs[f"auroc/{name}"] for name in ("fabric", "flange")]
            assert sum(parts) / 2 == pytest.approx(trial.value)


@pytest.mark.usefixtures("blank_pictures")
def test_a_seed_can_be_reported(several: Path, tmp_path: Path) -> None:
    assert run(["report", str(several / "run" / "seed-4"), "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_interrupted_in_the_second_seed_goes_on(
    several: Path, road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    tune = with_options(road_commands(road)[2], model=several / "model", out=out)
    honest, calls = LafiteDetector.score_block, []

    def dies(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(self.model.seed)
        if self.model.seed == 4:
            raise KeyboardInterrupt
        return honest(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", dies)
    assert run(tune) == 130
    assert calls.count(4) == 1
    monkeypatch.setattr(
        LafiteDetector, "score_block",
        lambda self, images, configs: calls.append((self.model.seed, len(configs)))
        or honest(self, images, configs),
    )  # fmt: skip
    calls.clear()
    assert run(tune) == 0
    assert (3, 3) not in calls, "the first seed's blocks of the first stage are kept"
    assert {(4, 3), (3, 2), (4, 2)} == set(calls)
    for name in ("best.json", "seed-4/pseudo_scores.npz", "seed-3/best.json"):
        assert (out / name).read_bytes() == (several / "run" / name).read_bytes()
    before = contents(out)
    assert not any(name.partition("/")[2].startswith("blocks") for name in before)
    calls.clear()
    assert run(tune) == 0
    assert calls == []
    assert contents(out) == before


def test_a_refit_cannot_be_tuned(
    several: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = with_options(road_commands(road)[2], model=several / "refit", out=tmp_path / "run")
    refused(capsys, tune, "refitted on all normals; nothing was held out")
    assert not (tmp_path / "run").exists()


def test_means_of_the_same_values_tie_exactly() -> None:
    values = np.array([0.1, 0.7, 0.3])
    table = [np.array([values[i], values[(i + 1) % 3]]) for i in range(3)]
    first, second = mean_over_members(table)
    assert first == second
    assert first == pytest.approx(1.1 / 3)
    assert math.isnan(mean_over_members([np.array([np.nan]), np.array([1.0])])[0])
