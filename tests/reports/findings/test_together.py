"""Several RUNs side by side: seeds of one search, and other searches."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import contents
from report_runs import CONFIGS, make_run

from pseudoval.data.files import claim_folder, read_json, write_json
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from reports import correlate, load_run, write_report
from reports.findings.source import load_csv
from reports.findings.together import aggregate, correlate_together, spread
from reports.terminal import summary_lines


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A RUN of three seeds that chose t = 200, K = 2 on their mean."""
    run = tmp_path / "run"
    claim_folder(run, "run")
    for number in range(3):
        member = make_run(run / f"seed-{number}", seed=1 + number)
        best = read_json(member / "best.json", "")
        values = macro_auroc(*matrix(member))
        for stage, chosen in zip(best["stages"], (200, 2), strict=True):
            stage["selected"] = chosen
        best |= {"params": CONFIGS[3], "pseudo_auroc": values[3]}
        header = read_json(member / "run.json", "")
        write_json(member / "best.json", best)
        write_json(member / "run.json", {**header, "members_are": "seeds"})
    names = ["seed-0", "seed-1", "seed-2"]
    write_json(run / "run.json", {**header, "members": names, "members_are": "seeds"})
    write_json(run / "best.json", best)
    return run


def matrix(run: Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    found = ScoreMatrix.load(run / "pseudo_scores.npz")
    return found.scores, found.categories, found.labels


@pytest.mark.usefixtures("blank_pictures")
def test_seeds_are_read_as_several_runs(seeds: Path) -> None:
    out = write_report([seeds])
    assert out == seeds / "report"
    found = json.loads((out / "correlation.json").read_text())
    together = found["together"]
    assert together["kind"] == "seeds"
    assert [row["run"] for row in together["rows"]] == ["seed-0", "seed-1", "seed-2"]
    assert [run["run"] for run in found["runs"]] == ["seed-0", "seed-1", "seed-2"]
    singles = [correlate(load_run(seeds / f"seed-{n}")) for n in range(3)]
    values = [single["final"]["test_auroc"] for single in singles]
    assert [row["test_auroc"] for row in together["rows"]] == values
    assert together["mean"]["test_auroc"] == pytest.approx(np.mean(values))
    assert together["std"]["test_auroc"] == pytest.approx(np.std(values, ddof=1))
    of_tire = [single["per_category"]["tire"]["final"]["test_auroc"] for single in singles]
    assert together["per_category"]["tire"]["mean"]["test_auroc"] == pytest.approx(np.mean(of_tire))
    assert found["stages"] == json.loads(json.dumps(singles[0]["stages"]))
    curves = pd.read_csv(out / "curves.csv")
    assert sorted(set(curves["run"])) == ["seed-0", "seed-1", "seed-2"]
    lines = summary_lines(found)
    assert len(lines) == 5 and lines[-1].startswith("mean")


def test_what_each_seed_would_have_chosen(seeds: Path) -> None:
    sources = [load_run(seeds / f"seed-{n}") for n in range(3)]
    found = correlate_together(sources, kind="seeds", replicates=50)
    together = found["together"]
    curves = np.array([source.auroc["pseudo"]["macro"] for source in sources])
    for row, curve in zip(together["rows"], curves, strict=True):
        assert row["selected"] == {"t": 200, "k": 2}
        best_t = [100, 200, 300][int(curve[:3].argmax())]
        best_k = [2, 9][int(curve[3:].argmax())]
        assert row["alone"] == {"t": best_t, "k": best_k}
        assert row["same"] == (row["alone"] == row["selected"])
    assert sum(len(choice["runs"]) for choice in together["choices"]) == 3
    told = [entry for entry in found["stability"] if entry["left_out"] == "seed"]
    assert [entry["name"] for entry in told] == ["seed-0", "seed-1", "seed-2"]
    for number, entry in enumerate(told):
        rest = np.delete(curves, number, axis=0).mean(axis=0)
        assert entry["selected"]["t"] == [100, 200, 300][int(rest[:3].argmax())]
        assert entry["selected"]["k"] == [2, 9][int(rest[3:].argmax())]


def test_spread_divides_by_n_less_one_and_needs_every_row() -> None:
    mean, std = spread([{"regret": 1.0, "image_ap": None}, {"regret": 2.0, "image_ap": 3.0}])
    assert (mean["regret"], mean["image_ap"]) == (1.5, None)
    assert (std["regret"], std["image_ap"]) == (pytest.approx(math.sqrt(0.5)), None)
    assert spread([{"regret": 1.0}])[1]["regret"] is None


def csv_run(path: Path, aurocs: dict[str, float], test: dict[str, float]) -> object:
    """A source whose configurations have the given pseudo and test AUROCs (of 10 + 10 images)."""
    sources = []
    for name, values in (("p", aurocs), ("t", test)):
        labels = np.repeat([0, 1], 10)
        columns = {}
        for config, auroc in values.items():
            above = round(10 * auroc)
            columns[config] = np.array([0.0] * 10 + [1.0] * above + [-1.0] * (10 - above))
        fixed = {"image": [str(i) for i in range(20)], "category": ["c"] * 20, "label": labels}
        file = path.with_suffix(f".{name}.csv")
        pd.DataFrame({**fixed, **columns}).to_csv(file, index=False)
        sources.append(file)
    return load_csv(*sources)


def test_borda_stands_beside_the_single_choices(tmp_path: Path) -> None:
    test = {"t=1": 0.9, "t=2": 0.8, "t=3": 0.5}
    sources = [
        csv_run(tmp_path / "one", {"t=1": 0.9, "t=2": 0.8, "t=3": 0.7}, test),
        csv_run(tmp_path / "two", {"t=1": 0.9, "t=2": 0.8, "t=3": 0.7}, test),
        csv_run(tmp_path / "three", {"t=1": 0.5, "t=2": 0.9, "t=3": 0.8}, test),
    ]
    found = aggregate(sources)  # type: ignore[arg-type]
    assert found["rankings"] == [[1, 2, 3], [1, 2, 3], [3, 1, 2]]
    assert found["borda"] == pytest.approx([5 / 3, 5 / 3, 8 / 3])
    told = {choice["by"]: choice for choice in found["choices"]}
    assert list(told) == ["borda", "one.p", "two.p", "three.p"]
    assert told["borda"]["params"] == {"t": 1}, "the tie goes to the smallest t"
    assert told["three.p"]["params"] == {"t": 2}
    assert told["three.p"]["test_regret"] == pytest.approx([0.1, 0.1, 0.1])
    assert told["borda"]["mean_test_regret"] == 0


def test_only_what_every_run_searched_is_ranked(tmp_path: Path) -> None:
    test = {"t=1": 0.9, "t=2": 0.8, "t=3": 0.5}
    one = csv_run(tmp_path / "one", test, test)
    pseudo, real = {"t=2": 0.9, "t=3": 0.9, "t=4": 1.0}, {"t=2": 0.5, "t=3": 0.7, "t=4": 0.0}
    other = csv_run(tmp_path / "two", pseudo, real)
    found = aggregate([one, other])  # type: ignore[list-item]
    assert found["configs"] == [{"t": 2}, {"t": 3}]
    assert found["rankings"] == [[1, 2], [1.5, 1.5]]
    assert found["choices"][-1]["test_regret"] == pytest.approx([0, 0.2])
    third = csv_run(tmp_path / "three", {"t=9": 1.0, "t=3": 0.5}, {"t=9": 1.0, "t=3": 0.5})
    assert "fewer than two" in aggregate([one, other, third])["reason"]  # type: ignore[list-item]


@pytest.mark.usefixtures("blank_pictures")
def test_runs_of_one_name_are_told_apart_and_reported_again(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / where / "run", seed=seed) for where, seed in (("a", 1), ("b", 2))]
    found = json.loads((write_report(runs, tmp_path / "out") / "correlation.json").read_text())
    assert [row["run"] for row in found["together"]["rows"]] == ["a/run", "b/run"]
    assert found["together"]["kind"] == "runs"
    assert found["together"]["aggregation"]["choices"][0]["by"] == "borda"
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "tables" / "old.md").write_text("old")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    write_report(runs, tmp_path / "out")
    assert contents(tmp_path / "out") == {**before, "notes.txt": b"mine"}


