"""The figures of a paper's table: with and without editing, per category, plus-minus over seeds."""

import csv
import io
import math
from collections.abc import Mapping
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

MEAN, STD = "mean", "inter_category_std"


def variants(detector: str, params: Config) -> dict[str, dict[str, float | str]]:
    """The configurations to report by name: LafitE's also without feature editing."""
    if detector != "lafite":
        return {detector: dict(params)}
    return {"with editing": dict(params), "without editing": {**params, "k": 0}}


def figures(matrices: Mapping[str, ScoreMatrix], params: Config) -> dict[str, Any]:
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
    rows = []
    for name, config in variants(detector, params).items():
        if not all(config in matrix.configs for matrix in matrices.values()):
            continue
        table = np.array([_values(m, m.row(config)) for m in matrices.values()])  # [S, M, C]
        lines = {
            **{category: table[:, :, c] for c, category in enumerate(first.category_names)},
            MEAN: _over_categories(table, np.mean),
            STD: _over_categories(table, np.std),
        }
        cells = {
            line: {metric: _cell(values[:, m], list(matrices)) for m, metric in enumerate(METRICS)}
            for line, values in lines.items()
        }
        rows.append(
            {
                "variant": name,
                "config": config,
                "per_category": {c: cells[c] for c in first.category_names},
                MEAN: cells[MEAN],
                STD: cells[STD],
            }
        )
    reasons = zip(first.category_names, first.pixel_reason, strict=True)
    return {
        "format_version": FORMAT_VERSION,
        "detector": detector,
        "params": dict(params),
        "seeds": [name for name in matrices if name],
        "models": {name: matrix.header.get("model_sha256") for name, matrix in matrices.items()},
        "data_sha256": first.header.get("data_sha256"),
        "variants": rows,
        "pixel_reason": {category: reason for category, reason in reasons if reason},
    }


def write_figures(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``figures.json`` and, one value a line, ``figures.csv``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "category", "metric", "value", "seeds_std"])
    for row in content["variants"]:
        for line, cells in _lines(row).items():
            for metric, cell in cells.items():
                writer.writerow([row["variant"], line, metric, cell["value"], cell["seeds_std"]])
    write_json(folder / "figures.json", content)
    write_text(folder / "figures.csv", text.getvalue())


def table(content: Mapping[str, Any]) -> list[str]:
    """The figures as lines for a terminal."""
    several = len(content["seeds"]) > 1
    width = 18 if several else 13
    lines = []
    for row in content["variants"]:
        named = ", ".join(f"{name} = {value}" for name, value in row["config"].items())
        over = f", mean ± standard deviation over {len(content['seeds'])} seeds" if several else ""
        lines.append(f"{row['variant']} ({named}){over}")
        heads = "".join(f"{head:>{width}}" for head in METRICS.values())
        lines.append(f"{'category':<20}{heads}")
        for line, cells in _lines(row).items():
            name = {MEAN: "mean", STD: "std over categories"}.get(line, line)
            lines.append(
                f"{name:<20}" + "".join(f"{_text(cells[metric]):>{width}}" for metric in METRICS)
            )
    return lines


def _lines(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {**row["per_category"], MEAN: row[MEAN], STD: row[STD]}


def _text(cell: Mapping[str, Any]) -> str:
    if cell["value"] is None:
        return "n/a"
    spread = "" if cell["seeds_std"] is None else f" ± {cell['seeds_std']:.4f}"
    return f"{cell['value']:.4f}{spread}"


def _values(matrix: ScoreMatrix, row: int) -> list[np.ndarray]:
    """Every metric of a configuration, each ``[categories]``."""
    scores, names = matrix.scores[[row]], np.array(matrix.categories)
    inside = [names == category for category in matrix.category_names]
    return [
        auroc_by_category(scores, matrix.categories, matrix.labels)[0],
        np.array([average_precision(scores[0, at], matrix.labels[at]) for at in inside]),
        *(matrix.pixel[name][row] for name in PIXEL_METRICS),
    ]


def _over_categories(table: np.ndarray, statistic: Any) -> np.ndarray:
    """``[S, M, C]`` to ``[S, M]`` over the categories that have a value, NaN where none has."""
    return np.array(
        [
            [statistic(v[~np.isnan(v)]) if (~np.isnan(v)).any() else math.nan for v in of_seed]
            for of_seed in table
        ]
    )


def _cell(values: np.ndarray, names: list[str]) -> dict[str, Any]:
    """One figure of every seed as value and spread."""
    if np.isnan(values).any():
        return {"value": None, "seeds_std": None}
    if len(values) == 1:
        return {"value": float(values[0]), "seeds_std": None}
    return {
        "value": math.fsum(values) / len(values),
        "seeds_std": float(np.std(values, ddof=1)),
        "by_seed": dict(zip(names, values.tolist(), strict=True)),
    }
