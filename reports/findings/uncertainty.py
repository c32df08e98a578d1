"""How sure the results of a report are: intervals, leading sets, power, what labels would buy.

All of it comes from one bootstrap per set, made once for all configurations; a part of a report
then looks at some of the configurations in one category or in all of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from pseudoval.statistics.rules import selection_order
from reports.findings.forms import (
    Agreement,
    Interval,
    Labelled,
    Params,
    Power,
    SetResult,
    SetResults,
    Which,
)
from reports.findings.source import MACRO, Source


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A set of images with its bootstrap.

    Attributes:
        configs: of the score matrix, the rows of ``replicates``.
        images: number of images per category.
    """

    configs: list[dict[str, float | str]]
    replicates: Replicates
    images: dict[str, int]

    def part(self, configs: Sequence[Config], category: str) -> Replicates:
        """The replicates of some configurations, in their order; ``MACRO`` for all categories."""
        rows = [self.configs.index(dict(config)) for config in configs]
        return self.replicates.select(rows, None if category == MACRO else category)

    def values(self, configs: Sequence[Config], category: str) -> np.ndarray:
        """AUROC of some configurations, ``[len(configs)]``."""
        return self.part(configs, category).means

    def count(self, category: str) -> int:
        """Number of images of a category, or of all."""
        return sum(self.images.values()) if category == MACRO else self.images[category]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Both sets of a source, and the halves of the test set; None without a test set."""

    pseudo: Sample
    test: Sample | None
    halves: Halves | None
    seed: int

    @property
    def sets(self) -> dict[Which, Sample | None]:
        """The two sets by name."""
        return {"pseudo": self.pseudo, "test": self.test}


def gather(source: Source, *, replicates: int, seed: int) -> Evidence:
    """Bootstrap both sets of a source, independently of each other."""
    test, halves = None, None
    if source.test is not None:
        test = _sample(source.test, replicates, seed, stream=1)
        matrix = source.test
        halves = split_halves(
            matrix.scores, matrix.categories, matrix.labels, matrix.groups, seed=seed
        )
    pseudo = _sample(source.pseudo, replicates, seed, stream=0)
    return Evidence(pseudo=pseudo, test=test, halves=halves, seed=seed)


def _sample(matrix: ScoreMatrix, replicates: int, seed: int, stream: int) -> Sample:
    return Sample(
        configs=matrix.configs,
        replicates=bootstrap_auroc(
            matrix.scores,
            matrix.categories,
            matrix.labels,
            matrix.groups,
            replicates=replicates,
            seed=seed,
            stream=stream,
        ),
        images={name: matrix.categories.count(name) for name in matrix.category_names},
    )


def interval_list(sample: Sample, configs: Sequence[Config], category: str) -> list[Interval]:
    """Interval of each configuration's AUROC."""
    return [pair(bounds) for bounds in auroc_intervals(sample.part(configs, category))]


def ranking(sample: Sample, configs: Sequence[Config], category: str) -> dict[str, Any]:
    """Who leads some configurations on a set, and who cannot be told apart from it.

    Returns:
        ``order`` (indices, best first, those without a value left out), ``p_best``,
        ``in_leading_set``, ``gap`` and ``gap_interval`` (leader minus each), each by
        configuration.
    """
    part = sample.part(configs, category)
    values = part.means
    order = [row for row in selection_order(configs, values) if not math.isnan(values[row])]
    nothing = [None] * len(configs)
    found: dict[str, Any] = {
        "order": order,
        "p_best": [number(value) for value in best_shares(part)],
        "in_leading_set": [False] * len(configs),
        "gap": nothing,
        "gap_interval": nothing,
    }
    if order:
        comparison = compare(part, order[0])
        found["in_leading_set"] = comparison.together.tolist()
        found["gap"] = [number(gap) for gap in comparison.gaps]
        found["gap_interval"] = [pair(bounds) for bounds in comparison.intervals]
    return found


