"""A study that maximises something else than the macro image AUROC."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import planned_scores, refused
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pseudoval.cli.commands import run
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.statistics.objectives import values
from reports import load_run
from studies.checks import check_masks


@pytest.fixture
def command(road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Its scores are noisy at all t and K, so that objectives differ."""
    planned_scores(
        monkeypatch,
        road / "pseudo",
        lambda config, label, noise: label + noise[(config["t"] // 100 + config["k"]) % 8],
    )
    return ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"), "--out",
            str(tmp_path / "run"), "--t", "25,300,900", "--k", "1,4,6"]  # fmt: skip


@pytest.mark.parametrize(
    "objective", ["pooled_image_auroc", "image_ap", "pixel_aupro", "macro_image_auroc+pixel_auroc"]
)
@pytest.mark.usefixtures("blank_pictures")
def test_the_objective_is_what_is_maximised(
    command: list[str], tmp_path: Path, objective: str
) -> None:
    assert run([*command, "--objective", objective]) == 0
    out = tmp_path / "run"
    best = json.loads((out / "best.json").read_text())
    matrix = ScoreMatrix.load(out / "pseudo_scores.npz")
    told = values(objective, matrix)
    assert best["objective"] == json.loads((out / "run.json").read_text())["objective"] == objective
    assert [v for stage in best["stages"] for v in stage["objective_value"]] == told.tolist()
    macro = macro_auroc(matrix.scores, matrix.categories, matrix.labels)
    assert [v for stage in best["stages"] for v in stage["pseudo_auroc"]] == macro.tolist()
    assert told.tolist() != macro.tolist()
    for stage in best["stages"]:
        highest = int(np.argmax(stage["objective_value"]))
        assert stage["selected"] == stage["leader"] == stage["values"][highest]
    chosen = matrix.row(best["params"])
    assert (best["pseudo_auroc"], best["objective_value"]) == (macro[chosen], told[chosen])
    bounded = "pixel" not in objective
    assert (best["objective_interval"] is not None) == bounded
    if bounded:
        low, high = best["objective_interval"]
        assert 0 <= low <= told[chosen] <= high <= 1
    trials = pd.read_csv(out / "trials.csv")
    assert trials["objective_value"].tolist() == told.tolist()
    assert trials["pseudo_auroc"].tolist() == macro.tolist()
    storage = JournalStorage(JournalFileBackend(str(out / "optuna.journal")))
    stored = optuna.load_study(study_name="t_then_k/t", storage=storage).trials
    assert [trial.value for trial in stored] == told[:3].tolist()
    for name in ("auroc/fabric", "objective/fabric", "objective/flange", "interval"):
        assert name in stored[0].user_attrs
    # The report reads it, and judges what else would have been chosen by the same objective.
    assert load_run(out).objective == objective
    assert run(["report", str(out)]) == 0
    assert objective in (out / "report" / "report.html").read_text()


def test_every_seed_tells_its_own_objective(several: Path, road: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["tune", "--model", str(several / "model"), "--pseudo", str(road / "pseudo"),
               "--out", str(out), "--t", "25", "--k", "1,4"]  # fmt: skip
    assert run([*command, "--objective", "image_ap"]) == 0
    both = json.loads((out / "best.json").read_text())
    own = [json.loads((out / seed / "best.json").read_text()) for seed in ("seed-3", "seed-4")]
    mean = np.mean([one["stages"][1]["objective_value"] for one in own], axis=0)
    assert both["stages"][1]["objective_value"] == pytest.approx(mean)
    for one, seed in zip(own, ("seed-3", "seed-4"), strict=True):
        matrix = ScoreMatrix.load(out / seed / "pseudo_scores.npz")
        assert one["objective_value"] == values("image_ap", matrix)[matrix.row(both["params"])]


def test_objectives_that_cannot_be(
    command: list[str], road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, [*command, "--objective", "f1"], "no objective 'f1'")
    refused(capsys, [*command, "--objective", "pixel_ap", "--rule", "margin"], "needs a bootstrap")
    items = pseudo_items(road / "pseudo", load_manifest(road / "pseudo"))
    check_masks("pixel_ap", items, road / "pseudo")
    bare = [replace(i, mask_path=None) if i.category == "flange" else i for i in items]
    with pytest.raises(UserError, match=r"pixel_ap is not available: flange has no masks"):
        check_masks("pixel_ap", bare, road / "pseudo")
    check_masks("image_ap", bare, road / "pseudo")
    assert not (tmp_path / "run").exists()
    assert run(["studies"]) == 0
    told = capsys.readouterr().out
    assert "pixel_aupro" in told and "margin" in told
