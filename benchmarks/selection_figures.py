"""What a choice on a pseudo set is worth: cases, and figures over them. No detector is run here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from pseudoval.audit.warnings import SATURATED
from pseudoval.metrics.image_metrics import auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.bootstrap import REPLICATES, Replicates, bootstrap_auroc
from pseudoval.statistics.correlation import correlations
from pseudoval.statistics.regret import random_regret, regret
from pseudoval.statistics.rules import RULES, select
from pseudoval.statistics.separation import separation

COUNTS = 0.005
"""A case counts for ``regret_share`` where choosing at random costs more than this."""
NEAR = 0.05
"""Test AUROCs this close to the best are the part of a curve where a choice is made."""
DIGITS = 6

Case = dict[str, Any]


def together(normals: ScoreMatrix, anomalies: Sequence[ScoreMatrix]) -> ScoreMatrix:
    """The images of several matrices over the same configurations, side by side.

    Raises:
        ValueError: they are of different configurations.
    """
    parts = [normals, *anomalies]
    if any(part.configs != normals.configs for part in parts):
        raise ValueError("the matrices hold different configurations")
    return ScoreMatrix(
        scores=np.concatenate([part.scores for part in parts], axis=1),
        configs=normals.configs,
        images=[image for part in parts for image in part.images],
        categories=[category for part in parts for category in part.categories],
        labels=np.concatenate([part.labels for part in parts]),
        groups=[group for part in parts for group in part.groups],
    )


def case(
    pseudo: ScoreMatrix,
    test: ScoreMatrix,
    parameter: str,
    default: float,
    rules: Iterable[str] = RULES,
    *,
    replicates: int = REPLICATES,
    **about: Any,
) -> Case:
    """One choice of one parameter on one category, judged on its real test images.

    Args:
        pseudo, test: of the same configurations, which differ in ``parameter`` alone.
        default: the value fixed before measuring.
        about: what the case is of, kept as it is.

    Returns:
        ``about`` and: ``values``; ``pseudo_auroc``, ``standard_error`` (bootstrap) and
        ``test_auroc`` by value; ``spearman`` over all values, ``spearman_near`` over those near
        the best (null where there are too few, or a curve is flat); ``random_regret``;
        ``default``, ``default_regret``; and by rule ``selected``, ``within``, ``regret``,
        ``top1_hit``, ``reached`` (the test AUROC of the choice).
    """
    values = [config[parameter] for config in pseudo.configs]
    on_pseudo, on_test = (auroc(matrix.scores, matrix.labels) for matrix in (pseudo, test))
    resampled = _replicates(pseudo, replicates)
    near = on_test >= on_test.max() - NEAR
    found: Case = {
        **about,
        "param": parameter,
        "values": values,
        "pseudo_auroc": _rounded(on_pseudo),
        "standard_error": _rounded(resampled().values[0].std(axis=1)),
        "test_auroc": _rounded(on_test),
        "spearman": _spearman(on_pseudo, on_test),
        "spearman_near": _spearman(on_pseudo[near], on_test[near]),
        "random_regret": round(random_regret(on_test), DIGITS),
        "default": default,
        "default_regret": _regret(on_test, values.index(default)) if default in values else None,
        "rules": {},
    }
    for rule in rules:
        choice = select(rule, pseudo.configs, on_pseudo, resampled, lambda: separation(pseudo))
        found["rules"][rule] = {
            "selected": values[choice.row],
            "within": [values[row] for row in choice.within],
            "regret": _regret(on_test, choice.row),
            "top1_hit": bool(on_test[choice.row] == on_test.max()),
            "reached": round(float(on_test[choice.row]), DIGITS),
        }
    return found


def selected(pseudo: ScoreMatrix, rule: str) -> int:
    """The row of a pseudo score matrix that a rule takes, as ``case`` takes it."""
    return select(
        rule,
        pseudo.configs,
        auroc(pseudo.scores, pseudo.labels),
        _replicates(pseudo, REPLICATES),
        lambda: separation(pseudo),
    ).row


def _replicates(matrix: ScoreMatrix, count: int) -> Callable[[], Replicates]:
    return cache(
        lambda: bootstrap_auroc(
            matrix.scores, matrix.categories, matrix.labels, matrix.groups, replicates=count
        )
    )


def aggregate(cases: Sequence[Case], rule: str) -> dict[str, Any]:
    """Figures over the cases that a rule made.

    Seeds of one (category, detector, parameter) are averaged first, so that a detector with more
    seeds does not weigh more; ``worst_regret`` and the share of hits are over single cases.

    Returns:
        ``regret_share``: sum of regrets over the sum of random choice's expected ones, over the
        choices where that is more than ``COUNTS``; ``default_share``, the same of the fixed
        default; ``worst_regret``; ``mean_regret``, ``mean_random``, ``mean_default``; mean
        ``spearman_PARAMETER`` and ``spearman_near_PARAMETER``; ``top1``, the share of hits;
        ``saturated``, the share of cases whose highest pseudo AUROC an audit would warn of;
        ``lafite_reached``, LafitE's mean test AUROC after both choices; ``choices`` and ``cases``,
        their numbers. None where there is nothing to take a mean of.
    """
    made = [found for found in cases if rule in found["rules"]]
    choices: dict[tuple[str, ...], list[Case]] = {}
    for found in made:
        key = (found["category"], found["detector"], found["param"])
        choices.setdefault(key, []).append(found)
    rows = [
        {
            "regret": _mean(one["rules"][rule]["regret"] for one in group),
            "random": _mean(one["random_regret"] for one in group),
            "default": _mean(one["default_regret"] for one in group),
        }
        for group in choices.values()
    ]
    counted = [row for row in rows if row["random"] is not None and row["random"] > COUNTS]
    judged = [row for row in counted if row["default"] is not None]
    shares = {name: _ratio(part, name) for name, part in (("regret", counted), ("default", judged))}
    by_parameter = {
        f"{name}_{parameter}": _mean(one[name] for one in made if one["param"] == parameter)
        for name in ("spearman", "spearman_near")
        for parameter in sorted({one["param"] for one in made})
    }
    last = [one for one in made if one["detector"] == "lafite" and one["param"] == "k"]
    return {
        "regret_share": shares["regret"],
        "default_share": shares["default"],
        "worst_regret": max((one["rules"][rule]["regret"] for one in made), default=None),
        "worst_default": max(
            (one["default_regret"] for one in made if one["default_regret"] is not None),
            default=None,
        ),
        "mean_regret": _mean(row["regret"] for row in rows),
        "mean_random": _mean(row["random"] for row in rows),
        "mean_default": _mean(row["default"] for row in rows),
        **by_parameter,
        "top1": _mean(float(one["rules"][rule]["top1_hit"]) for one in made),
        "saturated": _mean(float(max(one["pseudo_auroc"]) >= SATURATED) for one in made),
        "lafite_reached": _mean(one["rules"][rule]["reached"] for one in last),
        "choices": len(choices),
        "counted": len(counted),
        "cases": len(made),
    }


def thinned(matrix: ScoreMatrix, share: float, rng: np.random.Generator) -> ScoreMatrix:
    """A random share of the groups of a set (at least two), with all their images."""
    names = sorted(set(matrix.groups))
    count = max(2, round(share * len(names)))
    kept = set(rng.choice(names, count, replace=False).tolist())
    columns = [place for place, group in enumerate(matrix.groups) if group in kept]
    return ScoreMatrix(
        scores=matrix.scores[:, columns],
        configs=matrix.configs,
        images=[matrix.images[place] for place in columns],
        categories=[matrix.categories[place] for place in columns],
        labels=matrix.labels[columns],
        groups=[matrix.groups[place] for place in columns],
    )


def resolution(cases: Sequence[Case]) -> dict[str, Any]:
    """What sets of one size are worth, by rule, and the mean standard error of their AUROCs."""
    errors = [error for found in cases for error in found["standard_error"]]
    figures = ("regret_share", "mean_regret", "worst_regret", "top1", "cases")
    return {
        "standard_error": _mean(errors),
        **{rule: {name: aggregate(cases, rule)[name] for name in figures} for rule in RULES},
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    value = float(correlations(first[:, None], second[:, None])["spearman"][0])
    return None if np.isnan(value) else value


def _regret(values: np.ndarray, row: int) -> float:
    return round(regret(values, row), DIGITS)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _ratio(rows: Sequence[Mapping[str, float | None]], name: str) -> float | None:
    """Sum of a column over the sum of random choice's."""
    if not rows:
        return None
    return math.fsum(row[name] or 0.0 for row in rows) / math.fsum(
        row["random"] or 0.0 for row in rows
    )
