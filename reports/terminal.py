"""The small table that ``pseudoval report`` prints below the verdict."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.findings.names import describe

COLUMNS = {
    "pseudo_auroc": "pseudo AUROC",
    "test_auroc": "test AUROC",
    "regret": "cost",
    "random_regret": "random costs",
}


def summary_lines(correlation: Mapping[str, Any]) -> list[str]:
    """What was chosen and what it cost, one line per RUN, or else per category and their mean."""
    together = correlation.get("together")
    if together is not None:
        rows = [(row["run"], row) for row in together["rows"]] + [("mean", together["mean"])]
    else:
        rows = [(name, part["final"]) for name, part in correlation["per_category"].items()]
        rows += [("mean", correlation["final"])] if len(rows) > 1 else []
    values = [[row[key] for key in COLUMNS] for _, row in rows]
    table = pd.DataFrame(values, [name for name, _ in rows], list(COLUMNS.values()), dtype=float)
    table = table.dropna(axis="columns", how="all")
    table.columns.name = "run" if together is not None else "category"
    lines = table.to_string(na_rep="-", float_format="{:.3f}".format, col_space=13).splitlines()
    if together is not None:
        for place, row in enumerate(together["rows"], start=1):
            lines[place] += f"  {describe(row['params'])}"
    return lines
