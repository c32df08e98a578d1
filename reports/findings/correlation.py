"""What the pseudo set said and what the test set says: ``correlation.json``."""

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, cast

import numpy as np
import pandas as pd

from pseudoval.metrics.result_table import category_metrics
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config
from pseudoval.statistics.bootstrap import REPLICATES
from pseudoval.statistics.correlation import CORRELATION_MEANING
from pseudoval.statistics.intervals import LEADING_SET_MEANING, LEVEL, METHOD, P_BEST_MEANING, POWER
from pseudoval.statistics.labelled_halves import LABELLED_MEANING, SPLITS
from pseudoval.statistics.regret import random_regret, regret
from reports.findings import STATISTICS
from reports.findings.cautions import at_edge, is_flat, warnings
from reports.findings.curves import oracle
from reports.findings.forms import (
    Configuration,
    Correlation,
    FinalFindings,
    Part,
    Results,
    SetResult,
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
    correlations,
    default_config,
    gather,
    labelled_choice,
    number,
    power,
    ranked,
    regret_of,
    set_results,
)

BySet = Mapping[Which, Sequence[SetResult | None]]


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
        **_part(evidence, MACRO),
        "per_category": {name: _part(evidence, name) for name in source.pseudo.category_names},
        "stability": stability(source),
        "audit": off_path(evidence),
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


def _part(evidence: Evidence, category: str) -> Part:
    """Everything about one category, or about their mean."""
    source = evidence.source
    default, configs = default_config(source), stage_configs(source)
    # The final choice is that of a stage over all configurations.
    whole = Stage(
        name="final",
        param="configuration",
        values=configs,
        configs=configs,
        selected=configs.index(source.params),
    )
    results = {which: set_results(evidence, which, configs, category) for which in source.sets}
    configurations: list[Configuration] = [
        {
            "params": config,
            "stages": [stage.name for stage in source.stages if config in stage.configs],
            "chosen": config == source.params,
            "default": config == default,
            "pseudo": pseudo,
            "test": test,
        }
        for config, pseudo, test in zip(configs, *results.values(), strict=True)
    ]
    return {
        "stages": [_stage(evidence, stage, category) for stage in source.stages],
        "final": _final(evidence, whole, results, category),
        "configurations": configurations,
    }


def _stage(evidence: Evidence, stage: Stage, category: str) -> StageFindings:
    source, configs = evidence.source, stage.configs
    results = {which: set_results(evidence, which, configs, category) for which in source.sets}
    best = oracle(source, configs, category)
    default = source.run.get("defaults", {}).get(stage.param)
    fixed = dict(zip(stage.values, configs, strict=True)).get(default)
    cost, interval = regret_of(evidence, "test", configs, fixed, category)
    found: dict[str, Any] = {
        "name": stage.name,
        "param": stage.param,
        "values": stage.values,
        "selected": stage.values[stage.selected],
        "oracle": None if best is None else stage.values[configs.index(best)],
        "default": None if fixed is None else default,
        "default_regret": cost,
        "default_regret_interval": interval,
        "at_edge": at_edge(stage),
        "flat": is_flat(evidence, stage, category),
        **_judged(evidence, stage, configs, results, category),
    }
    for which, of_set in results.items():
        for key in ("auroc", "interval", "p_best"):
            found[f"{which}_{key}"] = _column(of_set, key)
    for name, agreement in found["correlations"].items():
        found[name] = agreement["value"]
    return cast(StageFindings, found)


def _final(
    evidence: Evidence,
    whole: Stage,
    results: BySet,
    category: str,
) -> FinalFindings:
    """The chosen configuration, against all configurations scored on the test set."""
    source = evidence.source
    best, plain = oracle(source, source.scored, category), _without_editing(source)
    known = ~np.isnan(source.curve("test", source.scored, category))
    order = ranked(whole.configs, source.curve("pseudo", whole.configs, category))
    leaders = [*(whole.configs[row] for row in order), None]
    found: dict[str, Any] = {
        **_results(source, source.params, category),
        **_judged(evidence, whole, source.scored, results, category),
        "configurations": None if best is None else int(known.sum()),
        "best": None if best is None else _results(source, best, category),
        "oracle_regret": None if best is None else 0.0,
        "without_editing": None if plain is None else _results(source, plain, category),
        "default": _default(evidence, category),
        "leader": leaders[0],
        "runner_up": leaders[1],
    }
    for which, of_set in results.items():
        intervals = _column(of_set, "interval")
        found[f"{which}_interval"] = None if intervals is None else intervals[whole.selected]
    return cast(FinalFindings, found)


