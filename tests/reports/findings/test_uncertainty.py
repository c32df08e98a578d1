"""What correlation.json says about how sure its figures are, down to the smallest inputs."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import make_run

from pseudoval.data.files import read_json, write_json
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from reports import correlate, load_csv, load_run
from reports.findings.source import Source


def table(
    path: Path,
    columns: dict[str, np.ndarray],
    labels: np.ndarray,
    categories: list[str] | None = None,
) -> Path:
    """A CSV of scores, each image a group of its own."""
    fixed = {
        "image": [f"i{row}" for row in range(len(labels))],
        "category": categories or ["c"] * len(labels),
        "label": labels,
    }
    pd.DataFrame(fixed | columns).to_csv(path, index=False)
    return path


def curve(tmp_path: Path, name: str, strengths: dict[int, float], size: int, seed: int) -> Path:
    """A table over t with given strengths of the anomalies, on common noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], size)
    common = rng.normal(size=2 * size)
    columns = {
        f"t={t}": common + 0.5 * rng.normal(size=2 * size) + strength * labels
        for t, strength in strengths.items()
    }
    return table(tmp_path / name, columns, labels)


def strict(source: Source, **options: int) -> dict:
    """The content of correlation.json after a round trip through strict JSON."""
    return json.loads(json.dumps(correlate(source, **options), allow_nan=False))


def test_a_clear_curve(tmp_path: Path) -> None:
    strengths = {100: 0.2, 200: 1.0, 300: 2.0, 400: 1.4, 500: 0.6, 600: 0.3, 700: 0.1}
    source = load_csv(
        curve(tmp_path, "pseudo.csv", strengths, 150, 1),
        curve(tmp_path, "test.csv", strengths, 150, 2),
    )
    found = strict(source)
    stage = found["stages"][0]
    assert stage["selected"] == 300
    assert stage["pseudo_leading_set"] == stage["test_leading_set"] == [300]
    assert stage["pseudo_p_best"][2] > 0.99 and sum(stage["pseudo_p_best"]) == pytest.approx(1)
    assert (stage["top1_hit"], stage["top3_hit"], stage["test_rank"]) == (True, True, 1)
    assert stage["regret_interval"][0] == 0 < stage["random_regret"]
    assert stage["correlations"]["spearman"]["differs_from_zero"]
    assert stage["correlations"]["spearman"]["value"] == stage["spearman"]
    assert stage["labelled"]["splits"] == 200 and stage["labelled"]["regret"] < 0.01
    assert (stage["at_edge"], stage["flat"]) == (None, False)
    for values, intervals in (("pseudo_auroc", "pseudo_interval"), ("test_auroc", "test_interval")):
        for value, (low, high) in zip(stage[values], stage[intervals], strict=True):
            assert low < value < high
    power = stage["power"]["pseudo"]
    assert (power["leader"], power["runner_up"], power["images"]) == (300, 400, 300)
    assert power["gap"] == pytest.approx(stage["pseudo_auroc"][2] - stage["pseudo_auroc"][3])
    assert power["resolvable_gap"] == pytest.approx(2.8016 * power["standard_error"], rel=1e-4)
    assert power["images_needed"] == math.ceil(300 * (power["resolvable_gap"] / power["gap"]) ** 2)
    assert [warning["code"] for warning in found["warnings"]] == []
    configurations = found["configurations"]
    assert [c["params"] for c in configurations if c["chosen"]] == [{"t": 300}]
    assert configurations[0]["stages"] == ["t"]
    assert configurations[2]["pseudo"]["gap"] == 0
    assert found["sets"]["pseudo"] == {
        "images": 300, "normal": 150, "anomalous": 150, "groups": 300,
        "categories": {"c": {"images": 300, "normal": 150, "anomalous": 150, "groups": 300}},
    }  # fmt: skip


def test_the_same_seed_gives_the_same_figures(tmp_path: Path) -> None:
    source = load_run(make_run(tmp_path / "run"))
    first = strict(source, replicates=200, seed=4)
    assert first == strict(source, replicates=200, seed=4)
    other = strict(source, replicates=200, seed=5)
    assert first["bootstrap"]["seed"] == 4 and first["bootstrap"]["replicates"] == 200
    assert first["stages"][0]["pseudo_interval"] != other["stages"][0]["pseudo_interval"]
    assert first["stages"][0]["pseudo_auroc"] == other["stages"][0]["pseudo_auroc"]


