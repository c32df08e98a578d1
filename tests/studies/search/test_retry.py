import math
from pathlib import Path

import numpy as np
import pytest
from helpers import planned_scores

from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies import run_study


def test_points_that_failed_are_run_again_when_asked(  # type: ignore[no-untyped-def]
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    broken = {25, 300}

    def plan(config: dict, label: int, drawn: np.ndarray) -> float:
        if config["t"] in broken and config["k"] == 0:
            return math.nan
        return float(label * (1 if config["t"] == 300 else 0.1) + drawn[config["t"] % 7])

    def study(**more):  # type: ignore[no-untyped-def]
        return run_study(
            "t_then_k", model=road / "model", pseudo=road / "pseudo", out=out,
            t=[25, 300, 900], k=[1, 4], **more,
        )  # fmt: skip

    planned_scores(monkeypatch, road / "pseudo", plan)
    first = study()
    assert first.best["params"]["t"] == 900
    assert first.trials["state"].tolist() == ["FAIL", "FAIL", *["COMPLETE"] * 3]
    assert not study().fresh
    again = study(retry_failed=True)
    assert again.trials["state"].tolist() == first.trials["state"].tolist(), "they fail again"
    assert again.best["retries"] == 1

    broken.clear()
    whole = run_study(
        "t_then_k", model=road / "model", pseudo=road / "pseudo", out=tmp_path / "whole",
        t=[25, 300, 900], k=[1, 4],
    )  # fmt: skip
    calls = []
    honest = LafiteDetector.score_block
    monkeypatch.setattr(LafiteDetector, "score_block", lambda *a: calls.append(a[2]) or honest(*a))
    mended = study(retry_failed=True)
    assert calls[0] == [{"t": 25, "k": 0}, {"t": 300, "k": 0}], "only what failed"
    assert {**mended.best, "retries": 0} == {**whole.best, "retries": 0}
    assert (mended.trials["state"] == "COMPLETE").all()
    matrix = ScoreMatrix.load(out / "pseudo_scores.npz")
    assert matrix.configs == whole.matrix.configs
    assert np.array_equal(matrix.scores, whole.matrix.scores)
    assert not study(retry_failed=True).fresh, "nothing failed any more"
