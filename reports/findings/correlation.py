"""What the pseudo set said and what the test set says: ``correlation.json``."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from pseudoval.metrics.result_table import category_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config
from pseudoval.statistics.bootstrap import REPLICATES
from pseudoval.statistics.correlation import CORRELATION_MEANING
from pseudoval.statistics.intervals import LEADING_SET_MEANING, LEVEL, METHOD, P_BEST_MEANING, POWER
from pseudoval.statistics.labelled_halves import LABELLED_MEANING, SPLITS
from pseudoval.statistics.regret import random_regret, regret
from pseudoval.statistics.rules import select_best
from reports.findings import STATISTICS
from reports.findings.cautions import at_edge, is_flat, warnings
from reports.findings.curves import oracle_index, stage_curves
from reports.findings.forms import (
    Configuration,
    Correlation,
    DefaultFindings,
    FinalFindings,
    Part,
    Power,
    Results,
    StageFindings,
    Which,
)
from reports.findings.names import describe, ordered
from reports.findings.off_path import off_path
from reports.findings.source import MACRO, POOLED, Source, Stage, set_sizes, stage_configs
from reports.findings.stability import stability
from reports.findings.statistic import ScoredStage
from reports.findings.uncertainty import (
    Evidence,
    configuration_results,
    correlations,
    default_config,
    gather,
    interval_list,
    known_regret_interval,
    labelled_choice,
    number,
    power,
    ranking,
)


def correlate(source: Source, *, replicates: int = REPLICATES, seed: int = 0) -> Correlation:
    """The content of ``correlation.json``, as ``docs/design.md`` fixes it.

    Args:
        replicates, seed: of the bootstrap; the same give the same results to the bit.

    Returns:
        ``stages``, ``final`` and ``configurations`` of the macro AUROC, and ``per_category`` with
        the same keys for each category, for the choice made on all categories; then what the
        page says besides. AUROCs are in [0, 1]; a value that cannot be computed (no test set, no
        masks, a constant curve) is None.
    """
    evidence = gather(source, replicates=replicates, seed=seed)
    found: Correlation = {
        "run": source.name,
        **_part(source, evidence, MACRO),
        "per_category": {
            name: _part(source, evidence, name) for name in source.pseudo.category_names
        },
        "stability": stability(source),
        "audit": off_path(source, evidence),
        "defaults": source.run.get("defaults"),
        "sets": {
            "pseudo": set_sizes(source.pseudo),
            "test": None if source.test is None else set_sizes(source.test),
        },
        "bootstrap": {
            "replicates": replicates,
            "seed": seed,
            "level": LEVEL,
            "power": POWER,
            "method": METHOD.format(replicates=f"{replicates:,}", seed=seed),
            "p_best_meaning": P_BEST_MEANING,
            "leading_set_meaning": LEADING_SET_MEANING,
            "labelled_meaning": LABELLED_MEANING.format(splits=SPLITS),
            "correlation_meaning": CORRELATION_MEANING,
        },
        "warnings": [],
    }
    return {**found, "warnings": warnings(source, found)}


def _part(source: Source, evidence: Evidence, category: str) -> Part:
    """Everything about one category, or about their mean."""
    default = default_config(source)
    configurations: list[Configuration] = [
        {
            "params": config,
            "stages": [stage.name for stage in source.stages if config in stage.configs],
            "chosen": config == source.params,
            "default": config == default,
            **results,
        }
        for config, results in configuration_results(evidence, stage_configs(source), category)
    ]
    return {
        "stages": [_stage(source, evidence, stage, category) for stage in source.stages],
        "final": _final(source, evidence, category, configurations),
        "configurations": configurations,
    }


def _stage(source: Source, evidence: Evidence, stage: Stage, category: str) -> StageFindings:
    pseudo, test = stage_curves(source, stage, category)
    oracle = oracle_index(stage, test)
    best = None if oracle is None else stage.configs[oracle]
    agreement = correlations(evidence, stage.configs, category)
    default = source.run.get("defaults", {}).get(stage.param)
    fixed = stage.values.index(default) if default in stage.values else None
    sets: dict[str, Any] = {}
    for name, sample in evidence.sets.items():
        results = ("interval", "p_best", "leading_set")
        sets |= {f"{name}_{key}": None for key in results}
        if sample is not None:
            ranks = ranking(sample, stage.configs, category)
            sets[f"{name}_interval"] = interval_list(sample, stage.configs, category)
            sets[f"{name}_p_best"] = ranks["p_best"]
            sets[f"{name}_leading_set"] = _inside(stage.values, ranks["in_leading_set"])
    found = {
        "name": stage.name,
        "param": stage.param,
        "values": stage.values,
        "pseudo_auroc": [number(value) for value in pseudo],
        "test_auroc": None if test is None else [number(value) for value in test],
        "selected": stage.values[stage.selected],
        "oracle": None if oracle is None else stage.values[oracle],
        "regret": _regret(test, stage.selected),
        "regret_interval": known_regret_interval(
            evidence.test, stage.configs, stage.selected, category
        ),
        "random_regret": None if test is None else number(random_regret(test)),
        **{name: one["value"] for name, one in agreement.items()},
        "correlations": agreement,
        "default": None if fixed is None else default,
        "default_regret": _regret(test, fixed),
        "default_regret_interval": known_regret_interval(
            evidence.test, stage.configs, fixed, category
        ),
        "labelled": labelled_choice(evidence, stage.configs, category, best),
        "power": _power(evidence, stage.configs, category, stage.values),
        **sets,
        "at_edge": at_edge(stage),
        "flat": is_flat(evidence, stage, category),
        **_statistics(source, stage.configs, stage.selected, category),
    }
    return cast(StageFindings, found)


def _final(
    source: Source, evidence: Evidence, category: str, configurations: Sequence[Configuration]
) -> FinalFindings:
    """The chosen configuration, against all configurations scored on the test set."""
    configs, test, plain = stage_configs(source), source.test_auroc, _without_editing(source)
    best, scored = None, configs
    found: dict[str, Any] = {
        **_results(source, source.params, category),
        "random_regret": None,
        "configurations": None,
        "best": None,
        "regret_interval": None,
        "without_editing": None if plain is None else _results(source, plain, category),
        "correlations": correlations(evidence, configs, category),
        "default": _default(source, evidence, category),
        "power": _power(evidence, configs, category, configs),
    }
    if test is not None and not np.isnan(test.values[category]).all():
        values, scored = test.values[category], test.configs
        best = scored[select_best(scored, values)]
        found["random_regret"] = number(random_regret(values))
        found["configurations"] = int((~np.isnan(values)).sum())
        found["best"] = _results(source, best, category)
        found["regret_interval"] = known_regret_interval(
            evidence.test, scored, scored.index(source.params), category
        )
    chosen = next(one for one in configurations if one["chosen"])
    for name in evidence.sets:
        result = chosen[name]
        found[f"{name}_interval"] = None if result is None else result["interval"]
        found[f"{name}_leading_set"] = None
        if result is not None:
            found[f"{name}_leading_set"] = [
                one["params"] for one in configurations if (one[name] or result)["in_leading_set"]
            ]
    order = ranking(evidence.pseudo, configs, category)["order"]
    found["leader"] = configs[order[0]] if order else None
    found["runner_up"] = configs[order[1]] if len(order) > 1 else None
    found["oracle_regret"] = None if best is None else 0.0
    found["labelled"] = labelled_choice(evidence, configs, category, best)
    found |= _statistics(source, scored, scored.index(source.params), category)
    return cast(FinalFindings, found)


def _statistics(
    source: Source, configs: list[dict[str, float | str]], selected: int, category: str
) -> dict[str, Any]:
    """What the rows of ``STATISTICS`` say of a choice."""
    test = source.test_auroc
    stage = ScoredStage(
        configs=configs,
        pseudo=np.array(source.pseudo_auroc.curve(configs, category)),
        test=None if test is None else np.array(test.curve(configs, category)),
        selected=selected,
    )
    return {statistic.key: statistic.compute(stage) for statistic in STATISTICS}


def _default(source: Source, evidence: Evidence, category: str) -> DefaultFindings | None:
    """The regret of the detector's fixed default, if it was scored on the test set."""
    default = default_config(source)
    if default is None:
        return None
    found: DefaultFindings = {
        "params": ordered(default),
        "test_auroc": None,
        "regret": None,
        "regret_interval": None,
        "reason": None,
    }
    if source.test_auroc is None:
        return {**found, "reason": "no real test set was scored"}
    configs, values = source.test_auroc.configs, source.test_auroc.values[category]
    if default not in configs:
        reason = f"{describe(default)} was not scored; 'pseudoval tune --audit-joint' scores it"
        return {**found, "reason": reason}
    row = configs.index(default)
    found["test_auroc"] = number(values[row])
    found["regret"] = number(regret(values, row))
    found["regret_interval"] = known_regret_interval(evidence.test, configs, row, category)
    return found