def test_noise_is_called_noise(tmp_path: Path) -> None:
    strengths = dict.fromkeys((100, 200, 300, 400, 500), 1.0)
    source = load_csv(
        curve(tmp_path, "pseudo.csv", strengths, 60, 3),
        curve(tmp_path, "test.csv", strengths, 60, 4),
    )
    found = strict(source)
    stage = found["stages"][0]
    assert stage["pseudo_leading_set"] == [100, 200, 300, 400, 500]
    assert not stage["correlations"]["spearman"]["differs_from_zero"]
    codes = {warning["code"] for warning in found["warnings"]}
    assert {"flat", "correlation_zero"} <= codes
    assert stage["power"]["pseudo"]["images_needed"] > 120


def test_groups_of_the_pseudo_set_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    base = rng.normal(size=60)
    labels = np.repeat([0, 1], 60)
    columns = {"t=1": np.concatenate([base, base + 1]), "t=2": np.concatenate([base, base + 0.9])}
    apart = table(tmp_path / "apart.csv", columns, labels)
    read = pd.read_csv(apart)
    read.insert(3, "group", [f"g{row % 60}" for row in range(120)])
    read.to_csv(tmp_path / "paired.csv", index=False)
    widths = {}
    for name in ("apart", "paired"):
        low, high = strict(load_csv(tmp_path / f"{name}.csv"))["final"]["pseudo_interval"]
        widths[name] = high - low
    assert widths["paired"] < 0.75 * widths["apart"]


@pytest.mark.parametrize("tested", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 30])
@pytest.mark.parametrize("scores", ["tied", "constant curve", "perfect", "noise"])
def test_small_and_degenerate_inputs(
    scores: str, size: int, columns: int, tested: bool, tmp_path: Path
) -> None:
    labels = np.repeat([0, 1], size)
    noise = np.random.default_rng(7).normal(size=(2, 2 * size))
    made = {
        "tied": np.ones((2, 2 * size)),
        "constant curve": np.repeat(noise[:1], 2, axis=0),
        "perfect": noise * 0.01 + labels,
        "noise": noise,
    }[scores]
    path = table(
        tmp_path / "s.csv", {f"t={t}": row for t, row in enumerate(made[:columns])}, labels
    )
    found = strict(load_csv(path, path if tested else None), replicates=100)
    final, stage = found["final"], found["stages"][0]
    low, high = final["pseudo_interval"]
    assert 0 <= low <= final["pseudo_auroc"] <= high <= 1
    assert high - low > 0.02, "no set of this size is certain"
    assert sum(stage["pseudo_p_best"]) == pytest.approx(1)
    assert stage["correlations"]["spearman"]["value"] is None
    assert (stage["power"]["pseudo"] is None) == (columns == 1)
    if scores in ("tied", "constant curve") and columns == 2:
        assert stage["pseudo_p_best"] == [0.5, 0.5]
        assert len(stage["pseudo_leading_set"]) == 2
        assert stage["power"]["pseudo"]["images_needed"] is None
    if not tested:
        nothing = (final["test_interval"], final["regret_interval"], final["labelled"])
        assert nothing == (None, None, None)
        assert stage["test_interval"] is None and final["power"]["test"] is None
        assert all(c["test"] is None for c in found["configurations"])
    elif size < 20:
        assert final["labelled"]["regret"] is None
        assert "halves need 20" in final["labelled"]["reason"]
    else:
        assert final["labelled"]["reason"] is None
        assert final["regret_interval"][0] == 0


