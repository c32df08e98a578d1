"""What commands print when they are done."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def choice_lines(best: Mapping[str, Any], out: Path) -> Iterator[str]:
    """What a study found, from ``best.json``: a line per stage, the choice, the audit."""
    for stage in best["stages"]:
        pruned = [one["value"] for one in stage.get("race", {"pruned": []})["pruned"]]
        judged = stage.get("objective_value", stage["pseudo_auroc"])  # absent in older RUNs
        cells = "  ".join(
            f"{value}:{_figure(figure, value in pruned)}"
            for value, figure in zip(stage["values"], judged, strict=True)
        )
        yield f"{stage['param']:>2}  {cells}  -> {stage['selected']}"
        if "race" in stage:
            scored, grid = stage["race"]["image_configurations"], stage["race"]["full_grid"]
            yield f"    raced: {scored} of {grid} image-configurations, {len(pruned)} pruned"
        if stage["selected"] != stage.get("leader", stage["selected"]):
            yield (
                f"    {stage['param']} = {stage['leader']} is highest, "
                f"{stage['param']} = {stage['selected']} the cheapest that {best['rule']} allows"
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


def _figure(figure: float | None, pruned: bool) -> str:
    if figure is None:
        return "pruned" if pruned else "failed"
    return format(figure, ".3f")
