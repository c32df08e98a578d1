"""The result table of a paper: with and without editing, per category, plus-minus over seeds."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.files import FORMAT_VERSION, write_json, write_text
from pseudoval.metrics.image_metrics import auroc_by_category, average_precision
from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config, ScoreMatrix

METRICS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
}
"""What is computed per category, and its heading."""

EDITING = ("lafite", "uniad")
"""Detectors that edit features with K neighbours; K = 0 is no editing."""

MEAN, STD = "mean", "inter_category_std"


def category_metrics(matrix: ScoreMatrix, config: Config) -> dict[str, np.ndarray]:
    """Every metric of ``METRICS`` for one configuration.

    Returns:
        ``[category_names]`` float64 of each metric, in [0, 1]; NaN where it is not known.

    Raises:
        KeyError: the configuration was not scored.
        ValueError: a category has one class only.
    """
    row, categories = matrix.row(config), np.array(matrix.categories)
    scores = matrix.scores[row]
    inside = [categories == name for name in matrix.category_names]
    unknown = np.full(len(inside), math.nan)
    return {
        "image_auroc": auroc_by_category(scores[None], matrix.categories, matrix.labels)[0],
        "image_ap": np.array([average_precision(scores[i], matrix.labels[i]) for i in inside]),
        **{name: matrix.pixel[name][row] for name in matrix.pixel},
        **{name: unknown for name in PIXEL_METRICS if name not in matrix.pixel},
    }


def variants(detector: str, params: Config) -> dict[str, dict[str, float | str]]:
    """The configurations to report by name: also without feature editing, where there is some."""
    if detector not in EDITING:
        return {detector: dict(params)}
    return {"with editing": dict(params), "without editing": {**params, "k": 0}}


def result_table(matrices: Mapping[str, ScoreMatrix], params: Config) -> dict[str, Any]:
    """The content of ``figures.json``.

    Every value is a mean over seeds, with ``seeds_std`` (divided by n - 1; null for one seed).
    The mean and the standard deviation over categories (divided by n, as in the paper) are taken
    within a seed, over the categories that have a value. What cannot be computed is null.

    Args:
        matrices: real-test scores of each seed; one with the name "" where there is one.
        params: the chosen configuration. A variant that was not scored is left out.
    """
    first = next(iter(matrices.values()))
    detector = str(first.header.get("detector"))
    reasons = zip(first.category_names, first.pixel_reason, strict=True)
    return {
        "format_version": FORMAT_VERSION,
        "detector": detector,
        "params": dict(params),
        "seeds": [name for name in matrices if name],
        "models": {name: matrix.header.get("model_sha256") for name, matrix in matrices.items()},
        "data_sha256": first.header.get("data_sha256"),
        "variants": [
            {"variant": name, "config": config, **_rows(matrices, config)}
            for name, config in variants(detector, params).items()
            if all(config in matrix.configs for matrix in matrices.values())
        ],
        "pixel_reason": {category: reason for category, reason in reasons if reason},
    }


def write_result_table(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``figures.json`` and, one value a line, ``figures.csv``."""
    import pandas as pd  # takes a second, and most commands write no table

    rows = [
        {"variant": row["variant"], "category": line, "metric": metric,
         "value": cell["value"], "seeds_std": cell["seeds_std"]}
        for row in content["variants"]
        for line, cells in _lines(row).items()
        for metric, cell in cells.items()
    ]  # fmt: skip
    write_json(folder / "figures.json", content)
    write_text(folder / "figures.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def table_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """The result table as lines for a terminal."""
    several = len(content["seeds"]) > 1
    width = 18 if several else 13
    for row in content["variants"]:
        named = ", ".join(f"{name} = {value}" for name, value in row["config"].items())
        over = f", mean ± standard deviation over {len(content['seeds'])} seeds" if several else ""
        yield f"{row['variant']} ({named}){over}"
        yield f"{'category':<20}" + "".join(f"{head:>{width}}" for head in METRICS.values())
        for line, cells in _lines(row).items():
            name = {MEAN: "mean", STD: "std over categories"}.get(line, line)
            yield f"{name:<20}" + "".join(f"{_text(cells[metric]):>{width}}" for metric in METRICS)


def _rows(matrices: Mapping[str, ScoreMatrix], config: Config) -> dict[str, Any]:
    """The cells of one configuration: of each category, their mean and their deviation."""
    names = next(iter(matrices.values())).category_names
    seeds = [category_metrics(matrix, config) for matrix in matrices.values()]
    cells: dict[str, Any] = {"per_category": {name: {} for name in names}, MEAN: {}, STD: {}}
    for metric in METRICS:
        values = np.array([found[metric] for found in seeds])  # [seeds, categories]
        for column, name in enumerate(names):
            cells["per_category"][name][metric] = _cell(values[:, column], list(matrices))
        known = [row[~np.isnan(row)] for row in values]
        for line, statistic in ((MEAN, np.mean), (STD, np.std)):
            over = np.array([statistic(row) if len(row) else math.nan for row in known])
            cells[line][metric] = _cell(over, list(matrices))
    return cells


def _lines(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {**row["per_category"], MEAN: row[MEAN], STD: row[STD]}


def _text(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "n/a"
    spread = "" if cell["seeds_std"] is None else f" ± {cell['seeds_std']:.4f}"
    return f"{cell['value']:.4f}{spread}"


def _cell(values: np.ndarray, names: list[str]) -> dict[str, Any]:
    """One metric of every seed as value and spread."""
    if np.isnan(values).any():
        return {"value": None, "seeds_std": None}
    if len(values) == 1:
        return {"value": float(values[0]), "seeds_std": None}
    return {
        "value": math.fsum(values) / len(values),
        "seeds_std": float(np.std(values, ddof=1)),
        "by_seed": dict(zip(names, values.tolist(), strict=True)),
    }
