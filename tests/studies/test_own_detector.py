"""The documented example of a detector of one's own, with a parameter that needs a new fit."""

import json
import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import refused

from pseudoval.cli.commands import run
from pseudoval.errors import UserError
from pseudoval.scoring import evaluate_run
from studies import run_study

SCRIPT = Path(__file__).parents[2] / "docs" / "own_detector.py"


def test_the_example_of_the_documentation(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = runpy.run_path(str(SCRIPT))
    fits: list[int] = []
    honest = own["Thumbnails"].fitted.__wrapped__

    def counted(self, side: int):  # type: ignore[no-untyped-def]
        fits.append(side)
        return honest(self, side)

    own["Thumbnails"].fitted = cache(counted)
    out, detector = tmp_path / "run", own["fit"](road / "data", road / "pseudo")
    found = own["tune"](detector, road / "pseudo", out)
    first, last = found.best["stages"]
    assert set(first["values"]) >= {4, 8, 16, 32}
    assert all(value is not None for value in first["pseudo_auroc"])
    assert len(set(first["pseudo_auroc"])) > 1, "the sides differ"
    assert last["configs"][0]["side"] == first["selected"]
    assert sorted(fits) == sorted([*first["values"]] * 2), "once a side and category"
    assert np.isfinite(found.matrix.pixel["pixel_auroc"]).all()
    again = own["tune"](detector, road / "pseudo", out)
    assert not again.fresh and again.best == found.best
    refused(capsys, ["evaluate", str(out), str(road / "data")], "evaluate_run")
    table = evaluate_run(out, road / "data", detector=detector)
    assert json.loads((out / "figures.json").read_text()) == table
    assert evaluate_run(out, road / "data", detector=detector) == table
    assert run(["report", str(out)]) == 0
    final = json.loads((out / "report" / "correlation.json").read_text())["final"]
    assert final["regret"] >= 0
    cell = table["variants"][0]["mean"]["image_auroc"]
    assert cell["value"] == pytest.approx(final["test_auroc"])
    other = own["Thumbnails"](
        {"normals": np.zeros((1, 64, 64, 3))}, {"categories": ["fabric"], "split_sha256": "0" * 64}
    )
    with pytest.raises(UserError, match="model_sha256"):
        evaluate_run(out, road / "data", detector=other)


def test_repeats_need_a_folder(road: Path, tmp_path: Path) -> None:
    own = runpy.run_path(str(SCRIPT))
    detector = own["Thumbnails"](
        {"normals": np.zeros((1, 64, 64, 3))}, {"categories": ["fabric"], "split_sha256": "0" * 64}
    )
    with pytest.raises(UserError, match="need a MODEL folder"):
        run_study(own["side_then_percent"], model=detector, pseudo=road / "pseudo",
                  out=tmp_path / "run", repeats=2)  # fmt: skip
    with pytest.raises(UserError, match="need a MODEL folder"):
        run_study(own["side_then_percent"], model=detector, pseudo=road / "pseudo",
                  out=tmp_path / "run", settings={"score.pool": "4"})  # fmt: skip
    with pytest.raises(UserError, match="thumbnails was trained on another split"):
        run_study(own["side_then_percent"], model=detector, pseudo=road / "pseudo",
                  out=tmp_path / "run")  # fmt: skip