def _power(
    evidence: Evidence, configs: Sequence[Config], category: str, names: Sequence[Any]
) -> dict[Which, Power | None]:
    """Power of both sets, the configurations by name instead of by place."""
    found = {name: power(sample, configs, category) for name, sample in evidence.sets.items()}
    for one in found.values():
        if one is not None:
            one["leader"], one["runner_up"] = names[one["leader"]], names[one["runner_up"]]
    return found


def _inside(names: Sequence[Any], inside: Sequence[bool]) -> list[Any]:
    return [name for name, member in zip(names, inside, strict=True) if member]


def _regret(curve: Sequence[float] | None, row: int | None) -> float | None:
    return None if curve is None or row is None else number(regret(curve, row))


def _results(source: Source, config: Config, category: str) -> Results:
    """Every metric of one configuration, of one category or as the mean over categories."""
    names = source.pseudo.category_names if category == MACRO else [category]
    pseudo, test, matrix = source.pseudo_auroc, source.test_auroc, source.test
    found: dict[str, Any] = {
        "params": ordered(config),
        "pseudo_auroc": number(pseudo.curve([config], category)[0]),
        **dict.fromkeys(("test_auroc", "regret", "image_ap", *PIXEL_METRICS)),
    }
    if matrix is not None and test is not None:
        row = matrix.row(config)
        found["test_auroc"] = number(test.values[category][row])
        found["regret"] = number(regret(test.values[category], row))
        table = category_metrics(matrix, config)
        columns = [matrix.category_names.index(name) for name in names]
        for metric in ("image_ap", *PIXEL_METRICS):
            # The mean over the categories that have masks.
            of_each = table[metric][columns]
            found[metric] = _mean(of_each[~np.isnan(of_each)].tolist())
    if category == MACRO:
        for kind, aurocs in (("pseudo", pseudo), ("test", test)):
            spread, pooled = math.nan, math.nan
            if aurocs is not None:
                # The paper's tables divide by n, not by n - 1.
                spread = float(np.std([aurocs.curve([config], name) for name in names]))
                pooled = aurocs.curve([config], POOLED)[0]
            found[f"{kind}_auroc_std"] = number(spread)
            found[f"{kind}_auroc_pooled"] = number(pooled)
    return cast(Results, found)


def _without_editing(source: Source) -> Config | None:
    """The configuration with the chosen t and no feature editing, if it was scored."""
    t = source.params.get("t")
    for config in source.pseudo.configs:
        scored = source.test is None or config in source.test.configs
        if t is not None and config.get("t") == t and not config.get("k", 0) and scored:
            return config
    return None


def _mean(values: list[float]) -> float | None:
    return number(math.fsum(values) / len(values)) if values else None
