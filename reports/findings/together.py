"""Several RUNs side by side: seeds of one search, or other generators and detectors."""

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from pseudoval.statistics.bootstrap import REPLICATES
from pseudoval.statistics.rank_aggregation import borda, rank_rows
from pseudoval.statistics.regret import regret
from pseudoval.statistics.rules import select_best
from reports.findings.cautions import warnings
from reports.findings.correlation import correlate
from reports.findings.forms import Correlation, Row, Together
from reports.findings.names import ordered
from reports.findings.source import MACRO, Source, stage_configs
from reports.findings.stability import alone, alone_params, without_each_seed
from reports.findings.uncertainty import number

Kind = Literal["seeds", "runs"]
SEEDS: Kind = "seeds"
RUNS: Kind = "runs"
METRICS = (
    "pseudo_auroc", "test_auroc", "pixel_auroc", "image_ap", "pixel_ap", "pixel_aupro", "regret",
    "random_regret",
)  # fmt: skip


def correlate_together(
    sources: Sequence[Source], *, kind: Kind = RUNS, replicates: int = REPLICATES, seed: int = 0
) -> Correlation:
    """``correlation.json`` of several RUNs.

    Args:
        sources: at least one, of the same categories, with distinct names.
        kind: ``SEEDS`` if one choice was made on the mean of them, else ``RUNS``.

    Returns:
        What ``correlate`` says of the first, with ``runs``, the same of each, and ``together``:
        ``noun`` (what they are, in the plural), ``rows`` (one per RUN; ``alone`` is what it would
        have chosen by itself, by stage, and ``same`` whether that is its choice), ``mean`` and
        ``std`` over them (dividing by n - 1; None if a RUN lacks the metric), ``per_category``,
        ``choices`` (what each would have chosen by itself, and the RUNs that agree) and
        ``aggregation``.
    """
    found = [correlate(source, replicates=replicates, seed=seed) for source in sources]
    mean, std = spread([run["final"] for run in found])
    per_category = {}
    for name in found[0]["per_category"]:
        parts = spread([run["per_category"][name]["final"] for run in found])
        per_category[name] = dict(zip(("mean", "std"), parts, strict=True))
    together: Together = {
        "kind": kind,
        "noun": sources[0].member_of or "runs",
        "rows": [_row(run, source) for run, source in zip(found, sources, strict=True)],
        "mean": mean,
        "std": std,
        "per_category": per_category,
        "choices": _choices(sources),
        "aggregation": aggregate(sources),
    }
    first = found[0]
    if kind == SEEDS:
        left_out = [*first["stability"], *without_each_seed(sources)]
        first = {**first, "stability": left_out}
        first = {**first, "warnings": warnings(sources[0], first)}
    return {**first, "runs": found, "together": together}


def spread(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Mean and standard deviation (dividing by n - 1) of each metric over rows.

    None where a row lacks the metric; the deviation of a single row is None.
    """
    table = pd.DataFrame(rows, columns=list(METRICS), dtype=float)  # None is NaN
    mean, std = (
        {name: number(value) for name, value in one.items()}
        for one in (table.mean(skipna=False), table.std(skipna=False))
    )
    return mean, std


def aggregate(sources: Sequence[Source]) -> dict[str, Any]:
    """Borda's choice from the pseudo rankings, beside that of each RUN alone.

    Only configurations that every RUN searched are ranked. Each choice is judged on the test set
    of each RUN, by its regret against the best of the same configurations.

    Returns:
        As ``docs/design.md`` says, or ``{"reason"}`` where fewer than two are common.
    """
    names = [source.name for source in sources]
    common = [
        config
        for config in stage_configs(sources[0])
        if all(config in stage_configs(source) for source in sources)
    ]
    curves = np.array([source.curve("pseudo", common, MACRO) for source in sources])
    full = ~np.isnan(curves).any(axis=0)
    configs, values = list(compress(common, full)), curves[:, full].T
    if len(configs) < 2:
        return {"reason": "The runs share fewer than two configurations, so no rankings to join."}
    ranks = rank_rows(values)
    means = borda(ranks)
    picks = [
        ("borda", select_best(configs, -means)),
        *((name, select_best(configs, values[:, run])) for run, name in enumerate(names)),
    ]
    choices = []
    for by, row in picks:
        regrets = [number(regret(s.curve("test", configs, MACRO), row)) for s in sources]
        known = [value for value in regrets if value is not None]
        choices.append(
            {
                "by": by,
                "params": ordered(configs[row]),
                "test_regret": regrets,
                "mean_test_regret": math.fsum(known) / len(known) if known else None,
            }
        )
    return {
        "configs": [ordered(config) for config in configs],
        "rankings": ranks.T.tolist(),
        "choices": choices,
        "borda": means.tolist(),
    }


def _row(run: Correlation, source: Source) -> Row:
    own = alone(source)
    selected = {stage["name"]: stage["selected"] for stage in run["stages"]}
    final = cast(dict[str, Any], run["final"])
    row = {
        "run": run["run"],
        "params": final["params"],
        **{name: final[name] for name in METRICS},
        "spearman": {stage["name"]: stage["spearman"] for stage in run["stages"]},
        "selected": selected,
        "alone": own,
        "same": selected == own,
    }
    return cast(Row, row)


def _choices(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """What each RUN would have chosen by itself, with the RUNs that agree, most of them first."""
    choices: list[dict[str, Any]] = []
    for source in sources:
        params = alone_params(source)
        known = [choice for choice in choices if choice["params"] == params]
        if known:
            known[0]["runs"].append(source.name)
        else:
            choices.append({"params": params, "runs": [source.name]})
    return sorted(choices, key=lambda choice: -len(choice["runs"]))
