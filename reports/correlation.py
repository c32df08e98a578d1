"""What the pseudo set said and what the test set says: ``correlation.json``."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pseudoval.metrics import average_precision
from pseudoval.scores import PIXEL_METRICS, Config, ScoreMatrix
from pseudoval.statistics import TIE_ORDER, kendall, random_regret, regret, select_best, spearman
from reports.curves import oracle_index, stage_curves
from reports.source import MACRO, POOLED, Source, Stage


def correlate(source: Source) -> dict[str, Any]:
    """The content of ``correlation.json``, as ``docs/design.md`` fixes it.

    Returns:
        ``stages`` and ``final`` of the macro AUROC, and ``per_category`` with the same two keys
        for each category, for the choice made on all categories. AUROCs are in [0, 1]; a value
        that cannot be computed (no test set, no masks, a constant curve) is None.
    """
    return {
        "run": source.name,
        "stages": [_stage(source, stage, MACRO) for stage in source.stages],
        "final": _final(source, MACRO),
        "per_category": {
            name: {
                "stages": [_stage(source, stage, name) for stage in source.stages],
                "final": _final(source, name),
            }
            for name in source.pseudo.category_names
        },
    }


def verdict(correlation: Mapping[str, Any]) -> str:
    """The outcome in plain words, for the terminal and the top of the page.

    Without a test set it says so and claims nothing about real defects.
    """
    final = correlation["final"]
    chosen = f"Chosen: {describe(final['params'])}."
    if final["test_auroc"] is None:
        return (
            f"{chosen} On the pseudo set: image AUROC {final['pseudo_auroc']:.3f}. No real test "
            "set was scored, so nothing is known about real defects."
        )
    count = final["configurations"]
    measured = f"{chosen} On the real test set: image AUROC {final['test_auroc']:.3f}"
    if count == 1:
        return f"{measured}; no other configuration was tried."
    return (
        f"{measured}; choosing without labels cost {final['regret']:.3f} against the best of the "
        f"{count} configurations tried, a random choice would have cost "
        f"{final['random_regret']:.3f} on average."
    )


def describe(params: Config) -> str:
    """``{"t": 200, "k": 3}`` as ``t = 200, K = 3``."""
    if set(params) == {"name"}:
        return str(params["name"])
    return ", ".join(
        f"{'K' if name == 'k' else name} = {value}" for name, value in _ordered(params).items()
    )


def _stage(source: Source, stage: Stage, category: str) -> dict[str, Any]:
    pseudo, test = stage_curves(source, stage, category)
    oracle = oracle_index(stage, test)
    return {
        "name": stage.name,
        "param": stage.param,
        "values": stage.values,
        "pseudo_auroc": [_number(value) for value in pseudo],
        "test_auroc": None if test is None else [_number(value) for value in test],
        "selected": stage.values[stage.selected],
        "oracle": None if oracle is None else stage.values[oracle],
        "regret": None if test is None else _number(regret(test, stage.selected)),
        "random_regret": None if test is None else _number(random_regret(test)),
        "spearman": None if test is None else spearman(pseudo, test),
        "kendall": None if test is None else kendall(pseudo, test),
    }


def _final(source: Source, category: str) -> dict[str, Any]:
    """The chosen configuration, against all configurations scored on the test set."""
    figures = _figures(source, source.params, category)
    figures |= {"random_regret": None, "configurations": None, "best": None}
    test = source.test_auroc
    if test is not None and not np.isnan(test.values[category]).all():
        values = test.values[category]
        best = test.configs[select_best(test.configs, values)]
        figures["random_regret"] = _number(random_regret(values))
        figures["configurations"] = int((~np.isnan(values)).sum())
        figures["best"] = _figures(source, best, category)
    plain = _without_editing(source)
    figures["without_editing"] = None if plain is None else _figures(source, plain, category)
    return figures


def _figures(source: Source, config: Config, category: str) -> dict[str, Any]:
    """Every figure of one configuration, of one category or as the mean over categories."""
    names = source.pseudo.category_names if category == MACRO else [category]
    pseudo, test, matrix = source.pseudo_auroc, source.test_auroc, source.test
    figures: dict[str, Any] = {
        "params": _ordered(config),
        "pseudo_auroc": _number(pseudo.curve([config], category)[0]),
        "test_auroc": None,
        "pixel_auroc": None,
        "regret": None,
        "image_ap": None,
        "pixel_ap": None,
        "pixel_aupro": None,
    }
    if matrix is not None and test is not None:
        row = matrix.row(config)
        figures["test_auroc"] = _number(test.values[category][row])
        figures["regret"] = _number(regret(test.values[category], row))
        figures["image_ap"] = _mean([image_ap(matrix, row, name) for name in names])
        for metric in PIXEL_METRICS:
            figures[metric] = _known_mean([_pixel(matrix, metric, row, name) for name in names])
    if category == MACRO:
        for kind, aurocs in (("pseudo", pseudo), ("test", test)):
            spread, pooled = math.nan, math.nan
            if aurocs is not None:
                # The paper's tables divide by n, not by n - 1.
                spread = float(np.std([aurocs.curve([config], name) for name in names]))
                pooled = aurocs.curve([config], POOLED)[0]
            figures[f"{kind}_auroc_std"] = _number(spread)
            figures[f"{kind}_auroc_pooled"] = _number(pooled)
    return figures


def image_ap(matrix: ScoreMatrix, row: int, category: str) -> float:
    """Average precision of the images of one category; both classes must be there."""
    inside = np.array(matrix.categories) == category
    return float(average_precision(matrix.scores[row, inside], matrix.labels[inside]))


def _pixel(matrix: ScoreMatrix, metric: str, row: int, category: str) -> float:
    if metric not in matrix.pixel:
        return math.nan
    return float(matrix.pixel[metric][row, matrix.category_names.index(category)])


def _without_editing(source: Source) -> Config | None:
    """The configuration with the chosen t and no feature editing, if it was scored."""
    t = source.params.get("t")
    for config in source.pseudo.configs:
        scored = source.test is None or config in source.test.configs
        if t is not None and config.get("t") == t and not config.get("k", 0) and scored:
            return config
    return None


def _ordered(config: Config) -> dict[str, float | str]:
    """t and K first, whatever order a file had."""
    first = [name for name in TIE_ORDER if name in config]
    return {name: config[name] for name in [*first, *sorted(set(config) - set(first))]}


def _mean(values: list[float]) -> float | None:
    return _number(math.fsum(values) / len(values))


def _known_mean(values: list[float]) -> float | None:
    """Mean over the categories that have masks; None if none has."""
    known = [value for value in values if not math.isnan(value)]
    return _mean(known) if known else None


def _number(value: float) -> float | None:
    """For strict JSON: NaN is None."""
    return None if math.isnan(value) else float(value)
