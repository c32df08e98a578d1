"""What the sections of the page say, from ``correlation.json``: plain values for the template."""

from collections.abc import Mapping
from typing import Any

from reports.figures.style import axis_label
from reports.findings import STATISTICS, Statistic
from reports.findings.forms import Correlation, Interval, Judged
from reports.findings.names import describe
from reports.findings.source import Source

NAMED = 8
"""Names of configurations in a sentence at most."""


def heading(correlation: Correlation) -> str:
    """The outcome in one line."""
    together = correlation.get("together")
    if together is None or together["kind"] == "seeds" or len(together["choices"]) == 1:
        return f"Chosen without labels: {describe(correlation['final']['params'])}"
    return f"{len(together['rows'])} runs, {len(together['choices'])} different choices"


def cautions(correlation: Correlation) -> list[str]:
    """The warnings, of several runs with the names of those that they are about."""
    together = correlation.get("together")
    if together is None or together["kind"] == "seeds":
        return [warning["text"] for warning in correlation["warnings"]]
    named: dict[str, list[str]] = {}
    for row, run in zip(together["rows"], correlation["runs"], strict=True):
        for warning in run["warnings"]:
            named.setdefault(warning["text"], []).append(row["run"])
    return [f"{', '.join(runs)}: {text}" for text, runs in named.items()]


def regrets(correlation: Correlation) -> list[tuple[str, list[tuple[float | None, Interval]]]]:
    """The regret of each way of choosing on the real test set, with its interval.

    Returns:
        Rows of a name and a cell for each of ``parts``; without the ways of which nothing is known.
    """
    columns, default = parts(correlation), correlation["final"]["default"]
    labelled = [part["labelled"] for part in columns]
    rows: dict[str, list[tuple[float | None, Interval]]] = {
        "the choice made on the pseudo set": [
            (part["regret"], part["regret_interval"]) for part in columns
        ],
        "a choice at random, on average": [(part["random_regret"], None) for part in columns],
        "the detector's fixed default": [
            (default["regret"], default["regret_interval"]) if default else (None, None),
            *(
                (stage["default_regret"], stage["default_regret_interval"])
                for stage in correlation["stages"][: len(columns) - 1]
            ),
        ],
        "a choice on labelled real images (half of them)": [
            (one["regret"], one["interval"]) if one else (None, None) for one in labelled
        ],
        "the best on the test set itself": [(0.0, None) for _ in columns],
    }
    return [(name, row) for name, row in rows.items() if any(cell[0] is not None for cell in row)]


def statistics(correlation: Correlation) -> list[Statistic]:
    """The rows of ``findings.STATISTICS`` that have a value, overall or of a stage."""
    columns: list[Mapping[str, Any]] = list(parts(correlation))
    return [one for one in STATISTICS if any(part[one.key] is not None for part in columns)]


def alike(correlation: Correlation) -> list[str]:
    """The configurations that the pseudo set cannot tell from its leader, by stage.

    Empty if the leader stands alone.
    """
    leading = correlation["final"]["pseudo_leading_set"]
    if len(leading) < 2:
        return []
    parts = []
    for stage in correlation["stages"]:
        members = [
            one["params"]
            for one in correlation["configurations"]
            if stage["name"] in one["stages"] and one["params"] in leading
        ]
        if not members:
            continue
        if all(stage["param"] in params for params in members):
            values = ", ".join(f"{params[stage['param']]}" for params in members)
            parts.append(f"{symbol(stage['name'])} = {values}")
        else:
            parts += [describe(params) for params in members[:NAMED]]
            if len(members) > NAMED:
                parts.append(f"{len(members) - NAMED} more, bold in the table above")
    return parts


def stage_values(selected: Mapping[str, Any]) -> str:
    """Values by stage in words; a stage over names has them as values and needs no other name."""
    if "configuration" in selected:
        return str(selected["configuration"])
    return describe(selected)


def pixel_reasons(source: Source) -> list[tuple[str, str]]:
    """Categories without pixel results on the test set, and why."""
    if source.test is None:
        return []
    # Scores from a CSV say nothing about pixels, nor why.
    pairs = zip(source.test.category_names, source.test.pixel_reason, strict=False)
    return [(name, reason) for name, reason in pairs if reason]


def parts(correlation: Correlation) -> list[Judged]:
    """What the columns of a table are about: all configurations, and each of several stages."""
    stages = correlation["stages"]
    return [correlation["final"], *(stages if len(stages) > 1 else [])]


def heads(correlation: Correlation) -> list[str]:
    """The headings of these columns."""
    stages = correlation["stages"]
    if len(stages) == 1:
        return [axis_label(stages[0]["param"])]
    return ["all configurations", *(f"stage\u00a0{symbol(stage['name'])}" for stage in stages)]


def symbol(name: str) -> str:
    """A stage or a parameter as a formula writes it."""
    return "K" if name == "k" else name


def statistic_words(value: float | str | bool | None) -> str:
    """A value of ``findings.STATISTICS``: three digits, yes or no, or a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
