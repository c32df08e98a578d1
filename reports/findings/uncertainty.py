"""How sure the results of a report are: intervals, leading sets, power, what labels would buy.

All of it comes from one bootstrap per set, made once for all configurations; a part of a report
then looks at some of the configurations in one category or in all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics.bootstrap import Replicates, bootstrap_auroc
from pseudoval.statistics.correlation import agreements
from pseudoval.statistics.intervals import (
    auroc_intervals,
    best_shares,
    compare,
    gap_errors,
    images_needed,
    paired_interval,
    regret_interval,
    resolvable_gap,
)
from pseudoval.statistics.labelled_halves import SMALLEST, Halves, split_halves
from pseudoval.statistics.regret import regret
from pseudoval.statistics.rules import selection_order
from reports.findings.forms import Interval, Labelled, Power, SetResult, Which
from reports.findings.source import MACRO, Source, Stage


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A source with the bootstrap of its sets, and the halves of its test set.

    Attributes:
        replicates: of each set that was scored; the rows are the configurations of its matrix.
        halves: None without a test set.
        seed: of all draws.
    """

    source: Source
    replicates: dict[Which, Replicates]
    halves: Halves | None
    seed: int

    def part(self, which: Which, configs: Sequence[Config], category: str) -> Replicates:
        """The replicates of some configurations, in their order; ``MACRO`` for all categories.

        Raises:
            KeyError: the set was not scored, or not with one of the configurations.
        """
        matrix, replicates = self.source.sets[which], self.replicates[which]
        assert matrix is not None
        rows = [matrix.row(config) for config in configs]
        return replicates.select(rows, None if category == MACRO else category)


def gather(source: Source, *, replicates: int, seed: int) -> Evidence:
    """Bootstrap both sets of a source, independently of each other."""

    def images(matrix: ScoreMatrix) -> tuple[Any, ...]:
        return matrix.scores, matrix.categories, matrix.labels, matrix.groups

    drawn = {
        which: bootstrap_auroc(*images(one), replicates=replicates, seed=seed, stream=stream)
        for stream, (which, one) in enumerate(source.sets.items())
        if one is not None
    }
    halves = None if source.test is None else split_halves(*images(source.test), seed=seed)
    return Evidence(source=source, replicates=drawn, halves=halves, seed=seed)


def set_results(
    evidence: Evidence, which: Which, configs: Sequence[Config], category: str
) -> Sequence[SetResult | None]:
    """Each of some configurations on a set, compared with their leader; None without the set."""
    if which not in evidence.replicates:
        return [None] * len(configs)
    part = evidence.part(which, configs, category)
    comparison = compare(part, selection_order(configs, part.means)[0])
    return [
        {
            "auroc": number(part.means[row]),
            "interval": pair(interval),
            "p_best": number(p_best),
            "in_leading_set": bool(comparison.together[row]),
            "gap": number(comparison.gaps[row]),
            "gap_interval": pair(comparison.intervals[row]),
        }
        for row, (interval, p_best) in enumerate(
            zip(auroc_intervals(part), best_shares(part), strict=True)
        )
    ]


def ranked(configs: Sequence[Config], values: np.ndarray) -> list[int]:
    """Places of the configurations from best to worst; those without a value are left out."""
    return [row for row in selection_order(configs, values) if not math.isnan(values[row])]


def power(evidence: Evidence, which: Which, stage: Stage, category: str) -> Power | None:
    """What a set can tell apart at 80 % power; None with fewer than two configurations.

    ``leader`` and ``runner_up`` are values of the stage; ``resolvable_gap_median`` is over all
    pairs with the leader.
    """
    matrix = evidence.source.sets[which]
    if matrix is None:
        return None
    part = evidence.part(which, stage.configs, category)
    values, order = part.means, ranked(stage.configs, part.means)
    if len(order) < 2:
        return None
    leader, runner_up = order[:2]
    gap = float(values[leader] - values[runner_up])
    errors = gap_errors(part, leader)
    images = len(matrix.images) if category == MACRO else matrix.categories.count(category)
    return {
        "leader": stage.values[leader],
        "runner_up": stage.values[runner_up],
        "gap": gap,
        "gap_interval": pair(paired_interval(part, leader, runner_up)),
        "standard_error": float(errors[runner_up]),
        "resolvable_gap": resolvable_gap(float(errors[runner_up])),
        "resolvable_gap_median": resolvable_gap(float(np.median(errors[order[1:]]))),
        "images": images,
        "images_needed": images_needed(images, gap, float(errors[runner_up])),
    }


def correlations(
    evidence: Evidence, configs: Sequence[Config], category: str
) -> dict[str, dict[str, Any]]:
    """Spearman, Kendall and Pearson between the sets, over some configurations."""
    source, scored = evidence.source, "test" in evidence.replicates
    pseudo = evidence.part("pseudo", configs, category)
    test = evidence.part("test", configs, category) if scored else pseudo
    found = agreements(
        source.curve("pseudo", configs, category),
        source.curve("test", configs, category),  # without a test set no point is known
        pseudo.values.mean(axis=0),
        test.values.mean(axis=0),
        seed=evidence.seed,
    )
    return {name: asdict(agreement) for name, agreement in found.items()}


def regret_of(
    evidence: Evidence,
    which: Which,
    configs: Sequence[Config],
    selected: Config | None,
    category: str,
) -> tuple[float | None, Interval]:
    """Regret of one of some configurations and its interval; None without a set or its AUROC."""
    if which not in evidence.replicates or selected is None:
        return None, None
    part, row = evidence.part(which, configs, category), configs.index(dict(selected))
    interval = regret_interval(part, row)
    return number(regret(part.means, row)), None if interval is None else list(interval)


def labelled_choice(
    evidence: Evidence, configs: Sequence[Config], category: str, best: Config | None
) -> Labelled | None:
    """The regret of choosing among some configurations on one labelled half of the test set.

    Args:
        best: the configuration that regrets are counted from, the best on the whole test set;
            None without one.
    """
    halves, test = evidence.halves, evidence.source.test
    if halves is None or test is None or best is None:
        return None
    where = None if category == MACRO else category
    lacking = halves.too_small(where)
    if lacking is not None:
        size = halves.sizes[halves.names.index(lacking)]
        reason = (
            f"{lacking} has {size} real test images of one class, and halves need {SMALLEST} of "
            "each class"
        )
        return {"regret": None, "interval": None, "splits": 0, "reason": reason}
    candidates = [configs[row] for row in selection_order(configs, np.zeros(len(configs)))]
    rows = [test.row(config) for config in (best, *candidates)]
    regrets = halves.paid(rows[:1], where) - halves.paid(rows[1:], where)
    return {
        "regret": float(regrets.mean()),
        "interval": [float(bound) for bound in np.quantile(regrets, [0.025, 0.975])],
        "splits": len(regrets),
        "reason": None,
    }


def default_config(source: Source) -> dict[str, float | str] | None:
    """The detector's fixed default as a configuration of the run; None if it is not known."""
    defaults: Mapping[str, Any] | None = source.run.get("defaults")
    if not defaults or not set(source.params) <= set(defaults):
        return None
    return {name: defaults[name] for name in source.params}


def number(value: float) -> float | None:
    """For strict JSON: NaN is None."""
    return None if math.isnan(value) else float(value)


def pair(bounds: Sequence[float] | np.ndarray) -> Interval:
    """Two bounds for strict JSON; None where there is no interval."""
    low, high = (float(bound) for bound in bounds)
    return None if math.isnan(low) or math.isnan(high) else [low, high]
