"""``report.html``: one self-contained page, without scripts and without requests to anywhere."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

import pseudoval
from reports.correlation import describe, verdict
from reports.examples import Example, choose_examples, value_ranges
from reports.figures.curves import curves_figure
from reports.figures.sheet import example_figure
from reports.figures.style import axis_label, jpeg, png
from reports.source import Source

TEMPLATES = Path(__file__).parent / "templates"
NO_MASKS = "pixels were not scored"
COLUMNS = {
    "pseudo_auroc": "pseudo AUROC",
    "test_auroc": "image AUROC",
    "image_ap": "image AP",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
}


def render_page(source: Source, correlation: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """The page as text; the same input gives the same text.

    Args:
        correlation: what ``correlate`` made of ``source``.
        examples: all that there are; a few of each kind are shown.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    template = environment.get_template("report.html.j2")
    shown = choose_examples(examples)
    return template.render(
        name=source.name,
        verdict=verdict(correlation),
        tested=source.test is not None,
        from_run=source.folder is not None,
        final=correlation["final"],
        columns=COLUMNS,
        compared=_compared(correlation["final"]),
        stages=[_stage(correlation, index) for index in range(len(correlation["stages"]))],
        categories=_categories(source, correlation),
        pictures=_pictures(shown),
        further=len(examples) - len(shown),
        provenance=_provenance(source),
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _compared(final: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chosen configuration beside the one without editing and the best on the test set."""
    best, plain = final["best"], final["without_editing"]
    is_best = best is not None and best["params"] == final["params"]
    rows = [("Chosen, and best on the real test set" if is_best else "Chosen", final)]
    if plain is not None and plain["params"] != final["params"]:
        rows.append(("Without feature editing", plain))
    if best is not None and not is_best:
        rows.append(("Best on the real test set", best))
    return [
        {"role": role, "params": describe(figures["params"]), "figures": figures}
        for role, figures in rows
    ]


def _stage(correlation: Mapping[str, Any], index: int) -> dict[str, Any]:
    stage = correlation["stages"][index]
    rows = []
    for at, value in enumerate(stage["values"]):
        marks = ["chosen"] if value == stage["selected"] else []
        if stage["oracle"] is not None and value == stage["oracle"]:
            marks.append("best on test")
        rows.append(
            {
                "value": value,
                "pseudo": stage["pseudo_auroc"][at],
                "test": None if stage["test_auroc"] is None else stage["test_auroc"][at],
                "marks": marks,
            }
        )
    label = axis_label(stage["param"])
    alt = f"Image AUROC over {label}. On the pseudo set the best is {stage['selected']}"
    if stage["oracle"] is not None:
        alt += f"; on the real test set the best is {stage['oracle']}"
    return {
        **stage,
        "label": label,
        "title": "K" if stage["name"] == "k" else stage["name"],
        "rows": rows,
        "picture": _uri(png(curves_figure(correlation, [index])), "png"),
        "named": any(isinstance(value, str) for value in stage["values"]),
        "alt": f"{alt}. The figures are in the table of this stage.",
    }


def _categories(source: Source, correlation: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    matrix = source.test or source.pseudo
    for column, (name, figures) in enumerate(correlation["per_category"].items()):
        labels = [
            int(label)
            for label, category in zip(matrix.labels, matrix.categories, strict=True)
            if category == name
        ]
        reason = NO_MASKS
        if source.test is not None and column < len(source.test.pixel_reason):
            reason = source.test.pixel_reason[column] or reason
        rows.append(
            {
                "name": name,
                "normal": labels.count(0),
                "anomalous": labels.count(1),
                "figures": figures["final"],
                "reason": reason if figures["final"]["pixel_auroc"] is None else "",
            }
        )
    return rows


def _pictures(examples: Sequence[Example]) -> list[dict[str, Any]]:
    limits = value_ranges(examples)
    return [
        {
            "uri": _uri(jpeg(example_figure(example, limits[example.category]), dpi=130), "jpeg"),
            "kind": example.kind,
            "category": example.category,
            "id": example.id,
            "score": f"{example.score:.4g}",
            "outlined": example.mask is not None and bool(example.mask.any()),
        }
        for example in examples
    ]


def _provenance(source: Source) -> list[tuple[str, str]]:
    rows = [("report made with", f"pseudoval {pseudoval.__version__}")]
    for key in ("objective", "seed", "split_sha256", "model_sha256"):
        if key in source.best and key not in source.run:
            rows += _flat(key, source.best[key])
    for key, value in source.run.items():
        rows += _flat(key, value)
    for title, matrix in (("pseudo scores", source.pseudo), ("real test scores", source.test)):
        if matrix is not None:
            size = f"{len(matrix.configs)} configurations × {len(matrix.images)} images"
            rows += [(title, size), *_flat(title, matrix.header)]
    return rows


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """``{"a": {"b": 1}}`` as rows named ``a: b``."""
    if isinstance(value, Mapping):
        return [row for key, inner in value.items() for row in _flat(f"{name}: {key}", inner)]
    if isinstance(value, list):
        return [(name, ", ".join(str(inner) for inner in value))]
    # A storage URL may carry a password, and a report is made to be passed on.
    return [(name, "–" if value is None else re.sub(r"//[^/@\s]+@", "//…@", str(value)))]
