"""The verdict in plain words."""

import copy
from pathlib import Path
from typing import Any

import pytest
from report_runs import CONFIGS, make_run

from reports import correlate, load_run, verdict
from reports.findings.names import points


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return correlate(load_run(make_run(tmp_path_factory.mktemp("verdict") / "run")))


def _with(measured: dict[str, Any], **final: Any) -> dict[str, Any]:
    changed = copy.deepcopy(measured)
    changed["final"] |= final
    return changed


def test_what_was_chosen_and_what_it_cost(measured: dict[str, Any]) -> None:
    told = verdict(
        _with(
            measured,
            test_auroc=0.8973,
            test_interval=[0.8591, 0.9223],
            regret=0.0031,
            regret_interval=[0.0, 0.0198],
            random_regret=0.1462,
            test_leading_set=CONFIGS[:3],
            pseudo_leading_set=CONFIGS[2:],
        )
    )
    assert told == (
        "Chosen: t = 200, K = 2. On the real test set: image AUROC 0.897 (95 % interval 0.859 to "
        "0.922). Choosing without labels cost 0.3 points (95 % interval 0.0 to 2.0) against the "
        "best of the 5 tried, 3 of which cannot be told apart. A choice at random would have cost "
        "14.6 points on average. On the pseudo set 3 of the 5 tried cannot be told apart, the "
        "choice among them."
    )


def test_cells_of_an_audit_are_counted_as_tried(measured: dict[str, Any]) -> None:
    told = verdict(_with(measured, configurations=36, test_leading_set=CONFIGS[:3], regret=0.01))
    assert "the best of the 36 tried, 3 of the 5 in the stages cannot be told apart." in told


def test_a_choice_that_is_the_best_cost_nothing(measured: dict[str, Any]) -> None:
    told = verdict(_with(measured, regret=0.0, test_leading_set=CONFIGS[:1]))
    assert "cost nothing: it is the best of the 5 tried. A choice" in told
    told = verdict(_with(measured, pseudo_leading_set=CONFIGS[:2]))
    assert told.endswith("2 of the 5 tried cannot be told apart, the choice is none of them.")
    told = verdict(_with(measured, pseudo_leading_set=CONFIGS[3:4]))
    assert told.endswith("On the pseudo set t = 200, K = 2 stands alone among the 5 tried.")


def test_without_a_test_set_nothing_is_claimed(tmp_path: Path) -> None:
    told = verdict(correlate(load_run(make_run(tmp_path / "run", test=False))))
    assert told.startswith("Chosen: t = 200, K = 2. On the pseudo set: image AUROC 0.")
    assert told.endswith("No real test set was scored, so nothing is known about real defects.")
    assert "cost" not in told and "On the real test set" not in told


def test_a_single_configuration_was_no_choice(measured: dict[str, Any]) -> None:
    alone = _with(measured, test_auroc=0.5, test_interval=None)
    alone["configurations"] = alone["configurations"][:1]
    assert verdict(alone) == (
        "Chosen: t = 200, K = 2. On the real test set: image AUROC 0.500. No other configuration "
        "was tried."
    )


def _together(kind: str, tested: bool = True) -> dict[str, Any]:
    rows = [
        {"run": name, "test_auroc": auroc if tested else None, "regret": 0.01, "same": same}
        for name, auroc, same in (("one", 0.9, True), ("two", 0.8, False))
    ]
    figures = {"pseudo_auroc": 0.95, "regret": 0.012, "random_regret": 0.1}
    return {
        "kind": kind,
        "noun": "seeds",
        "rows": rows,
        "mean": {**figures, "test_auroc": 0.85 if tested else None},
        "std": {**figures, "pseudo_auroc": 0.01, "regret": 0.004, "test_auroc": 0.07},
        "choices": [
            {"params": CONFIGS[3], "runs": ["one"]},
            {"params": CONFIGS[0], "runs": ["two"]},
        ],
    }


def test_seeds_are_told_with_their_spread(measured: dict[str, Any]) -> None:
    assert verdict(measured | {"together": _together("seeds")}) == (
        "Chosen on the mean over 2 seeds: t = 200, K = 2. Alone, 1 of the 2 would have chosen "
        "the same. On the real test set: image AUROC 0.850 ± 0.070 over 2 seeds; choosing without "
        "labels cost 1.2 ± 0.4 points, a choice at random would have cost 10.0 on average."
    )
    told = verdict(measured | {"together": _together("seeds", tested=False)})
    assert "On the pseudo set: image AUROC 0.950 ± 0.010." in told
    assert told.endswith("nothing is known about real defects.")


def test_runs_are_told_one_by_one(measured: dict[str, Any]) -> None:
    together = _together("runs")
    told = verdict(measured | {"together": together})
    assert told.startswith(
        "The 2 runs chose differently: t = 200, K = 2 (one); t = 100, K = 0 (two). Image AUROC"
    )
    together["rows"][1]["test_auroc"] = None
    together["choices"] = together["choices"][:1]
    assert verdict(measured | {"together": together}) == (
        "All 2 runs chose t = 200, K = 2. No real test set was scored for two. Image AUROC on the "
        "real test set: one 0.900 (cost 1.0 points)."
    )


@pytest.mark.parametrize(
    ("value", "said"), [(0.0031, "0.3"), (-0.0002, "0.0"), (-0.012, "-1.2"), (None, "–")]
)
def test_points(value: float | None, said: str) -> None:
    assert points(value) == said
