"""Cells off the path: scored after the choice, and no part of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from reports import correlate, load_run
from studies import run_study, t_then_k
from studies.search.off_path import draw_cells

GRIDS = {"t": [25, 300, 900], "k": [1, 4]}


def tuned(road: Path, out: Path, share: float | None = None, **options):  # type: ignore[no-untyped-def]
    return run_study(
        "t_then_k", model=road / "model", pseudo=road / "pseudo", out=out, audit_share=share,
        **{**GRIDS, **options},
    )  # fmt: skip


@pytest.fixture
def finished(road: Path, tmp_path: Path) -> Path:
    """A copy of the finished RUN, which still finds its model and its pseudo set."""
    for name in ("model", "pseudo"):
        (tmp_path / name).symlink_to(road / name)
    shutil.copytree(road / "run", tmp_path / "run")
    return tmp_path / "run"


def test_all_cells_off_the_path_and_the_same_choice(road: Path, finished: Path) -> None:
    before = json.loads((finished / "best.json").read_text())
    outcome = tuned(road, finished, 1.0)
    assert outcome.fresh
    audit = outcome.best.pop("audit")
    assert outcome.best == before, "the choice is what it was"
    on_path = [config for stage in before["stages"] for config in stage["configs"]]
    t = before["params"]["t"]
    cells = [{"t": a, "k": k} for a in (25, 300, 900) if a != t for k in (1, 4)]
    assert audit["configs"] == cells
    assert (audit["share"], audit["cells"], audit["seed"]) == (1.0, 4, 0)
    assert outcome.matrix.configs == on_path + cells
    old = ScoreMatrix.load(road / "run" / "pseudo_scores.npz")
    assert np.array_equal(outcome.matrix.scores[: len(on_path)], old.scores)
    assert outcome.matrix.pixel["pixel_auroc"].shape == (len(on_path) + 4, 2)
    trials = pd.read_csv(finished / "trials.csv")
    assert trials["stage"].tolist() == ["t"] * 3 + ["k"] * 2 + ["audit"] * 4
    last = trials[trials["stage"] == "audit"]
    assert last["params"].tolist() == [f"t={c['t']};k={c['k']}" for c in cells]
    assert last["pseudo_auroc"].tolist() == audit["pseudo_auroc"]
    assert not (finished / "blocks").exists()
    before_again = (finished / "best.json").read_bytes()
    assert not tuned(road, finished, 1.0).fresh
    assert not tuned(road, finished).fresh
    assert (finished / "best.json").read_bytes() == before_again


def test_a_larger_share_adds_to_a_smaller_one(road: Path, finished: Path, tmp_path: Path) -> None:
    small = tuned(road, finished, 0.5).best["audit"]
    assert len(small["configs"]) == 2
    grown = tuned(road, finished, 1.0)
    assert not tuned(road, finished, 0.25).fresh, "a smaller share is there already"
    once = tmp_path / "once" / "run"
    shutil.copytree(road / "run", once)
    for name in ("model", "pseudo"):
        (tmp_path / "once" / name).symlink_to(road / name)
    tuned(road, once, 1.0)
    for name in ("best.json", "pseudo_scores.npz"):
        assert (once / name).read_bytes() == (finished / name).read_bytes(), name
    assert all(cell in grown.best["audit"]["configs"] for cell in small["configs"])


def test_interrupted_audit_goes_on(
    road: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = LafiteDetector.score_block
    calls = []

    def dies(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(self, images, configs)

    monkeypatch.setattr("pseudoval.scoring.blocks.BLOCK_IMAGES", 4)
    monkeypatch.setattr(LafiteDetector, "score_block", dies)
    with pytest.raises(KeyboardInterrupt):
        tuned(road, finished, 1.0)
    assert "audit" not in json.loads((finished / "best.json").read_text())
    images = len(ScoreMatrix.load(finished / "pseudo_scores.npz").images)
    monkeypatch.setattr(
        LafiteDetector, "score_block", lambda *a: calls.append(len(a[1])) or honest(*a)
    )
    calls.clear()
    assert tuned(road, finished, 1.0).fresh
    assert sum(calls) == images - 4, "the finished block is not scored again"


def test_evaluate_and_report_take_the_cells_in(
    road: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["tune", "--model", str(finished.parent / "model"), "--pseudo",
               str(finished.parent / "pseudo"), "--out", str(finished), "--t", "25,300,900",
               "--k", "1,4", "--audit-joint", "1"]  # fmt: skip
    assert run(command) == 0
    assert "4 of 4 cells off the path" in capsys.readouterr().out
    before = load_run(finished)
    audit = correlate(before, replicates=100)["audit"]
    assert audit["scored"] == 4 and audit["test_loss"] is None, "not evaluated yet"
    honest = LafiteDetector.score_block
    scored = []
    monkeypatch.setattr(
        LafiteDetector, "score_block", lambda *a: scored.append(len(a[2])) or honest(*a)
    )
    assert run(["evaluate", str(finished), str(road / "data")]) == 0
    assert set(scored) == {4}, "what was scored before is not scored again"
    (finished / "test_scores.npz").rename(finished / "grown.npz")
    assert run(["evaluate", str(finished), str(road / "data")]) == 0
    assert (finished / "grown.npz").read_bytes() == (finished / "test_scores.npz").read_bytes()
    source = load_run(finished)
    assert source.test is not None and source.test.configs == source.pseudo.configs
    found = correlate(source, replicates=100)
    audit = found["audit"]
    values = source.auroc["pseudo"]["macro"]
    chosen = source.pseudo.configs.index(source.params)
    assert audit["pseudo_loss"] == pytest.approx(values.max() - values[chosen])
    assert audit["test_loss"] == pytest.approx(found["final"]["regret"])
    assert found["defaults"] == {"t": 200, "k": 5}
    assert len(found["configurations"]) == 5


def test_what_cannot_be_audited(road: Path, tmp_path: Path) -> None:
    for share in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(UserError, match="above 0, up to 1"):
            tuned(road, tmp_path / "run", share)
    assert not (tmp_path / "run").exists()


def test_the_draw_is_seeded_nested_and_begins_with_the_default() -> None:
    plan = t_then_k(LafiteDetector, {})  # type: ignore[arg-type]
    cells = [cell for cell in plan.cells() if cell["k"] and cell["t"] != 150]
    assert len(plan.cells()) == 12 + 12 * 9 and len(cells) == 99
    default = {"t": 200, "k": 5}
    assert draw_cells(cells, 0.001, 0, default) == [default]
    quarter, half = draw_cells(cells, 0.25, 0, default), draw_cells(cells, 0.5, 0, default)
    assert (len(quarter), len(half)) == (25, 50)
    assert default in quarter and all(cell in half for cell in quarter)
    assert [cell for cell in cells if cell in half] == half, "in the order of the grid"
    assert draw_cells(cells, 0.25, 1, default) != quarter
    assert draw_cells(cells, 1.0, 0, default) == cells
