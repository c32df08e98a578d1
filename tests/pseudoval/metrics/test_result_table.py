"""The figures of an evaluation: against hand computation, and what the commands write."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, copied, refused
from sklearn.metrics import average_precision_score, roc_auc_score

from pseudoval.cli.commands import run
from pseudoval.metrics.result_table import result_table, table_lines, write_result_table
from pseudoval.metrics.score_matrix import PIXEL_METRICS, ScoreMatrix

CHOSEN, PLAIN = {"t": 50, "k": 3}, {"t": 50, "k": 0}


def matrix(
    seed: int, configs: list[dict] | None = None, detector: str = "lafite"
) -> ScoreMatrix:  # fmt: skip
    """Random scores of 10 images in each of two categories; the second has no masks."""
    rng = np.random.default_rng(seed)
    configs = configs or [{"t": 25, "k": 0}, PLAIN, CHOSEN]
    pixel = {name: rng.uniform(0.5, 1, (len(configs), 2)) for name in PIXEL_METRICS}
    for values in pixel.values():
        values[:, 1] = np.nan
    return ScoreMatrix(
        scores=rng.normal(size=(len(configs), 20)).round(1),
        configs=configs,
        images=[str(i) for i in range(20)],
        categories=["a"] * 10 + ["b"] * 10,
        labels=np.array([0, 1] * 10),
        groups=[str(i) for i in range(20)],
        pixel=pixel,
        pixel_reason=["", "no masks"],
        header={"detector": detector, "model_sha256": f"m{seed}", "data_sha256": "d"},
    )


def by_hand(m: ScoreMatrix, config: dict, statistic) -> list[float]:  # type: ignore[no-untyped-def]
    row = m.scores[m.configs.index(config)]
    return [statistic(m.labels[:10], row[:10]), statistic(m.labels[10:], row[10:])]


def test_against_a_computation_by_hand() -> None:
    seeds = {"seed-0": matrix(0), "seed-1": matrix(1), "seed-2": matrix(2)}
    content = result_table(seeds, CHOSEN)
    edited, plain = content["variants"]
    assert (edited["variant"], plain["variant"]) == ("with editing", "without editing")
    assert (edited["config"], plain["config"]) == (CHOSEN, PLAIN)
    for row, config in ((edited, CHOSEN), (plain, PLAIN)):
        for metric, statistic in (
            ("image_auroc", roc_auc_score),
            ("image_ap", average_precision_score),
        ):
            values = np.array([by_hand(m, config, statistic) for m in seeds.values()])  # [S, C]
            for column, category in enumerate("ab"):
                cell = row["per_category"][category][metric]
                assert cell["value"] == pytest.approx(values[:, column].mean())
                assert cell["seeds_std"] == pytest.approx(values[:, column].std(ddof=1))
            assert row["mean"][metric]["value"] == pytest.approx(values.mean())
            assert row["mean"][metric]["seeds_std"] == pytest.approx(values.mean(1).std(ddof=1))
            spread = row["inter_category_std"][metric]["value"]
            assert spread == pytest.approx(values.std(1).mean()), "divided by n, within a seed"
    pixel = [m.pixel["pixel_aupro"][2, 0] for m in seeds.values()]
    assert edited["mean"]["pixel_aupro"]["value"] == pytest.approx(np.mean(pixel))
    assert edited["inter_category_std"]["pixel_aupro"]["value"] == 0, "one category has masks"
    assert edited["per_category"]["b"]["pixel_aupro"] == {"value": None, "seeds_std": None}
    assert content["pixel_reason"] == {"b": "no masks"}


def test_one_seed_has_no_spread() -> None:
    content = result_table({"": matrix(0)}, CHOSEN)
    assert content["seeds"] == []
    cell = content["variants"][0]["mean"]["image_auroc"]
    assert cell["seeds_std"] is None
    assert set(cell) == {"value", "seeds_std"}
    assert not any("±" in line for line in table_lines(content))
    two = result_table({"x": matrix(0), "y": matrix(1)}, CHOSEN)
    assert any("±" in line for line in table_lines(two))


def test_what_was_not_scored_is_left_out() -> None:
    only = result_table({"": matrix(0, [CHOSEN])}, CHOSEN)
    assert [row["variant"] for row in only["variants"]] == ["with editing"]
    knn = result_table({"": matrix(0, [{"k": 0}, {"k": 3}], "knn")}, {"k": 3})
    assert [(row["variant"], row["config"]) for row in knn["variants"]] == [("knn", {"k": 3})]


def test_the_csv_says_the_same_one_value_a_line(tmp_path: Path) -> None:
    content = result_table({"seed-0": matrix(0), "seed-1": matrix(1)}, CHOSEN)
    write_result_table(tmp_path, content)
    assert json.loads((tmp_path / "figures.json").read_text()) == content
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 5
    for row in rows:
        line = content["variants"][["with editing", "without editing"].index(row["variant"])]
        cells = line["per_category"].get(row["category"]) or line[row["category"]]
        for name in ("value", "seeds_std"):
            told = cells[row["metric"]][name]
            assert row[name] == ("" if told is None else repr(told))


def test_evaluate_writes_them_beside_the_report(road: Path) -> None:
    content = json.loads((road / "run" / "figures.json").read_text())
    report = json.loads((road / "run" / "report" / "correlation.json").read_text())
    edited, plain = content["variants"]
    assert edited["mean"]["image_auroc"]["value"] == pytest.approx(report["final"]["test_auroc"])
    assert edited["mean"]["pixel_auroc"]["value"] == pytest.approx(report["final"]["pixel_auroc"])
    stage = report["stages"][0]
    at = stage["values"].index(stage["selected"])
    assert plain["mean"]["image_auroc"]["value"] == pytest.approx(stage["test_auroc"][at])
    assert set(content["models"]) == {""}


def test_every_seed_is_evaluated(several: Path) -> None:
    content = json.loads((several / "run" / "figures.json").read_text())
    assert content["seeds"] == ["seed-3", "seed-4"]
    for seed in content["seeds"]:
        scores = ScoreMatrix.load(several / "run" / seed / "test_scores.npz")
        own, _ = result_table({"": scores}, content["params"])["variants"]
        own_ap = own["mean"]["image_ap"]["value"]
        assert content["variants"][0]["mean"]["image_ap"]["by_seed"][seed] == own_ap
        assert any((several / "run" / seed / "examples").glob("test-*.npz"))
    assert not (several / "run" / "test_scores.npz").exists()


def test_refit_is_evaluated_beside_the_run(several: Path, road: Path, tmp_path: Path) -> None:
    folder = several / "run" / "refit"
    content = json.loads((folder / "figures.json").read_text())
    best = json.loads((several / "run" / "best.json").read_text())
    assert [row["config"] for row in content["variants"]] == [
        best["params"], {**best["params"], "k": 0},
    ]  # fmt: skip
    for seed in ("seed-3", "seed-4"):
        matrix = ScoreMatrix.load(folder / seed / "test_scores.npz")
        tuned = ScoreMatrix.load(several / "run" / seed / "test_scores.npz")
        assert matrix.header["model_sha256"] != tuned.header["model_sha256"]
        assert matrix.images == tuned.images
        assert not np.array_equal(matrix.scores[0], tuned.scores[tuned.row(best["params"])])
    (tmp_path / "model").symlink_to(several / "model")
    again = shutil.copytree(several / "run", tmp_path / "run")
    before = contents(again)
    data, refit = str(road / "data"), str(several / "refit")
    assert run(["evaluate", str(again), data, "--model", refit]) == 0
    assert run(["evaluate", str(again), data]) == 0
    assert contents(again) == before


@pytest.fixture
def copies(road: Path, several: Path, tmp_path: Path) -> Path:
    """``run`` and ``model`` of the road, and ``refit``: a refit of that run."""
    shutil.copytree(road / "run", tmp_path / "run")
    copied(road / "model", tmp_path / "model")
    train = ["train", str(road / "data"), "--refit", str(tmp_path / "run")]
    assert run([*train, "--out", str(tmp_path / "refit")]) == 0
    return tmp_path


def test_models_of_another_choice_are_refused(
    copies: Path, road: Path, several: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", str(copies / "run"), str(road / "data"), "--model"]
    before = contents(copies / "run")
    refused(capsys, [*evaluate, str(several / "refit")], "is no refit of the choice")
    path = copies / "refit" / "model.json"
    for name, value in (("params", {"t": 1, "k": 1}), ("study", "k"), ("run_model_sha256", "0")):
        header = json.loads(path.read_text())
        kept = path.read_text()
        header["info"]["refit"][name] = value
        path.write_text(json.dumps(header))
        refused(capsys, [*evaluate, str(copies / "refit")], f"its {name} is {value}")
        path.write_text(kept)
    fabric = several / "model" / "seed-3" / "fabric"
    refused(capsys, [*evaluate, str(fabric)], "is ['fabric'], not")
    knn = ["train", str(road / "data"), "--pseudo", str(road / "pseudo"), "--detector", "knn",
           "--preset", "demo", "--set", "features.grid=8"]  # fmt: skip
    assert run([*knn, "--out", str(copies / "knn")]) == 0
    refused(capsys, [*evaluate, str(copies / "knn")], "its detector is knn")
    refused(capsys, [*evaluate, str(copies / "none")], "no model folder")
    assert contents(copies / "run") == before


def test_another_refit_replaces_the_figures(copies: Path, road: Path) -> None:
    evaluate = ["evaluate", str(copies / "run"), str(road / "data"), "--model"]
    test_scores = (copies / "run" / "test_scores.npz").read_bytes()
    assert run([*evaluate, str(copies / "refit")]) == 0
    single = contents(copies / "run" / "refit")
    assert "test_scores.npz" in single
    train = ["train", str(road / "data"), "--refit", str(copies / "run"), "--seeds", "2"]
    assert run([*train, "--out", str(copies / "two")]) == 0
    assert run([*evaluate, str(copies / "two")]) == 0
    double = contents(copies / "run" / "refit")
    assert {"seed-0/test_scores.npz", "seed-1/test_scores.npz"} < set(double)
    assert "test_scores.npz" not in double, "nothing is left of the other model"
    assert double["seed-0/test_scores.npz"] == single["test_scores.npz"]
    assert (copies / "run" / "test_scores.npz").read_bytes() == test_scores
