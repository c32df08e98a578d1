"""Statistics of the report: a file and a row make one of one's own."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reports
from reports.findings.rank import rank
from reports.findings.statistic import ScoredStage
from reports.findings.top_hits import top1_hit, top3_hit

MINE = '''
"""How high the pseudo curve rises above its mean."""

from reports.findings.statistic import ScoredStage, Statistic


def rise(stage: ScoredStage) -> float:
    return float(stage.pseudo.max() - stage.pseudo.mean())


pseudo_rise = Statistic(
    key="pseudo_rise", heading="rise <of> the pseudo curve", meaning="0 is flat.", compute=rise
)
'''


def stage(test: list[float] | None, selected: int = 0) -> ScoredStage:
    curve = np.array([math.nan] * 3 if test is None else test)
    return ScoredStage(
        configs=[{"t": t} for t in range(len(curve))],
        pseudo=curve,
        test=None if test is None else curve,
        selected=selected,
    )


def test_the_rank_counts_what_is_strictly_better() -> None:
    curve = [0.5, 0.9, 0.5 + 1e-15, math.nan, 0.7]
    assert [rank(stage(curve, selected)) for selected in range(5)] == [3, 1, 3, None, 2]
    assert rank(stage(None)) is None
    assert [top1_hit.compute(stage(curve, n)) for n in (0, 1, 3)] == [False, True, None]
    assert [top3_hit.compute(stage([0.1, *curve], n)) for n in (0, 1)] == [False, True]


def test_a_file_and_a_row_make_a_statistic(tmp_path: Path) -> None:
    copy = tmp_path / "reports"
    shutil.copytree(Path(reports.__file__).parent, copy)
    (copy / "findings" / "my_statistic.py").write_text(MINE)
    row = "from reports.findings.my_statistic import pseudo_rise; STATISTICS += (pseudo_rise,)\n"
    with (copy / "findings" / "__init__.py").open("a") as file:
        file.write(row)
    labels = np.repeat([0, 1], 20)
    noise = np.random.default_rng(0).normal(size=40)
    scores = {f"t={t}": noise + strength * labels for t, strength in ((1, 1.0), (2, 3.0), (3, 0.0))}
    table = {"image": [str(i) for i in range(40)], "category": "c", "label": labels, **scores}
    pd.DataFrame(table).to_csv(tmp_path / "p.csv", index=False)
    others = os.pathsep.join([str(tmp_path), str(Path(reports.__file__).parents[1])])
    subprocess.run(
        [sys.executable, "-c", "from pseudoval.cli import main; main()", "report", "--scores",
         tmp_path / "p.csv", "--out", tmp_path / "out"],
        check=True, capture_output=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": others},
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "correlation.json").read_text())
    for part in (found, found["per_category"]["c"]):
        curve = np.array(part["stages"][0]["pseudo_auroc"])
        assert part["stages"][0]["pseudo_rise"] == pytest.approx(curve.max() - curve.mean())
        assert part["final"]["pseudo_rise"] == part["stages"][0]["pseudo_rise"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "rise &lt;of&gt; the pseudo curve" in page and "0 is flat." in page
    assert f"<td>{found['stages'][0]['pseudo_rise']:.3g}</td>" in page
