"""``audit.html``: what ``pseudoval audit`` found, as one self-contained page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pseudoval.data.files import read_versioned, require_folder, write_text
from pseudoval.errors import UserError
from reports.figures.distributions import distributions_figure
from reports.figures.style import svg
from reports.page.html import render, tied
from reports.page.pictures import data_uri

AUDIT, PAGE = "audit.json", "audit.html"


def write_audit_page(folder: Path) -> Path:
    """Render ``audit.html`` from the ``audit.json`` and the sheets of an audit folder.

    The same files give the same bytes; the page makes no request.

    Returns:
        The page.

    Raises:
        UserError: not an audit folder, an audit of another format, or a sheet is missing.
    """
    require_folder(folder, "audit", "pseudoval audit PSEUDO")
    audit = read_versioned(folder / AUDIT, "The audit")
    sheets = {}
    for name, entry in audit["categories"].items():
        if entry["sheet"] is None:
            continue
        path = folder / entry["sheet"]
        if not path.is_file():
            raise UserError(f"The contact sheet {path} is missing; run 'pseudoval audit' again.")
        sheets[name] = data_uri(path.read_bytes(), "png")
    write_text(folder / PAGE, render_audit(audit, sheets))
    return folder / PAGE


def render_audit(audit: Mapping[str, Any], sheets: Mapping[str, str]) -> str:
    """The page as text.

    Args:
        audit: the content of ``audit.json``.
        sheets: contact sheet of each category as a data URI.
    """
    figure = distributions_figure(audit)
    return render(
        "audit.html.j2",
        heading=heading(audit),
        verdict=tied(audit_verdict(audit)),
        audit=audit,
        generator=audit["generator"]["name"],
        warnings=[tied(warning["text"]) for warning in audit["warnings"]],
        spread=None if figure is None else data_uri(svg(figure), "svg+xml"),
        pairs=[
            pair
            for entry in audit["categories"].values()
            if entry["near_duplicates"]
            for pair in entry["near_duplicates"]["pairs"]
        ],
        sheets=sheets,
        facts=_facts(audit),
    )


def heading(audit: Mapping[str, Any]) -> str:
    """The finding in a few words."""
    codes = {(warning["code"], warning["category"]) for warning in audit["warnings"]}
    if ("saturated", None) in codes:
        return "This set is too easy to rank anything"
    if ("guessing", None) in codes:
        return "This set is too hard to rank anything"
    if audit["warnings"]:
        return "A pseudo set to read with care"
    return "A pseudo set without findings"


def audit_verdict(audit: Mapping[str, Any]) -> str:
    """What the set is and how hard it is, in two sentences."""
    categories = audit["categories"].values()
    normals = sum(entry["normals"] for entry in categories)
    anomalies = sum(entry["anomalies"] for entry in categories)
    count = len(categories)
    sentence = (
        f"{normals} held-out normals and {anomalies} pseudo anomalies of {count} "
        f"{'category' if count == 1 else 'categories'}, by {audit['generator']['name']}."
    )
    if audit["image_auroc"] is None:
        reason = audit["reference_reason"] or "a category lacks normals or anomalies"
        return f"{sentence} How hard it is was not measured: {reason}."
    return (
        f"{sentence} Nearest neighbours ({audit['reference']['backbone']}, K = 1) reach a mean "
        f"image AUROC of {audit['image_auroc']:.3f}."
    )


def _facts(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    generator, reference = audit["generator"], audit["reference"] or {}
    return [
        ("pseudoval", audit["package_version"]),
        ("manifest SHA-256", audit["manifest_sha256"]),
        ("split SHA-256", audit["split_sha256"]),
        ("seed, split seed", f"{audit['seed']}, {audit['split_seed']}"),
        ("generator", generator["name"]),
        *((f"generator: {name}", str(value)) for name, value in generator["parameters"].items()),
        *((f"reference: {name}", str(value)) for name, value in reference.items()),
    ]
