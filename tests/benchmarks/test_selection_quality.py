"""Selection quality: figures by hand on known curves, and the whole benchmark on tiny images."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import road_commands, texture, with_options

import selection_quality
from anomalib_perlin import check
from pseudoval.data.dataset import test_items as real_items
from pseudoval.data.images import write_png
from pseudoval.generators import DEFAULT_GENERATOR
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.open import open_detector
from pseudoval.scoring.matrices import score_images
from pseudoval.statistics.rules import RULES
from selection_figures import aggregate, case, resolution, thinned, together
from selection_sets import ANOMALIB, NotMeasured, Source, anomalies, drawn, held_out
from selection_tables import as_markdown, choices, images, table
from staged_knn import staged_knn


def matrix(rows: list[list[float]], labels: list[int], param: str = "k") -> ScoreMatrix:
    """Scores of configurations ``param`` = 1, 2, ... on images that are groups of their own."""
    count = len(labels)
    return ScoreMatrix(
        scores=np.array(rows, dtype=float),
        configs=[{param: row + 1} for row in range(len(rows))],
        images=[str(i) for i in range(count)],
        categories=["c"] * count,
        labels=np.array(labels),
        groups=[str(i) for i in range(count)],
    )


def with_aurocs(aurocs: list[float], param: str = "k") -> ScoreMatrix:
    """Ten normal images and ten anomalous ones, of which so large a share lies above them."""
    rows = [
        [*range(10), *(20 if place < round(10 * auroc) else -1 for place in range(10))]
        for auroc in aurocs
    ]
    return matrix(rows, [0] * 10 + [1] * 10, param)


def test_a_case_is_what_its_curves_say() -> None:
    pseudo, test = with_aurocs([0.5, 0.8, 0.9, 0.6]), with_aurocs([0.4, 1.0, 0.7, 0.7])
    found = case(pseudo, test, "k", 1, ["best"], category="c")
    assert found["values"] == [1, 2, 3, 4]
    assert found["pseudo_auroc"] == pytest.approx([0.5, 0.8, 0.9, 0.6])
    assert found["test_auroc"] == pytest.approx([0.4, 1.0, 0.7, 0.7])
    assert found["random_regret"] == pytest.approx(1 - 0.7)
    assert found["default_regret"] == pytest.approx(0.6)
    best = found["rules"]["best"]
    assert (best["selected"], best["top1_hit"]) == (3, False)
    assert best["regret"] == pytest.approx(0.3)
    assert best["reached"] == pytest.approx(0.7)
    # Ranks 1 3 4 2 against 1 4 2.5 2.5: covariance over deviations, by hand.
    assert found["spearman"] == pytest.approx(3 / np.sqrt(5 * 4.5))
    assert found["spearman_near"] is None
    assert found["standard_error"][0] > 0


def test_near_the_best_only_the_part_where_a_choice_is_made_counts() -> None:
    labels = [0] * 20 + [1] * 20
    levels = [[*range(20), *(40 if i < good else -1 for i in range(20))] for good in (4, 20, 19)]
    turned = matrix([*levels, levels[1]], labels), matrix([*levels[::-1], levels[1]], labels)
    found = case(*turned, "k", 1, ["best"])
    # Test .95, 1.0, .2, 1.0 against pseudo .2, 1.0, .95, 1.0: the third value is not near.
    assert found["spearman_near"] == pytest.approx(1.0)
    assert found["spearman"] < 0.9


def test_of_stages_that_are_as_good_the_cheapest_is_taken() -> None:
    rows = [[*range(10), *(20 + value for _ in range(10))] for value in range(3)]
    labels = [0] * 10 + [1] * 10
    pseudo = matrix(rows, labels)
    pseudo.configs[:] = [{"k": 5, "stages": value} for value in (234, 3, 12)]
    found = case(pseudo, pseudo, "stages", 234, ["best"])
    assert found["rules"]["best"]["selected"] == 3


def of(category: str, seed: int, regret: float, random: float, **more: Any) -> dict[str, Any]:
    """A case of which only figures matter."""
    rules = {"best": {"regret": regret, "top1_hit": regret == 0, "reached": 0.9 - regret}}
    return {"category": category, "detector": "knn", "param": "k", "seed": seed, "rules": rules,
            "random_regret": random, "default_regret": 0.03, "spearman": 0.5,
            "pseudo_auroc": [0.9, 1 - regret],
            "spearman_near": None, **more}  # fmt: skip


def test_the_share_counts_choices_that_matter_and_no_detector_twice() -> None:
    cases = [
        of("a", 0, 0.02, 0.10),
        of("a", 1, 0.00, 0.06),
        of("b", 0, 0.01, 0.02, spearman=None),
        of("c", 0, 0.004, 0.004),  # choosing at random costs next to nothing
    ]
    found = aggregate(cases, "best")
    assert found["regret_share"] == pytest.approx((0.01 + 0.01) / (0.08 + 0.02))
    assert found["default_share"] == pytest.approx((0.03 + 0.03) / (0.08 + 0.02))
    assert found["worst_regret"] == 0.02
    assert found["mean_regret"] == pytest.approx((0.01 + 0.01 + 0.004) / 3)
    assert found["top1"] == 0.25
    assert found["saturated"] == 0.5, "0.98 and 0.99 are not, 1 and 0.996 are"
    assert found["spearman_k"] == pytest.approx(0.5)
    assert (found["choices"], found["counted"], found["cases"]) == (3, 2, 4)
    assert aggregate(cases, "margin")["regret_share"] is None


def test_the_table_has_a_row_for_each_generator_and_rule() -> None:
    rows = {"g": {"best": aggregate([of("a", 0, 0.02, 0.1)], "best")}}
    head, row = table(rows)
    assert row[:4] == ["g", "best", "0.200", "0.020"]
    assert row[head.index("Spearman k (near)")] == "0.50 (n/a)"


def test_the_regrets_of_every_choice_stand_side_by_side() -> None:
    cases = [of("a", seed, 0.02 * seed, 0.1, generator=g) for g in ("g", "h") for seed in (0, 1)]
    cases[-1]["rules"] = {}
    head, row = choices(cases, "best")
    assert head == ["choice", "category", "random", "default", "g", "h"]
    assert row == ["knn k", "a", "0.100", "0.030", "0.010", "0.000"]


def test_what_images_are_worth_is_told_by_detector() -> None:
    some = [of("a", 0, 0.02, 0.1, standard_error=[0.01, 0.03])]
    rows = {"knn: half": resolution(some), "lafite: half": resolution(some), "knn: all": {}}
    rows["knn: all"] = resolution([of("a", 0, 0.0, 0.1, standard_error=[0.01])])
    head, *lines = images(rows)
    assert head[:5] == ["detector", "images", "standard error", "mean regret, best", "share, best"]
    assert [line[:5] for line in lines] == [
        ["knn", "half", "0.020", "0.020", "0.200"],
        ["knn", "all", "0.010", "0.000", "0.000"],
        ["lafite", "half", "0.020", "0.020", "0.200"],
    ]
    assert (
        as_markdown([head, *lines]).splitlines()[1]
        == "| " + " | ".join(["---"] * (3 + 2 * len(RULES))) + " |"
    )


def test_fewer_images_are_whole_groups() -> None:
    normals = with_aurocs([0.5])
    made = matrix([[1.0] * 20], [1] * 20)
    whole = together(normals, [made])
    half = thinned(whole, 0.5, np.random.default_rng(0))
    assert len(set(half.groups)) == 10
    assert len(half.images) == 20
    assert sorted(half.groups) == sorted([*set(half.groups)] * 2)
    with pytest.raises(ValueError, match="different configurations"):
        together(normals, [with_aurocs([0.5, 0.6])])


def test_images_are_drawn_by_content(road: Path, tmp_path: Path) -> None:
    items = real_items(road / "data", "fabric")
    chosen = drawn(items, 4, seed=0)
    assert len(chosen) == 4
    copies = []
    for number, item in enumerate(reversed(items)):
        copy = tmp_path / f"{number}.png"
        copy.write_bytes(item.path.read_bytes())
        copies.append(dataclasses.replace(item, path=copy, id=copy.name))
    again = drawn(copies, 4, seed=0)
    assert sorted(c.path.read_bytes() for c in again) == sorted(c.path.read_bytes() for c in chosen)
    other = drawn(items, 4, seed=1)
    assert [item.id for item in other] != [item.id for item in chosen]
    assert drawn(items, 1000, seed=0) == items


def test_a_subset_of_stages_scores_as_a_model_trained_on_it(road: Path, tmp_path: Path) -> None:
    from pseudoval.cli.commands import run

    _, training, *_ = road_commands(road)
    arguments = with_options(
        training, "--detector", "knn", "--set", "features.stages=2,3", out=tmp_path / "model"
    )
    assert run(arguments) == 0
    items = real_items(road / "data", "flange")
    trained = open_detector(tmp_path / "model", seed=0)
    wanted = score_images(trained, items, [{"k": 1}, {"k": 4}], name="trained", pixels=False)
    knn = staged_knn(road / "model", tmp_path / "banks", seed=0)
    configs = [{"k": 1, "stages": 23}, {"k": 4, "stages": 23}, {"k": 4, "stages": 1234}]
    found = score_images(knn, items, configs, name="staged", pixels=False)
    np.testing.assert_allclose(found.scores[:2], wanted.scores, rtol=1e-6)
    assert not np.allclose(found.scores[2], wanted.scores[1])
    resumed = staged_knn(road / "model", tmp_path / "banks", seed=0)
    assert resumed.model_sha256 == knn.model_sha256
    assert staged_knn(road / "model", tmp_path / "banks", seed=1).model_sha256 != knn.model_sha256


def test_without_anomalib_its_set_is_not_measured(road: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: anomalib' >&2\nexit 1\n")
    broken.chmod(0o755)
    source = Source(data=road / "data", work=tmp_path, images=3, anomalib_python=str(broken))
    with pytest.raises(NotMeasured, match="ModuleNotFoundError: anomalib"):
        anomalies(source, ANOMALIB, 0, held_out(source))


def test_anomalib_makes_one_anomaly_on_each_normal(road: Path, tmp_path: Path) -> None:
    pytest.importorskip("anomalib", reason="anomalib is not installed")
    source = Source(data=road / "data", work=tmp_path, images=3, anomalib_python=sys.executable)
    normals = held_out(source)
    (made,) = anomalies(source, ANOMALIB, 0, normals)
    for category, items in made.items():
        assert {item.group for item in items} == {item.group for item in normals[category]}
        assert all(item.label == 1 and item.path.is_file() for item in items)


def test_an_anomaly_on_another_normal_is_noticed(tmp_path: Path) -> None:
    below, other = texture(0), texture(1)
    mask = np.zeros(below.shape[:2], dtype=bool)
    mask[10:20, 10:20] = True
    made = np.where(mask[..., None], 255 - below, below)
    for name, pixels in (("below", below), ("other", other), ("made", made), ("mask", mask)):
        write_png(tmp_path / f"{name}.png", pixels)
    check(tmp_path / "made.png", tmp_path / "mask.png", tmp_path / "below.png")
    with pytest.raises(RuntimeError, match="does not lie on"):
        check(tmp_path / "made.png", tmp_path / "mask.png", tmp_path / "other.png")
    assert cv2.imread(str(tmp_path / "mask.png")).max() == 255


def script(work: Path, *arguments: Any) -> int:
    """The exit code."""
    command = ["--quick", "--work", work, "--generators", DEFAULT_GENERATOR, "--set",
               "edit.keep_rate=0.2", *arguments]  # fmt: skip
    return selection_quality.main([str(part) for part in command])


def test_it_stops_in_time_goes_on_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "result.json", tmp_path / "again.json"
    assert script(tmp_path / "work", "--out", out, "--minutes", "0") == 3
    assert "the same command goes on" in capsys.readouterr().err
    assert not out.exists()
    assert script(tmp_path / "work", "--out", out, "--markdown", tmp_path / "table.md") == 0
    found = json.loads(out.read_text())
    assert {"figures", "checks", "versions", "device", "seed", "command"} <= set(found)
    checks = found["checks"]
    cases = {(c["category"], c["detector"], c["param"]) for c in checks["cases"]}
    choices = [("knn", "k"), ("knn", "stages"), ("lafite", "t"), ("lafite", "k")]
    assert cases == {(category, *one) for category in ("fabric", "flange") for one in choices}
    for one in checks["cases"]:
        best = one["rules"].get("best")
        if best is None:
            continue
        top = max(range(len(one["values"])), key=lambda row: one["pseudo_auroc"][row])
        assert best["selected"] == one["values"][top]
        assert best["regret"] == pytest.approx(max(one["test_auroc"]) - one["test_auroc"][top])
    over_t = {c["category"]: c for c in checks["cases"] if c["param"] == "t"}
    for one in checks["cases"]:
        if one["detector"] == "lafite" and one["param"] == "k":
            for rule in one["rules"]:
                assert one["t"] == over_t[one["category"]]["rules"][rule]["selected"]
    row = checks["generators"][DEFAULT_GENERATOR]["best"]
    assert found["figures"]["regret_share"]["ours"] == row["regret_share"]
    assert "knn: all of the normals, 4 anomalies on each" in checks["resolution"]
    assert f"| {DEFAULT_GENERATOR} | best |" in (tmp_path / "table.md").read_text()
    assert script(tmp_path / "work", "--out", again, "--summary") == 0
    assert json.loads(again.read_text())["checks"] == checks
    capsys.readouterr()
    assert script(tmp_path / "work", "--images", "3") == 2
    assert "choose another --work" in capsys.readouterr().err
