"""What a reader of a report has to be warned of."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pseudoval.statistics.intervals import compare
from pseudoval.statistics.rules import BEST, RULES
from reports.findings.forms import Correlation, StageFindings, Which
from reports.findings.names import digits
from reports.findings.source import Source, Stage, stage_configs
from reports.findings.uncertainty import Evidence

SATURATED = 0.99
FEW_IMAGES = 50
"""Images of a class below which the coverage of the intervals was not measured."""


def warnings(source: Source, found: Correlation) -> list[dict[str, Any]]:
    """The warnings that are due, as ``{"code", "stage", "category", "text", ...}``.

    Args:
        found: the rest of ``correlation.json``.
    """
    return [
        *_saturated(found),
        *(due for name in found["sets"] for due in _few_images(found["sets"], name)),
        *(due for stage in found["stages"] for due in _stage(source, stage)),
        *_unstable(found),
    ]


def has_neighbours(stage: Stage) -> bool:
    """Whether a stage has at least three values, all of them numbers."""
    return len(stage.values) > 2 and not any(isinstance(value, str) for value in stage.values)


def at_edge(stage: Stage) -> Literal["low", "high"] | None:
    """``low`` or ``high`` if the choice is the lowest or highest of at least three numbers."""
    if not has_neighbours(stage) or 0 < stage.selected < len(stage.values) - 1:
        return None
    return "high" if stage.selected else "low"


def is_flat(evidence: Evidence, stage: Stage, category: str) -> bool:
    """Whether the chosen number and its neighbours cannot be told apart on the pseudo set."""
    if not has_neighbours(stage):
        return False
    before, chosen = stage.configs[: stage.selected], stage.configs[stage.selected]
    configs = [chosen, *before[-1:], *stage.configs[stage.selected + 1 :][:1]]
    return bool(compare(evidence.part("pseudo", configs, category), 0).together.all())


def _saturated(found: Correlation) -> Iterator[dict[str, Any]]:
    auroc = found["final"]["pseudo_auroc"]
    if auroc is not None and auroc >= SATURATED:
        yield _warning(
            "saturated",
            f"The pseudo set is nearly saturated: the chosen configuration reaches an AUROC of "
            f"{auroc:.3f} on it, so what separates it from others rests on a few images; harder "
            "pseudo anomalies would tell more.",
        )


def _few_images(sets: Mapping[Which, Any], which: Which) -> Iterator[dict[str, Any]]:
    categories = {} if sets[which] is None else sets[which]["categories"]
    smallest = {
        name: min(sizes["normal"], sizes["anomalous"]) for name, sizes in categories.items()
    }
    few = {category: size for category, size in smallest.items() if size < FEW_IMAGES}
    if few:
        what = "pseudo set" if which == "pseudo" else "real test set"
        listed = ", ".join(f"{category} {size}" for category, size in few.items())
        text = (
            f"The {what} has fewer than {FEW_IMAGES} images of a class in {len(few)} of "
            f"{len(smallest)} categories ({listed}); its intervals are wide, and how well they "
            "cover was not measured for so few."
        )
        yield _warning("few_images", text, set=which, categories=few)


def _stage(source: Source, stage: StageFindings) -> Iterator[dict[str, Any]]:
    name, edge = "K" if stage["param"] == "k" else stage["param"], stage["at_edge"]
    chosen = f"{name} = {digits(stage['selected'])}"
    if edge is not None and not _nothing_beyond(source, stage):
        text = (
            f"The chosen {chosen} is the {edge}est value tried; the best may lie outside of the "
            "grid."
        )
        yield _warning("edge_of_grid", text, stage=stage["name"], edge=edge)
    if stage["flat"]:
        why = "so which of them won is chance"
        if source.rule != BEST:
            why = f"and the rule {source.rule} took {RULES[source.rule].takes}"
        text = (
            f"The pseudo curve is flat where {name} was chosen: {chosen} and its neighbours on the "
            f"grid cannot be told apart, {why}."
        )
        yield _warning("flat", text, stage=stage["name"])
    correlation = stage["correlations"]["spearman"]
    comparable = stage["test_auroc"] is not None and len(stage["values"]) > 2
    if comparable and not correlation["differs_from_zero"]:
        text = _not_correlated(name, correlation)
        yield _warning("correlation_zero", text, stage=stage["name"])


def _nothing_beyond(source: Source, stage: StageFindings) -> bool:
    """Whether the edge is that of what is possible, or another stage went beyond it (K = 0)."""
    param, selected = stage["param"], stage["selected"]
    if selected in source.run.get("ranges", {}).get(param, ()):
        return True
    chosen = next(s.configs[s.selected] for s in source.stages if s.name == stage["name"])
    beyond = [
        config[param]
        for config in stage_configs(source)
        if param in config and {**config, param: selected} == chosen
    ]
    sign = -1 if stage["at_edge"] == "low" else 1
    return any(sign * (float(value) - float(selected)) > 0 for value in beyond)


def _not_correlated(name: str, correlation: Mapping[str, Any]) -> str:
    if correlation["value"] is None:
        return (
            f"Over {name} the pseudo and the real curve have no correlation: one of them is "
            "constant, or fewer than three values have both."
        )
    between = ""
    if correlation["interval"] is not None:
        between = " ({:.2f} to {:.2f})".format(*correlation["interval"])
    return (
        f"Over {name} the rank correlation between the pseudo and the real curve, "
        f"{correlation['value']:.2f}{between}, is not different from zero (p = "
        f"{correlation['p']:.2g})."
    )


def _unstable(found: Correlation) -> Iterator[dict[str, Any]]:
    changed = [entry for entry in found["stability"] if not entry["same"]]
    if changed:
        listed = ", ".join(f"{entry['left_out']} {entry['name']}" for entry in changed)
        text = (
            f"The choice changes in {len(changed)} of {len(found['stability'])} cases when one "
            f"part of the pseudo set is left out ({listed})."
        )
        yield _warning("unstable", text, left_out=[entry["name"] for entry in changed])


def _warning(code: str, text: str, **data: Any) -> dict[str, Any]:
    return {"code": code, "stage": None, "category": None, "text": text, **data}