def test_the_fixed_default_is_judged_where_it_was_scored(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert strict(load_run(run))["final"]["default"] is None
    write_json(
        run / "run.json", {**read_json(run / "run.json", ""), "defaults": {"t": 300, "k": 9}}
    )
    found = strict(load_run(run))
    first, second = found["stages"]
    best = max(first["test_auroc"])
    assert (first["default"], second["default"]) == (300, 9)
    assert first["default_regret"] == pytest.approx(best - first["test_auroc"][2])
    assert first["default_regret_interval"][1] >= first["default_regret"]
    assert found["final"]["default"]["params"] == {"t": 300, "k": 9}
    assert found["final"]["default"]["regret"] is None
    assert "t = 300, K = 9 was not scored" in found["final"]["default"]["reason"]
    write_json(
        run / "run.json", {**read_json(run / "run.json", ""), "defaults": {"t": 200, "k": 9}}
    )
    default = strict(load_run(run))["final"]["default"]
    assert default["reason"] is None
    values = second["test_auroc"]
    assert default["test_auroc"] == pytest.approx(values[1])
    assert default["regret"] >= 0
    assert [c["params"] for c in strict(load_run(run))["configurations"] if c["default"]] == [
        {"t": 200, "k": 9}
    ]


def test_warnings_of_a_saturated_set_at_the_edge(tmp_path: Path) -> None:
    strengths = {100: 1.0, 200: 2.0, 300: 9.0}
    found = strict(load_csv(curve(tmp_path, "p.csv", strengths, 40, 8)))
    due = {warning["code"]: warning for warning in found["warnings"]}
    assert set(due) == {"saturated", "edge_of_grid", "few_images"}
    assert due["edge_of_grid"]["edge"] == "high"
    assert "t = 300 is the highest" in due["edge_of_grid"]["text"]
    assert due["few_images"]["categories"] == {"c": 40}


def test_the_edge_of_what_is_possible_is_no_edge(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    source = load_run(run)
    k = source.stages[1]
    assert (k.values, k.selected) == ([2, 9], 0), "two values have no edge"
    found = strict(source)
    assert [stage["at_edge"] for stage in found["stages"]] == [None, None]
    strengths = {100: 5.0, 200: 2.0, 300: 1.0}
    source = load_csv(curve(tmp_path, "p.csv", strengths, 40, 8))
    assert strict(source)["stages"][0]["at_edge"] == "low"
    source.run["ranges"] = {"t": [100, 1000]}
    codes = {warning["code"] for warning in strict(source)["warnings"]}
    assert "edge_of_grid" not in codes


def test_equal_means_tie_to_the_bit(tmp_path: Path) -> None:
    # The AUROCs of the one configuration are those of the other in another order.
    labels = np.tile(np.repeat([0, 1], 10), 3)
    categories = [name for name in "abc" for _ in range(20)]

    def scores(*above: int) -> np.ndarray:
        parts = [[0.0] * 10 + [1.0] * n + [-1.0] * (10 - n) for n in above]
        return np.array([value for part in parts for value in part])

    columns = {"t=1": scores(3, 2, 1), "t=2": scores(1, 2, 3)}  # 0.1 + 0.2 + 0.3 is rounded
    found = strict(load_csv(table(tmp_path / "p.csv", columns, labels, categories)))
    assert found["final"]["params"] == found["final"]["leader"] == {"t": 1}
    assert found["final"]["power"]["pseudo"]["gap"] == 0


def test_no_editing_lies_beyond_the_lowest_k(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    labels = np.repeat([0, 1], 40)
    noise = rng.normal(size=80)
    strengths = {"t=1;k=0": 1.0, "t=1;k=1": 2.0, "t=1;k=2": 1.5, "t=1;k=3": 1.4}
    columns = {name: noise + strength * labels for name, strength in strengths.items()}
    source = load_csv(table(tmp_path / "p.csv", columns, labels))
    assert (source.stages[1].values, source.stages[1].selected) == ([1, 2, 3], 0)
    found = strict(source)
    assert found["stages"][1]["at_edge"] == "low"
    assert "edge_of_grid" not in {warning["code"] for warning in found["warnings"]}


def test_leaving_out_categories_and_generators(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    names = [
        *(f"{c}/test/good/{i}.png" for c in "ab" for i in range(30)),
        *(f"{c}/test/{g}/{i}.png" for c in "ab" for g in ("cut", "noise") for i in range(30)),
    ]
    labels = np.array([0] * 60 + [1] * 120)
    noise = rng.normal(size=180)
    cut = np.array(["/cut/" in name for name in names])
    inside = np.array([name.startswith("a") for name in names])
    # t = 2 wins thanks to the anomalies of "cut" in category a.
    columns = {
        "t=1": noise + 0.7 * labels,
        "t=2": noise + 0.5 * labels + 5.0 * (cut & inside),
        "t=3": noise,
    }
    categories = [name[0] for name in names]
    path = table(tmp_path / "p.csv", columns, labels, categories)
    read = pd.read_csv(path)
    read["image"] = names
    read.to_csv(path, index=False)
    found = strict(load_csv(path))
    assert found["final"]["params"] == {"t": 2}
    told = {(e["left_out"], e["name"]): (e["selected"]["t"], e["same"]) for e in found["stability"]}
    assert told == {
        ("category", "a"): (1, False),
        ("category", "b"): (2, True),
        ("generator", "cut"): (1, False),
        ("generator", "noise"): (2, True),
    }
    unstable = [warning for warning in found["warnings"] if warning["code"] == "unstable"]
    assert unstable[0]["left_out"] == ["a", "cut"]


def test_cells_off_the_path_are_an_audit_and_no_choice(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    labels = np.repeat([0, 1], 80)
    noise = rng.normal(size=160)
    strengths = {"t=1;k=0": 0.5, "t=2;k=0": 1.0, "t=2;k=3": 1.5, "t=2;k=5": 1.3, "t=1;k=3": 2.5}
    columns = {
        name: noise + 0.2 * rng.normal(size=160) + strength * labels
        for name, strength in strengths.items()
    }
    path = table(tmp_path / "p.csv", columns, labels)
    source = load_csv(path, path)
    found = strict(source)
    audit = found["audit"]
    assert found["final"]["params"] == {"t": 2, "k": 3}
    assert [c["params"] for c in found["configurations"]] == [
        {"t": 1, "k": 0}, {"t": 2, "k": 0}, {"t": 2, "k": 3}, {"t": 2, "k": 5},
    ]  # fmt: skip
    assert found["final"]["leader"] == {"t": 2, "k": 3}, "the audit leads nothing"
    assert (audit["scored"], audit["joint_choice"]) == (1, {"t": 1, "k": 3})
    values = source.auroc["pseudo"]["macro"]
    assert audit["pseudo_loss"] == pytest.approx(values[4] - values[2])
    assert audit["pseudo_loss_interval"][0] > 0
    assert audit["test_loss"] == found["final"]["regret"] == pytest.approx(values[4] - values[2])
    assert audit["joint_choice_gain"] == pytest.approx(audit["test_loss"])
    low, high = audit["joint_choice_gain_interval"]
    assert 0 < low < audit["joint_choice_gain"] < high
    assert audit["configurations"][0]["test"]["auroc"] == pytest.approx(values[4])
    untested = strict(load_csv(path))["audit"]
    assert untested["pseudo_loss"] == audit["pseudo_loss"]
    assert untested["test_loss"] is None and untested["joint_choice_gain"] is None


def test_a_test_set_without_the_audited_cells_leaves_their_loss_open(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    pseudo = ScoreMatrix.load(run / "pseudo_scores.npz")
    more = pseudo.select([4])
    more.configs[0] = {"t": 100, "k": 9}
    ScoreMatrix.joined([pseudo, more]).save(run / "pseudo_scores.npz")
    best = read_json(run / "best.json", "")
    pseudo = ScoreMatrix.load(run / "pseudo_scores.npz")
    value = macro_auroc(pseudo.scores, pseudo.categories, pseudo.labels)[5]
    told = {"share": 0.5, "seed": 3, "cells": 4, "configs": [{"t": 100, "k": 9}]}
    write_json(run / "best.json", {**best, "audit": {**told, "pseudo_auroc": [value]}})
    audit = strict(load_run(run))["audit"]
    assert (audit["share"], audit["seed"], audit["cells"], audit["scored"]) == (0.5, 3, 4, 1)
    assert audit["pseudo_loss"] is not None
    assert audit["test_loss"] is None and audit["test_loss_interval"] is None
    assert audit["configurations"][0]["test"] is None
