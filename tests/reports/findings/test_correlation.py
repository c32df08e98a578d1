"""correlation.json and curves.csv against figures worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from report_runs import HEADER

from pseudoval.data.files import claim_folder, write_json
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from reports import correlate, curves_table, load_run

# Scores of two normal and two anomalous images with a given AUROC.
BLOCKS = {
    0.0: [0, 2, -1, -1],
    0.25: [0, 2, -1, 1],
    0.5: [0, 2, 1, 1],
    0.75: [0, 2, 1, 3],
    1.0: [0, 2, 3, 3],
}
CONFIGS = [
    *({"t": t, "k": 0} for t in (100, 200, 300)),
    *({"t": 200, "k": k} for k in (1, 3, 5)),
]
PSEUDO = [(0.5, 0.5), (1, 0.5), (0.75, 0.75), (1, 1), (0.75, 1), (1, 0.75)]
TEST = [(0.25, 0.75), (0.75, 0.5), (1, 0.75), (1, 0.5), (0.75, 1), (0.5, 0.5)]


def _matrix(aurocs: list[tuple[float, float]], **more: object) -> ScoreMatrix:
    scores = np.array([[*BLOCKS[a], *BLOCKS[b]] for a, b in aurocs], dtype=np.float64)
    images = [f"{name}/{i}.png" for name in "ab" for i in range(4)]
    return ScoreMatrix(
        scores=scores,
        configs=CONFIGS[: len(aurocs)],
        images=images,
        categories=list("aaaabbbb"),
        labels=np.array([0, 0, 1, 1] * 2),
        groups=images,
        **more,  # type: ignore[arg-type]
    )


def _best() -> dict:
    stages = [
        {
            "name": "t",
            "param": "t",
            "values": [100, 200, 300],
            "configs": CONFIGS[:3],
            "pseudo_auroc": [0.5, 0.75, 0.75],
            "selected": 200,
        },
        {
            "name": "k",
            "param": "k",
            "values": [1, 3, 5],
            "configs": CONFIGS[3:],
            "pseudo_auroc": [1.0, 0.875, 0.875],
            "selected": 1,
        },
    ]
    return {"params": {"t": 200, "k": 1}, "pseudo_auroc": 1.0, "stages": stages}


def _run(
    folder: Path, *, test: ScoreMatrix | None, best: dict, pseudo: ScoreMatrix | None = None
) -> Path:
    claim_folder(folder, "run")
    write_json(folder / "run.json", HEADER)
    write_json(folder / "best.json", best)
    (pseudo or _matrix(PSEUDO)).save(folder / "pseudo_scores.npz")
    if test is not None:
        test.save(folder / "test_scores.npz")
    return folder


def test_stages_by_hand(tmp_path: Path) -> None:
    found = correlate(load_run(_run(tmp_path / "r", test=_matrix(TEST), best=_best())))
    first, second = found["stages"]
    known = {
        "name": "t",
        "param": "t",
        "values": [100, 200, 300],
        "pseudo_auroc": [0.5, 0.75, 0.75],
        "test_auroc": [0.5, 0.625, 0.875],
        "selected": 200,
        "oracle": 300,
        "regret": 0.25,
        "random_regret": pytest.approx(0.875 - 2 / 3),
        "spearman": pytest.approx(1.5 / math.sqrt(1.5 * 2)),
        "kendall": pytest.approx(2 / math.sqrt(2 * 3)),
    }
    assert {key: first[key] for key in known} == known
    assert second["test_auroc"] == [0.75, 0.875, 0.5]
    assert (second["selected"], second["oracle"], second["regret"]) == (1, 3, 0.125)
    assert second["random_regret"] == pytest.approx(1 / 6)


def test_final_by_hand(tmp_path: Path) -> None:
    pixel = {"pixel_auroc": np.full((6, 2), 0.5), "pixel_ap": np.full((6, 2), np.nan)}
    pixel["pixel_auroc"][3] = [0.75, np.nan]
    test = _matrix(TEST, pixel=pixel, pixel_reason=["", "no masks"])
    final = correlate(load_run(_run(tmp_path / "r", test=test, best=_best())))["final"]
    assert final["params"] == {"t": 200, "k": 1}
    assert (final["pseudo_auroc"], final["test_auroc"], final["regret"]) == (1, 0.75, 0.125)
    assert final["random_regret"] == 0.1875
    assert final["configurations"] == 6
    # (300, 0) and (200, 3) tie on the test set: the smallest t.
    assert final["best"]["params"] == {"t": 200, "k": 3}
    assert final["test_auroc_std"] == 0.25  # of 1 and 0.5, divided by n
    assert final["test_auroc_pooled"] == 0.75  # 12 of 16 pairs; as it happens also the mean
    assert final["image_ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert final["pixel_auroc"] == 0.75  # of the one category with masks
    assert final["pixel_ap"] is None
    assert final["pixel_aupro"] is None
    plain = final["without_editing"]
    assert plain["params"] == {"t": 200, "k": 0}
    assert (plain["test_auroc"], plain["regret"], plain["pixel_auroc"]) == (0.625, 0.25, 0.5)


def test_categories_keep_the_choice_made_on_all_of_them(tmp_path: Path) -> None:
    found = correlate(load_run(_run(tmp_path / "r", test=_matrix(TEST), best=_best())))
    a, b = (found["per_category"][name] for name in "ab")
    assert set(a) == {"stages", "final", "configurations"}
    assert a["stages"][0]["test_auroc"] == [0.25, 0.75, 1.0]
    assert b["stages"][1]["pseudo_auroc"] == [1.0, 1.0, 0.75]
    assert [stage["selected"] for stage in b["stages"]] == [200, 1]
    # Category b on stage t: 100 and 300 tie at 0.75, the smallest is the oracle.
    assert (b["stages"][0]["oracle"], b["stages"][0]["regret"]) == (100, 0.25)
    assert (a["final"]["regret"], b["final"]["regret"]) == (0.0, 0.5)


def test_without_a_test_set_the_test_fields_are_null(tmp_path: Path) -> None:
    source = load_run(_run(tmp_path / "r", test=None, best=_best()))
    found = correlate(source)
    for part in (found, *found["per_category"].values()):
        for stage in part["stages"]:
            keys = ("test_auroc", "oracle", "regret", "random_regret", "spearman", "kendall")
            assert all(stage[key] is None for key in keys)
        assert all(part["final"][key] is None for key in ("test_auroc", "pixel_auroc", "regret"))
    assert found["final"]["pseudo_auroc"] == 1.0
    assert set(curves_table(source)["set"]) == {"pseudo"}


def test_curves_are_tidy(tmp_path: Path) -> None:
    table = curves_table(load_run(_run(tmp_path / "r", test=_matrix(TEST), best=_best())))
    columns = "run stage param value category set auroc selected oracle"
    assert " ".join(table.columns) == columns
    assert len(table) == 6 * 4 * 2
    macro = table[(table["category"] == "macro") & (table["stage"] == "t")]
    assert macro[macro["set"] == "test"]["auroc"].tolist() == [0.5, 0.625, 0.875]
    assert macro[macro["selected"]]["value"].tolist() == [200, 200]
    assert macro[macro["oracle"]]["value"].tolist() == [300, 300]
    assert set(table["category"]) == {"macro", "pooled", "a", "b"}
    assert set(table["run"]) == {"r"}


def test_knn_run_and_a_configuration_that_was_dropped(tmp_path: Path) -> None:
    configs = [{"k": 1}, {"k": 3}, {"k": 5}]
    pseudo, test = _matrix(PSEUDO[:3]), _matrix(TEST[:3])
    pseudo.configs[:] = test.configs[:] = configs
    pseudo.scores[0, 5] = np.nan  # dropped before its last block
    stage = {
        "name": "k",
        "param": "k",
        "values": [1, 3, 5],
        "configs": configs,
        "pseudo_auroc": [None, 0.75, 0.75],
        "selected": 3,
    }
    best = {"params": {"k": 3}, "pseudo_auroc": 0.75, "stages": [stage]}
    found = correlate(load_run(_run(tmp_path / "r", test=test, best=best, pseudo=pseudo)))
    assert found["stages"][0]["pseudo_auroc"] == [None, 0.75, 0.75]
    assert found["stages"][0]["spearman"] is None  # two points are left
    assert found["final"]["without_editing"] is None


def test_runs_without_the_scores_of_a_configuration(tmp_path: Path) -> None:
    best = _best()
    best["params"] = {"t": 300, "k": 1}
    with pytest.raises(UserError, match=r"no \(full\) scores of configuration t=300;k=1"):
        load_run(_run(tmp_path / "params", test=None, best=best))
    with pytest.raises(UserError, match=r"t=200;k=1; run 'pseudoval evaluate' again"):
        load_run(_run(tmp_path / "test", test=_matrix(TEST[:3]), best=_best()))


def test_sets_that_do_not_fit(tmp_path: Path) -> None:
    test = _matrix(TEST)
    test.labels[4:] = 0
    with pytest.raises(UserError, match=r"'b' in .*test_scores.npz has normal images only"):
        load_run(_run(tmp_path / "one_class", test=test, best=_best()))
    test = _matrix(TEST)
    test.categories[:] = list("aaaacccc")
    with pytest.raises(UserError, match="no images of category 'b'"):
        load_run(_run(tmp_path / "categories", test=test, best=_best()))
    pseudo = _matrix(PSEUDO)
    pseudo.categories[:] = ["macro"] * 8
    with pytest.raises(UserError, match="rename it"):
        load_run(_run(tmp_path / "macro", test=None, best=_best(), pseudo=pseudo))


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pseudoval tune"):
        load_run(tmp_path)
    claim_folder(tmp_path / "r", "run")
    with pytest.raises(UserError, match="not finished"):
        load_run(tmp_path / "r")