def test_runs_that_do_not_fit_together(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    other = make_run(tmp_path / "other", ("cable", "pill"))
    with pytest.raises(UserError, match=r"other has the categories cable, pill, and .*one has"):
        write_report([one, other], tmp_path / "out")
    with pytest.raises(UserError, match="given twice"):
        write_report([one, one], tmp_path / "out")
    with pytest.raises(UserError, match="no run folder"):
        write_report([one, tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_run_on_the_terminal(tmp_path: Path) -> None:
    found = correlate(load_run(make_run(tmp_path / "run")), replicates=50)
    lines = summary_lines(found)
    assert " ".join(lines[0].split()) == "category pseudo AUROC test AUROC cost random costs"
    assert [line.split()[0] for line in lines[1:]] == ["cable", "tire", "mean"]
    final = found["final"]
    keys = ("pseudo_auroc", "test_auroc", "regret", "random_regret")
    assert lines[-1].split()[1:] == [f"{final[key]:.3f}" for key in keys]
    run = make_run(tmp_path / "untested", ("cable",), test=False)
    untested = correlate(load_run(run), replicates=50)
    assert [line.split() for line in summary_lines(untested)] == [
        ["category", "pseudo", "AUROC"],
        ["cable", f"{untested['final']['pseudo_auroc']:.3f}"],
    ]
