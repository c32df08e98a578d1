"""The pictures of the page as data URIs, each with words that say what is seen on it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reports.figures.curves import category_figures, stage_figure
from reports.figures.errors import errors_figure, shown_blocks
from reports.figures.examples import (
    KINDS,
    Example,
    by_category,
    choose_examples,
    rank_among_normals,
    value_range,
)
from reports.figures.features import Patches, features_figure, planes
from reports.figures.sheet import example_figure, sheet_figure
from reports.figures.style import axis_label, jpeg, numeric, svg
from reports.findings.source import Source

FOUND_SHARE = 0.95
"""An anomaly counts as found in the examples if it scores higher than this share of normals."""
PAPER = {
    "The pseudo anomalies": "What the choice was made on: each pseudo anomaly as a whole with the "
    "outline of its mask, and a close-up of the largest part as the detector sees it. If these "
    "look nothing like defects, the choice deserves less trust.",
    "What feature editing adds": "The error of each patch between its features and their "
    "reconstruction, without and with editing, at the chosen setting. One colour scale for each "
    "category.",
    "Where the patches lie": "Feature vectors of single patches in the plane of their two main "
    "directions at step 0, before and after noising, on the same axes. Where noise brings the two "
    "kinds together the anomaly is forgotten; where it leaves them apart, the anomaly survives "
    "into the reconstruction.",
}
"""Titles and captions of the pictures that are numbered as in the paper, in their order."""


def curve_picture(stage: Mapping[str, Any]) -> dict[str, str]:
    """The macro curves of a stage."""
    return {"uri": _vectors(stage_figure(stage)), "alt": curve_words(stage)}


def category_pictures(by_category: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The curves of each category for one stage."""
    return [
        {
            "name": name,
            "uri": _vectors(figure),
            "alt": f"{name}. {curve_words(by_category[name])}",
            "regret": by_category[name]["regret"],
        }
        for name, figure in category_figures(by_category).items()
    ]


def curve_words(stage: Mapping[str, Any]) -> str:
    """Where the curves start, peak and end."""
    sentences = [f"Image AUROC over {axis_label(stage['param'])}, chosen {stage['selected']}."]
    for key, name in (("pseudo_auroc", "pseudo"), ("test_auroc", "real test")):
        known = [
            (value, auroc)
            for value, auroc in zip(stage["values"], stage[key] or [], strict=False)
            if auroc is not None
        ]
        if not known:
            continue
        best = max(known, key=lambda pair: pair[1])
        if key == "test_auroc" and stage["oracle"] is not None:
            best = next(pair for pair in known if pair[0] == stage["oracle"])
        text = f"On the {name} set it is highest at {best[0]} with {best[1]:.3f}"
        if numeric(stage["values"]) and len(known) > 1:
            (first, start), (last, end) = known[0], known[-1]
            text += f"; it is {start:.3f} at {first} and {end:.3f} at {last}"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def paper_pictures(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The sheet of pseudo anomalies, the errors and the feature planes, where there are any.

    Returns:
        For each its title, caption and ``pictures``: of errors and planes one for each category,
        so that they can stand under each other where there is little room.
    """
    sheet = sheet_figure(examples)
    names = dict.fromkeys(one.category for one in examples if one.kind == KINDS[1])
    sheet_words = (
        f"Pseudo anomalies of {', '.join(names)}, each as a whole with the outline of its mask "
        "and as a close-up without it."
    )
    errors = [
        (errors_figure(rows), _error_words(name, rows)) for name, rows in shown_blocks(examples)
    ]
    members = by_category(examples)
    flat = [
        (features_figure(members[name]), _plane_words(name, one)) for name, one in planes(examples)
    ]
    found = [
        {
            "title": title,
            "pictures": [{"uri": _photo(one), "alt": alt} for one, alt in drawn if one is not None],
            "caption": caption,
        }
        for (title, caption), drawn in zip(
            PAPER.items(), ([(sheet, sheet_words)], errors, flat), strict=True
        )
    ]
    return [one for one in found if one["pictures"]]


def example_groups(source: Source, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Examples by category, each with its strip, its rank among the normals, and words."""
    groups = []
    for category, members in by_category(choose_examples(examples)).items():
        # A scale per picture would paint the brightest spot of a normal image like a defect.
        scale = value_range([one.map for one in members if one.map is not None])
        strips = [_strip(source, one, scale) for one in members]
        groups.append({"category": category, "scale": scale, "strips": strips})
    return groups


def _strip(source: Source, example: Example, limits: tuple[float, float]) -> dict[str, Any]:
    matrix = source.pseudo if example.which == "pseudo" else source.test
    rank = rank_among_normals(example, matrix)
    state = ""
    if example.kind != KINDS[0] and rank is not None:
        state = "found" if rank >= FOUND_SHARE else "missed"
    alt = f"{example.kind[0].upper()}{example.kind[1:]} of {example.category}"
    alt += f", {state}: " if state else ": "
    outlined = example.mask is not None and bool(example.mask.any())
    alt += "the image, " + ("its outlined mask" if outlined else "the image again")
    alt += "" if example.map is None else ", its map"
    peak = _peak_words(example.mask, example.map) if outlined else ""
    return {
        "uri": _photo(example_figure(example, limits)),
        "kind": example.kind,
        "id": example.id,
        "score": f"{example.score:.4g}",
        "rank": rank,
        "state": state,
        "peak": peak,
        "alt": f"{alt}{', which ' + peak if peak else ''}.",
    }


def _peak_words(mask: np.ndarray | None, values: np.ndarray | None) -> str:
    """Whether the highest value of a map lies in the mask; maps cover the whole image."""
    if mask is None or values is None:
        return ""
    row, column = np.unravel_index(np.argmax(values), values.shape)
    down, right = np.array(mask.shape) / values.shape
    inside = mask[int((row + 0.5) * down), int((column + 0.5) * right)]
    return f"peaks {'inside' if inside else 'outside'} the mask"


def _error_words(category: str, rows: Sequence[Example]) -> str:
    sentences = [f"{category}: inputs and error maps."]
    for one in rows:
        assert one.errors is not None
        plain, edited = (value_range([error])[1] for error in one.errors)
        sentences.append(
            f"On the {one.kind} the highest error is {plain:.1f} without editing and "
            f"{edited:.1f} with it."
        )
    return " ".join(sentences)


def _plane_words(category: str, patches: Patches) -> str:
    before, after = patches.separations
    return (
        f"{category}: scatter of normal and anomalous patches. Their centres lie {before:.1f} "
        f"radii of the normal patches apart at step 0 and {after:.1f} at step {patches.large_t}."
    )


def _vectors(figure: Figure) -> str:
    return data_uri(svg(figure), "svg+xml")


def _photo(figure: Figure) -> str:
    return data_uri(jpeg(figure), "jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """A picture such as ``jpeg`` or ``svg+xml`` as text that stands in the page itself."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
