"""The small table that ``pseudoval report`` prints below the verdict."""

from collections.abc import Mapping
from typing import Any

from reports.findings.names import describe


def summary_lines(correlation: Mapping[str, Any]) -> list[str]:
    """What was chosen and what it cost, one line per RUN, or else per category and their mean."""
    together = correlation.get("together")
    if together is not None:
        rows = [(row["run"], row) for row in together["rows"]]
        rows.append(("mean", together["mean"] | {"params": None}))
        return _table("run", rows, choice=True)
    rows = [(name, part["final"]) for name, part in correlation["per_category"].items()]
    if len(rows) > 1:
        rows.append(("mean", correlation["final"]))
    return _table("category", rows, choice=False)


def _table(head: str, rows: list[tuple[str, Mapping[str, Any]]], *, choice: bool) -> list[str]:
    tested = any(row["test_auroc"] is not None for _, row in rows)
    columns = {"pseudo AUROC": "pseudo_auroc"}
    if tested:
        columns |= {"test AUROC": "test_auroc", "cost": "regret", "random costs": "random_regret"}
    wide = max(len(name) for name in (head, *(name for name, _ in rows)))
    lines = [f"{head:<{wide}}" + "".join(f"{name:>14}" for name in columns)]
    for name, row in rows:
        cells = "".join(f"{_cell(row[key]):>14}" for key in columns.values())
        chosen = f"  {describe(row['params'])}" if choice and row["params"] else ""
        lines.append(f"{name:<{wide}}{cells}{chosen}")
    return lines


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
