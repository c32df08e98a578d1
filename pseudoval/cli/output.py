"""What commands print when they are done."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def choice_lines(best: Mapping[str, Any], out: Path) -> Iterator[str]:
    """What a study found, from ``best.json``: a line per stage, the choice, the audit."""
    for stage in best["stages"]:
        cells = "  ".join(
            f"{value}:{'failed' if found is None else format(found, '.3f')}"
            for value, found in zip(stage["values"], stage["objective_value"], strict=True)
        )
        yield f"{stage['param']:>2}  {cells}  -> {stage['selected']}"
        if stage["selected"] != stage["leader"]:
            from pseudoval.statistics.rules import RULES  # brings SciPy, which no other line needs

            yield (
                f"    {stage['param']} = {stage['leader']} is highest, "
                f"{stage['param']} = {stage['selected']} is {RULES[best['rule']].takes} "
                f"(rule {best['rule']})"
            )
    params = ", ".join(f"{name} = {value}" for name, value in best["params"].items())
    yield f"{out}: chose {params}; pseudo AUROC {best['pseudo_auroc']:.4f}" + (
        f", {best['objective']} {best['objective_value']:.4f}"
        if best["objective"] != "macro_image_auroc"
        else ""
    )
    if audit := best.get("audit"):
        known = [value for value in audit["pseudo_auroc"] if value is not None]
        highest = f"{max(known):.4f}" if known else "unknown, all of them failed"
        yield (
            f"{out}: {len(audit['configs'])} of {audit['cells']} cells off the path; the highest "
            f"pseudo AUROC among them is {highest}"
        )


def build_lines(manifest: Mapping[str, Any], out: Path) -> Iterator[str]:
    """What ``build`` found out, where objects are; and counts."""
    kinds = manifest["foreground"]
    if any(kind != "none" for kind in kinds.values()):
        words = {"texture": "texture: whole image"}
        yield "foreground: " + ", ".join(f"{c} ({words.get(k, k)})" for c, k in kinds.items())
    anomalies = sum(image["label"] for image in manifest["images"])
    yield (
        f"{out}: {len(manifest['images']) - anomalies} normals and {anomalies} pseudo anomalies "
        f"of {', '.join(manifest['categories'])}"
    )


def audit_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """What an audit found, from ``audit.json``: a table, the reference, and the warnings."""
    heads = ("category", "AUROC", "normals", "anomalies", "area %", "change", "on object %",
             "empty", "invisible", "near-dup.")  # fmt: skip
    rows = [heads]
    for name, found in content["categories"].items():
        near = found["near_duplicates"]
        rows.append(
            (
                name,
                _number(found["image_auroc"], 1, 3),
                str(found["normals"]),
                str(found["anomalies"]),
                _median(found["area"], 100, 2),
                _median(found["visibility"], 1, 1),
                _median(found["on_object"], 100, 0),
                str(found["empty"]),
                str(found["invisible"]),
                "n/a" if near is None or near["with_training"] is None else
                str(near["with_training"]),
            )
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells)
    yield "area, change (grey levels in the mask) and share on the object are medians"
    if content["image_auroc"] is not None:
        reference = content["reference"]
        yield (
            f"nearest neighbours, {reference['backbone']}, bank of the {reference['from']}: mean "
            f"image AUROC {content['image_auroc']:.4f}"
        )
    elif content["reference_reason"]:
        yield f"difficulty not measured: {content['reference_reason']}"
    if content["near_duplicates_reason"]:
        yield f"near-duplicates not counted: {content['near_duplicates_reason']}"
    for warning in content["warnings"]:
        yield f"warning: {warning['text']}"


def _median(found: Mapping[str, Any] | None, factor: float, digits: int) -> str:
    return _number(None if found is None else found["median"], factor, digits)


def _number(value: float | None, factor: float, digits: int) -> str:
    return "n/a" if value is None else f"{factor * value:.{digits}f}"
