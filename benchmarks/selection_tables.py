"""Tables of the selection benchmark, for the screen and for Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[list[str]]:
    """Cells of the table by generator and rule, its head first.

    Args:
        rows: ``aggregate`` by generator, then by rule.
    """
    parameters = sorted(
        {
            name.removeprefix("spearman_")
            for by_rule in rows.values()
            for found in by_rule.values()
            for name in found
            if name.startswith("spearman_") and not name.startswith("spearman_near_")
        }
    )
    head = ["generator", "rule", "regret share", "worst", "mean regret", "top-1", "saturated",
            "LafitE reaches"]  # fmt: skip
    head += [f"Spearman {name} (near)" for name in parameters] + ["cases"]
    lines = [head]
    for generator, by_rule in rows.items():
        for rule, found in by_rule.items():
            figures = ("regret_share", "worst_regret", "mean_regret", "top1", "saturated",
                       "lafite_reached")  # fmt: skip
            line = [generator, rule, *(_cell(found[name]) for name in figures)]
            for name in parameters:
                whole, near = (found.get(f"spearman{kind}_{name}") for kind in ("", "_near"))
                line.append(f"{_cell(whole, 2)} ({_cell(near, 2)})")
            lines.append([*line, str(found["cases"])])
    return lines


def as_text(cells: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def as_markdown(cells: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def choices(cases: Sequence[Mapping[str, Any]], rule: str) -> list[list[str]]:
    """Cells of the regrets of a rule by choice (a row) and generator (a column), head first.

    Regrets are means over seeds; beside them stand those of a random choice and of the default.
    """
    generators = list(dict.fromkeys(one["generator"] for one in cases))
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for one in cases:
        if rule in one["rules"]:
            key = (one["detector"], one["param"], one["category"])
            groups.setdefault(key, []).append(one)
    lines = [["choice", "category", "random", "default", *generators]]
    for (detector, param, category), group in sorted(groups.items()):
        line = [f"{detector} {param}", category]
        for name in ("random_regret", "default_regret"):
            line.append(_cell(_mean([one[name] for one in group])))
        for generator in generators:
            own = [one for one in group if one["generator"] == generator]
            line.append(_cell(_mean([one["rules"][rule]["regret"] for one in own])))
        lines.append(line)
    return lines


def images(rows: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Cells of what fewer and more images are worth, head first.

    Args:
        rows: ``selection_figures.resolution`` by a label that says how many images.
    """
    rules = [name for name in next(iter(rows.values()), {}) if name != "standard_error"]
    head = ["detector", "images", "standard error"]
    lines = [head + [f"{kind}, {rule}" for rule in rules for kind in ("mean regret", "share")]]
    for label, found in sorted(rows.items(), key=lambda row: row[0].partition(":")[0]):
        line = [*label.split(": "), _cell(found["standard_error"])]
        for rule in rules:
            line += [_cell(found[rule]["mean_regret"]), _cell(found[rule]["regret_share"])]
        lines.append(line)
    return lines


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _cell(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"
