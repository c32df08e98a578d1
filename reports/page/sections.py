"""What the sections of the page say, from ``correlation.json``: plain values for the template."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reports.figures.style import axis_label
from reports.findings import STATISTICS
from reports.findings.forms import Correlation, Interval, Judged, StageFindings, Together, Which
from reports.findings.names import auroc, between, describe, points, with_spread
from reports.findings.source import Source

CORRELATIONS = {
    "spearman": "Spearman's rank correlation",
    "kendall": "Kendall's rank correlation",
    "pearson": "Pearson's correlation",
}

NAMED = 8
"""Names of configurations in a sentence at most."""


def heading(correlation: Correlation) -> str:
    """The outcome in one line."""
    together = correlation.get("together")
    if together is None or together["kind"] == "seeds" or len(together["choices"]) == 1:
        return f"Chosen without labels: {describe(correlation['final']['params'])}"
    return f"{len(together['rows'])} runs, {len(together['choices'])} different choices"


def tiles(correlation: Correlation) -> list[dict[str, str]]:
    """The key numbers: what they are called, the value, its unit and a line under it.

    Of seeds their means; of several runs none, since each has its own.
    """
    together = correlation.get("together")
    if together is not None:
        return _seed_tiles(together) if together["kind"] == "seeds" else []
    final, tried = correlation["final"], len(correlation["configurations"])
    if final["test_auroc"] is None:
        found = [
            _tile("Image AUROC, pseudo set", auroc(final["pseudo_auroc"]),
                  _between(final["pseudo_interval"])),
            _tile("Real test set", "not scored", "nothing is known about real defects"),
        ]  # fmt: skip
        alike = len(final["pseudo_leading_set"])
        if tried > 1:
            found.insert(1, _tile("Not told apart on the pseudo set", f"{alike}",
                                  "at 95 %, the leader included", f"of {tried} tried"))  # fmt: skip
        return found
    found = [
        _tile("Image AUROC, real test set", auroc(final["test_auroc"]),
              _between(final["test_interval"])),
    ]  # fmt: skip
    if tried == 1:
        return found
    leading = len(final["test_leading_set"] or [])
    default = final["default"]
    found += [
        _tile("Cost of the choice", points(final["regret"]),
              _between(final["regret_interval"], points), "points"),
        _tile("Rank, real test set", f"{final['test_rank']}",
              f"{leading} cannot be told from the best" if leading > 1 else
              "the best stands alone at 95 %", f"of {final['configurations']}"),
        _tile("Cost of a random choice", points(final["random_regret"]),
              "on average" if default is None or default["regret"] is None else
              f"on average; the fixed default {points(default['regret'])}", "points"),
    ]  # fmt: skip
    return found


def _seed_tiles(together: Together) -> list[dict[str, str]]:
    rows, mean, std = together["rows"], together["mean"], together["std"]
    over = f"mean ± deviation over {len(rows)} {together['noun']}"
    same = sum(row["same"] for row in rows)
    alone = _tile(f"{together['noun'].capitalize()} that agree", f"{same}", "chosen by each alone",
                  f"of {len(rows)}")  # fmt: skip
    if mean["test_auroc"] is None:
        scored = _tile("Real test set", "not scored", "nothing is known about real defects")
        return [
            _tile("Image AUROC, pseudo set", with_spread(mean, std, "pseudo_auroc"), over),
            alone,
            scored,
        ]
    return [
        _tile("Image AUROC, real test set", with_spread(mean, std, "test_auroc"), over),
        _tile("Cost of the choice", with_spread(mean, std, "regret", points), over, "points"),
        alone,
        _tile("Cost of a random choice", points(mean["random_regret"]), "on average", "points"),
    ]


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


def stage_rows(stage: StageFindings) -> dict[str, Any]:
    """A stage with a row for each of its values."""
    tested = stage["test_auroc"] is not None
    rows = []
    for at, value in enumerate(stage["values"]):
        marks = ["chosen"] if value == stage["selected"] else []
        if stage["oracle"] is not None and value == stage["oracle"]:
            marks.append("best on test")
        if stage["default"] is not None and value == stage["default"]:
            marks.append("default")
        sets = [_of_set(stage, "pseudo", at)] + ([_of_set(stage, "test", at)] if tested else [])
        rows.append({"value": value, "sets": sets, "marks": marks})
    return {
        "title": "K" if stage["name"] == "k" else stage["name"],
        "label": axis_label(stage["param"]),
        "head": "K" if stage["param"] == "k" else stage["param"],
        "named": any(isinstance(value, str) for value in stage["values"]),
        "rows": rows,
        "flat": stage["flat"],
        "selected": stage["selected"],
    }


def regrets(correlation: Correlation) -> dict[str, Any] | None:
    """The regret of each way of choosing on the real test set, overall and by stage.

    Returns:
        ``heads`` and ``rows`` of (name, cells of ``{"value", "interval"}``); None without a test
        set or with a single configuration.
    """
    final, parts = correlation["final"], _parts(correlation)
    if final["test_auroc"] is None or len(correlation["configurations"]) < 2:
        return None

    def cell(value: float | None, interval: Interval = None) -> dict[str, Any]:
        return {"value": value, "interval": interval if value is not None else None}

    default = final["default"] or {"regret": None, "regret_interval": None, "reason": None}
    rows = [
        ("the choice made on the pseudo set",
         [cell(part["regret"], part["regret_interval"]) for part in parts]),
        ("a choice at random, on average", [cell(part["random_regret"]) for part in parts]),
        ("the detector's fixed default",
         [cell(default["regret"], default["regret_interval"]),
          *(cell(s["default_regret"], s["default_regret_interval"])
            for s in correlation["stages"] if len(parts) > 1)]),
        ("a choice on labelled real images (half of them)",
         [cell(part["labelled"]["regret"], part["labelled"]["interval"]) if part["labelled"]
          else cell(None) for part in parts]),
        ("the best on the test set itself", [cell(0.0) for _ in parts]),
    ]  # fmt: skip
    labelled = final["labelled"] or {"reason": None}
    return {
        "heads": _heads(correlation),
        "rows": [row for row in rows if any(one["value"] is not None for one in row[1])],
        "notes": [text for text in (default["reason"], labelled["reason"]) if text],
    }


def agreement(correlation: Correlation) -> dict[str, Any] | None:
    """How well pseudo and real AUROC agree; None without a test set or any correlation."""
    if correlation["final"]["test_auroc"] is None or len(correlation["configurations"]) < 2:
        return None
    rows = []
    for key, name in CORRELATIONS.items():
        cells = []
        for part in _parts(correlation):
            found = part["correlations"][key]
            doubt = found["differs_from_zero"] is False
            text = "–" if found["value"] is None else f"{found['value']:.2f}"
            cells.append({"text": text, "interval": found["interval"], "doubt": doubt})
        rows.append((name, cells))
    return {"heads": _heads(correlation), "rows": rows}


def statistics(correlation: Correlation) -> dict[str, Any] | None:
    """What the rows of ``findings.STATISTICS`` say, overall and by stage; None of nothing."""
    parts: list[Mapping[str, Any]] = list(_parts(correlation))
    found = [(one, [part[one.key] for part in parts]) for one in STATISTICS]
    shown = [(one, values) for one, values in found if any(value is not None for value in values)]
    if not shown:
        return None
    return {
        "heads": _heads(correlation),
        "rows": [(one.heading, [_in_words(value) for value in values]) for one, values in shown],
        "meanings": [one.meaning for one, _ in shown if one.meaning],
    }


def power(correlation: Correlation) -> list[dict[str, Any]]:
    """How small a gap each set can resolve, overall and by stage."""
    titles = ["all configurations", *(f"stage {_title(one)}" for one in correlation["stages"])]
    sets: dict[Which, str] = {"pseudo": "pseudo set", "test": "real test set"}
    return [
        {"name": f"{name}, {title}", **found}
        for which, name in sets.items()
        for title, part in zip(titles, _parts(correlation), strict=False)
        if (found := part["power"][which]) is not None
    ]


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
            parts.append(f"{_title(stage)} = {values}")
        else:
            parts += [describe(params) for params in members[:NAMED]]
            if len(members) > NAMED:
                parts.append(f"{len(members) - NAMED} more, bold in the table above")
    return parts


def stability(correlation: Correlation) -> list[dict[str, str]]:
    """What would be chosen without each category, generator or seed."""
    return [
        {
            "name": f"{row['left_out']} {row['name']}",
            "choice": stage_values(row["selected"]),
            "same": "yes" if row["same"] else "no",
        }
        for row in correlation["stability"]
    ]


def stage_values(selected: Mapping[str, Any]) -> str:
    """Values by stage in words; a stage over names has them as values and needs no other name."""
    if "configuration" in selected:
        return str(selected["configuration"])
    return describe(selected)


def categories(source: Source, correlation: Correlation) -> dict[str, Any]:
    """Rows by category: AUROCs, cost, agreement of the curves, and numbers of images."""
    sizes = correlation["sets"]["test"] or correlation["sets"]["pseudo"]
    # Scores from a CSV say nothing about pixels, nor why.
    pixel_reason = [] if source.test is None else source.test.pixel_reason
    rows = []
    for name, part in correlation["per_category"].items():
        spearman = [stage["spearman"] for stage in part["stages"]]
        rows.append(
            {"name": name, "final": part["final"], "spearman": spearman} | sizes["categories"][name]
        )
    return {
        "rows": rows,
        "stages": [_title(stage) for stage in correlation["stages"]],
        "reasons": [
            (name, reason)
            for name, reason in zip(correlation["per_category"], pixel_reason, strict=False)
            if reason
        ],
    }


def _tile(name: str, value: str, more: str, unit: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "unit": unit, "more": more}


def _between(pair: Sequence[float] | None, form: Callable[[Any], str] = auroc) -> str:
    return between(pair, form, "95 % interval {}")


def _of_set(stage: Mapping[str, Any], which: str, at: int) -> dict[str, Any]:
    return {
        "leading": stage["values"][at] in stage[f"{which}_leading_set"],
        **{key: stage[f"{which}_{key}"][at] for key in ("auroc", "interval", "p_best")},
    }


def _parts(correlation: Correlation) -> list[Judged]:
    """What the columns of a table are about: all configurations, and each of several stages."""
    stages = correlation["stages"]
    return [correlation["final"], *(stages if len(stages) > 1 else [])]


def _heads(correlation: Correlation) -> list[str]:
    stages = correlation["stages"]
    if len(stages) == 1:
        return [axis_label(stages[0]["param"])]
    return ["all configurations", *(f"stage\u00a0{_title(stage)}" for stage in stages)]


def _title(stage: StageFindings) -> str:
    return "K" if stage["name"] == "k" else str(stage["name"])


def _in_words(value: float | str | bool | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
