"""What the pseudo set said and what the test set says: ``correlation.json``."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pseudoval.metrics.result_table import category_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config
from pseudoval.statistics.bootstrap import REPLICATES
from pseudoval.statistics.correlation import CORRELATION_MEANING
from pseudoval.statistics.intervals import LEADING_SET_MEANING, LEVEL, METHOD, P_BEST_MEANING, POWER
from pseudoval.statistics.labelled_halves import LABELLED_MEANING, SPLITS
from pseudoval.statistics.regret import random_regret, regret
from pseudoval.statistics.rules import select_best
from reports.findings.cautions import at_edge, is_flat, warnings
from reports.findings.curves import oracle_index, stage_curves
from reports.findings.names import describe, ordered
from reports.findings.off_path import audit
from reports.findings.source import MACRO, POOLED, Source, Stage, set_sizes, stage_configs
from reports.findings.stability import stability
from reports.findings.uncertainty import (
    Evidence,
    configuration_figures,
    correlation_figures,
    cost,
    default_config,
    gather,
    interval_list,
    labelled_choice,
    number,
    power,
    ranking,
)


def correlate(source: Source, *, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
    """The content of ``correlation.json``, as ``docs/design.md`` fixes it.

    Args:
        replicates, seed: of the bootstrap; the same give the same figures to the bit.

    Returns:
        ``stages``, ``final`` and ``configurations`` of the macro AUROC, and ``per_category`` with
        the same keys for each category, for the choice made on all categories; then what the
        page says besides. AUROCs are in [0, 1]; a value that cannot be computed (no test set, no
        masks, a constant curve) is None.
    """
    evidence = gather(source, replicates=replicates, seed=seed)
    found = {
        "run": source.name,
        **_part(source, evidence, MACRO),
        "per_category": {
            name: _part(source, evidence, name) for name in source.pseudo.category_names
        },
        "stability": stability(source),
        "audit": audit(source, evidence),
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
    }
    return {**found, "warnings": warnings(source, found)}


def _part(source: Source, evidence: Evidence, category: str) -> dict[str, Any]:
    """Everything about one category, or about their mean."""
    configs = stage_configs(source)
    default = default_config(source)
    configurations = configuration_figures(evidence, configs, category)
    stages = [_stage(source, evidence, stage, category) for stage in source.stages]
    final = _final(source, evidence, category, configurations)
    # A single stage has been through the permutations already.
    final["correlations"] = (
        stages[0]["correlations"]
        if len(stages) == 1
        else correlation_figures(evidence, configs, category)
    )
    return {
        "stages": stages,
        "final": final,
        "configurations": [
            {
                **figures,
                "stages": [s.name for s in source.stages if figures["params"] in s.configs],
                "chosen": figures["params"] == source.params,
                "default": figures["params"] == default,
            }
            for figures in configurations
        ],
    }


def _stage(source: Source, evidence: Evidence, stage: Stage, category: str) -> dict[str, Any]:
    pseudo, test = stage_curves(source, stage, category)
    oracle = oracle_index(stage, test)
    correlations = correlation_figures(evidence, stage.configs, category)
    default = (source.run.get("defaults") or {}).get(stage.param)
    fixed = stage.values.index(default) if default in stage.values else None
    fixed_cost = cost(evidence.test, stage.configs, fixed, category)
    paid = cost(evidence.test, stage.configs, stage.selected, category)
    figures = {
        "name": stage.name,
        "param": stage.param,
        "values": stage.values,
        "pseudo_auroc": [number(value) for value in pseudo],
        "test_auroc": None if test is None else [number(value) for value in test],
        "selected": stage.values[stage.selected],
        "oracle": None if oracle is None else stage.values[oracle],
        **paid,
        "regret": None if test is None else number(regret(test, stage.selected)),
        "random_regret": None if test is None else number(random_regret(test)),
        **{name: correlations[name]["value"] for name in correlations},
        "correlations": correlations,
        "default": None if fixed is None else default,
        "default_regret": fixed_cost["regret"],
        "default_regret_interval": fixed_cost["regret_interval"],
        "labelled": labelled_choice(
            evidence, stage.configs, category, None if oracle is None else stage.configs[oracle]
        ),
        "power": _power(evidence, stage.configs, category, stage.values),
    }
    for name, sample in (("pseudo", evidence.pseudo), ("test", evidence.test)):
        ranks = None if sample is None else ranking(sample, stage.configs, category)
        figures[f"{name}_interval"] = (
            None if sample is None else interval_list(sample, stage.configs, category)
        )
        figures[f"{name}_p_best"] = None if ranks is None else ranks["p_best"]
        figures[f"{name}_leading_set"] = (
            None if ranks is None else _members(stage.values, ranks["in_leading_set"])
        )
    return {**figures, "at_edge": at_edge(stage), "flat": is_flat(evidence, stage, category)}


def _final(
    source: Source, evidence: Evidence, category: str, configurations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The chosen configuration, against all configurations scored on the test set."""
    figures = _figures(source, source.params, category)
    figures |= {"random_regret": None, "configurations": None, "best": None}
    figures |= {"regret_interval": None, "test_rank": None, "top1_hit": None, "top3_hit": None}
    test = source.test_auroc
    best = None
    if test is not None and not np.isnan(test.values[category]).all():
        values = test.values[category]
        best = test.configs[select_best(test.configs, values)]
        figures["random_regret"] = number(random_regret(values))
        figures["configurations"] = int((~np.isnan(values)).sum())
        figures["best"] = _figures(source, best, category)
        paid = cost(evidence.test, test.configs, test.configs.index(source.params), category)
        figures |= {**paid, "regret": figures["regret"]}
    plain = _without_editing(source)
    figures["without_editing"] = None if plain is None else _figures(source, plain, category)
    configs = stage_configs(source)
    chosen = next(c for c in configurations if c["params"] == source.params)
    for name in ("pseudo", "test"):
        known = chosen[name] is not None
        members = [c[name]["in_leading_set"] for c in configurations] if known else []
        figures[f"{name}_interval"] = chosen[name]["interval"] if known else None
        figures[f"{name}_leading_set"] = _members(configs, members) if known else None
    order = ranking(evidence.pseudo, configs, category)["order"]
    figures["leader"] = configs[order[0]] if order else None
    figures["runner_up"] = configs[order[1]] if len(order) > 1 else None
    figures["default"] = _default(source, evidence, category)
    figures["oracle_regret"] = None if best is None else 0.0
    figures["labelled"] = labelled_choice(evidence, configs, category, best)
    figures["power"] = _power(evidence, configs, category, configs)
    return figures