def power(sample: Sample | None, configs: Sequence[Config], category: str) -> Power | None:
    """What a set can tell apart at 80 % power; None with fewer than two configurations.

    ``leader`` and ``runner_up`` are indices into ``configs``; ``resolvable_gap_median`` is over
    all pairs with the leader.
    """
    if sample is None:
        return None
    part = sample.part(configs, category)
    values = part.means
    order = [row for row in selection_order(configs, values) if not math.isnan(values[row])]
    if len(order) < 2:
        return None
    leader, runner_up = order[:2]
    gap = float(values[leader] - values[runner_up])
    errors = gap_errors(part, leader)
    images = sample.count(category)
    return {
        "leader": leader,
        "runner_up": runner_up,
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
) -> dict[str, Agreement]:
    """Spearman, Kendall and Pearson between the sets, over some configurations."""
    if evidence.test is None:
        return {
            name: {"value": None, "interval": None, "p": None, "differs_from_zero": None}
            for name in ("spearman", "kendall", "pearson")
        }
    pseudo, test = (sample.part(configs, category) for sample in (evidence.pseudo, evidence.test))
    found = agreements(
        pseudo.means,
        test.means,
        pseudo.values.mean(axis=0),
        test.values.mean(axis=0),
        seed=evidence.seed,
    )
    return {
        name: {
            "value": agreement.value,
            "interval": None if agreement.interval is None else list(agreement.interval),
            "p": agreement.p,
            "differs_from_zero": agreement.differs,
        }
        for name, agreement in found.items()
    }


def known_regret_interval(
    sample: Sample | None, configs: Sequence[Config], selected: int | None, category: str
) -> Interval:
    """Interval of the regret of one of some configurations; None without a set or its AUROC."""
    if sample is None or selected is None:
        return None
    part = sample.part(configs, category)
    interval = None if math.isnan(part.means[selected]) else regret_interval(part, selected)
    return None if interval is None else list(interval)


def labelled_choice(
    evidence: Evidence, configs: Sequence[Config], category: str, best: Config | None
) -> Labelled | None:
    """The regret of choosing among some configurations on one labelled half of the test set.

    Args:
        best: the configuration that regrets are counted from, the best on the whole test set.
    """
    if evidence.test is None or evidence.halves is None:
        return None
    halves = evidence.halves
    where = None if category == MACRO else category
    reason = None
    lacking = halves.too_small(where)
    if lacking is not None:
        size = halves.sizes[halves.names.index(lacking)]
        reason = (
            f"{lacking} has {size} real test images of one class, and halves need {SMALLEST} of "
            "each class"
        )
    elif best is None or np.isnan(evidence.test.values(configs, category)).all():
        reason = "no configuration has a test AUROC"
    if reason is not None or best is None:
        return {"regret": None, "interval": None, "splits": 0, "reason": reason}
    candidates = [configs[row] for row in selection_order(configs, np.zeros(len(configs)))]
    rows = [evidence.test.configs.index(dict(config)) for config in (best, *candidates)]
    regrets = halves.paid(rows[:1], where) - halves.paid(rows[1:], where)
    return {
        "regret": float(regrets.mean()),
        "interval": [float(bound) for bound in np.quantile(regrets, [0.025, 0.975])],
        "splits": len(regrets),
        "reason": None,
    }


def configuration_results(
    evidence: Evidence, configs: list[Params], category: str
) -> list[tuple[Params, SetResults]]:
    """Each configuration with its AUROC, interval, P(best) and leading set on both sets."""
    columns = [_set_results(sample, configs, category) for sample in evidence.sets.values()]
    pairs = zip(*columns, strict=True)
    return [
        (config, {"pseudo": pseudo, "test": test})
        for config, (pseudo, test) in zip(configs, pairs, strict=True)
    ]


def _set_results(
    sample: Sample | None, configs: Sequence[Config], category: str
) -> Sequence[SetResult | None]:
    if sample is None:
        return [None] * len(configs)
    ranks = ranking(sample, configs, category)
    values, intervals = sample.values(configs, category), interval_list(sample, configs, category)
    return [
        {
            "auroc": number(values[row]),
            "interval": intervals[row],
            "p_best": ranks["p_best"][row],
            "in_leading_set": ranks["in_leading_set"][row],
            "gap": ranks["gap"][row],
            "gap_interval": ranks["gap_interval"][row],
        }
        for row in range(len(configs))
    ]


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