def _judged(
    evidence: Evidence,
    stage: Stage,
    scored: list[dict[str, float | str]],
    results: BySet,
    category: str,
) -> dict[str, Any]:
    """How a choice fared.

    Args:
        stage: what it was made among.
        scored: the configurations that its regret counts from.
        results: of the configurations of the stage on each set.
    """
    source = evidence.source
    chosen = stage.configs[stage.selected]
    pseudo, test = (source.curve(which, scored, category) for which in source.sets)
    of_choice = ScoredStage(
        configs=scored,
        pseudo=pseudo,
        test=None if source.test is None else test,
        selected=scored.index(chosen),
    )
    best = oracle(source, scored, category)
    cost, interval = regret_of(evidence, "test", scored, chosen, category)
    found: dict[str, Any] = {
        "regret": cost,
        "regret_interval": interval,
        "random_regret": number(random_regret(test)),
        "correlations": correlations(evidence, stage.configs, category),
        "labelled": labelled_choice(evidence, stage.configs, category, best),
        "power": {which: power(evidence, which, stage, category) for which in source.sets},
        **{statistic.key: statistic.compute(of_choice) for statistic in STATISTICS},
    }
    for which, of_set in results.items():
        leading = _column(of_set, "in_leading_set")
        found[f"{which}_leading_set"] = (
            None if leading is None else list(compress(stage.values, leading))
        )
    return found


def _column(results: Sequence[Any], key: str) -> list[Any] | None:
    """One figure of each configuration on a set; None if it was not scored."""
    return None if None in results else [one[key] for one in results]


def _default(evidence: Evidence, category: str) -> dict[str, Any] | None:
    """The regret of the detector's fixed default, if it was scored on the test set."""
    source = evidence.source
    default, configs = default_config(source), source.scored
    if default is None:
        return None
    reason, scored = None, default if default in configs else None
    if source.test is None:
        reason = "no real test set was scored"
    elif scored is None:
        reason = f"{describe(default)} was not scored; 'pseudoval tune --audit-joint' scores it"
    cost, interval = regret_of(evidence, "test", configs, scored, category)
    return {
        "params": ordered(default),
        "test_auroc": number(source.curve("test", [default], category)[0]),
        "regret": cost,
        "regret_interval": interval,
        "reason": reason,
    }


def _results(source: Source, config: Config, category: str) -> Results:
    """Every metric of one configuration, of one category or as the mean over categories."""
    names, scored = source.pseudo.category_names, source.scored
    curve = source.curve("test", scored, category)
    found: dict[str, Any] = {
        "params": ordered(config),
        "regret": number(regret(curve, scored.index(dict(config)))),
        **dict.fromkeys(("image_ap", *PIXEL_METRICS)),
    }
    if source.test is not None:
        table = pd.DataFrame(category_metrics(source.test, config), names)
        for metric in ("image_ap", *PIXEL_METRICS):
            # The mean over the categories that have masks.
            of_each = table[metric] if category == MACRO else table[metric][[category]]
            found[metric] = _mean(of_each.dropna().tolist())
    for which in source.sets:
        found[f"{which}_auroc"] = number(source.curve(which, [config], category)[0])
        if category == MACRO:
            # The paper's tables divide by n, not by n - 1.
            spread = np.std([source.curve(which, [config], name) for name in names])
            found[f"{which}_auroc_std"] = number(float(spread))
            found[f"{which}_auroc_pooled"] = number(source.curve(which, [config], POOLED)[0])
    return cast(Results, found)


def _without_editing(source: Source) -> Config | None:
    """The chosen configuration without feature editing (K = 0), if it was scored."""
    plain = [c for c in source.pseudo.configs if c in source.scored and c.get("k") == 0]
    others = [{name: value for name, value in c.items() if name != "k"} for c in plain]
    same = (
        c for c, other in zip(plain, others, strict=True) if other.items() <= source.params.items()
    )
    return next(same, None)


def _mean(values: list[float]) -> float | None:
    return number(math.fsum(values) / len(values)) if values else None