def _default(source: Source, evidence: Evidence, category: str) -> dict[str, Any] | None:
    """What the detector's fixed default costs, if it was scored on the test set."""
    default = default_config(source)
    if default is None:
        return None
    figures: dict[str, Any] = {"params": ordered(default), "test_auroc": None, "regret": None}
    figures |= {"regret_interval": None, "reason": None}
    if source.test is None or source.test_auroc is None:
        return {**figures, "reason": "no real test set was scored"}
    if default not in source.test.configs:
        reason = f"{describe(default)} was not scored; 'pseudoval tune --audit-joint' scores it"
        return {**figures, "reason": reason}
    row = source.test.configs.index(default)
    paid = cost(evidence.test, source.test.configs, row, category)
    figures["test_auroc"] = number(source.test_auroc.values[category][row])
    return figures | {name: paid[name] for name in ("regret", "regret_interval")}


def _power(
    evidence: Evidence, configs: Sequence[Config], category: str, names: Sequence[Any]
) -> dict[str, Any]:
    """Power of both sets, the configurations by name instead of by place."""
    found: dict[str, Any] = {}
    for name, sample in (("pseudo", evidence.pseudo), ("test", evidence.test)):
        figures = power(sample, configs, category)
        if figures is not None:
            figures["leader"] = names[figures["leader"]]
            figures["runner_up"] = names[figures["runner_up"]]
        found[name] = figures
    return found


def _members(names: Sequence[Any], inside: Sequence[bool]) -> list[Any]:
    return [name for name, member in zip(names, inside, strict=True) if member]


def _figures(source: Source, config: Config, category: str) -> dict[str, Any]:
    """Every figure of one configuration, of one category or as the mean over categories."""
    names = source.pseudo.category_names if category == MACRO else [category]
    pseudo, test, matrix = source.pseudo_auroc, source.test_auroc, source.test
    figures: dict[str, Any] = {
        "params": ordered(config),
        "pseudo_auroc": number(pseudo.curve([config], category)[0]),
        "test_auroc": None,
        "pixel_auroc": None,
        "regret": None,
        "image_ap": None,
        "pixel_ap": None,
        "pixel_aupro": None,
    }
    if matrix is not None and test is not None:
        row = matrix.row(config)
        figures["test_auroc"] = number(test.values[category][row])
        figures["regret"] = number(regret(test.values[category], row))
        table = category_metrics(matrix, config)
        columns = [matrix.category_names.index(name) for name in names]
        figures["image_ap"] = _mean(table["image_ap"][columns].tolist())
        for metric in PIXEL_METRICS:
            figures[metric] = _known_mean(table[metric][columns].tolist())
    if category == MACRO:
        for kind, aurocs in (("pseudo", pseudo), ("test", test)):
            spread, pooled = math.nan, math.nan
            if aurocs is not None:
                # The paper's tables divide by n, not by n - 1.
                spread = float(np.std([aurocs.curve([config], name) for name in names]))
                pooled = aurocs.curve([config], POOLED)[0]
            figures[f"{kind}_auroc_std"] = number(spread)
            figures[f"{kind}_auroc_pooled"] = number(pooled)
    return figures


def _without_editing(source: Source) -> Config | None:
    """The configuration with the chosen t and no feature editing, if it was scored."""
    t = source.params.get("t")
    for config in source.pseudo.configs:
        scored = source.test is None or config in source.test.configs
        if t is not None and config.get("t") == t and not config.get("k", 0) and scored:
            return config
    return None


def _mean(values: list[float]) -> float | None:
    return number(math.fsum(values) / len(values))


def _known_mean(values: list[float]) -> float | None:
    """Mean over the categories that have masks; None if none has."""
    known = [value for value in values if not math.isnan(value)]
    return _mean(known) if known else None
