"""``report.html``: one self-contained page without requests to anywhere."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from reports.figures.examples import Example
from reports.figures.style import axis_label, numeric
from reports.findings.forms import Correlation
from reports.findings.names import auroc, between, describe, points, share
from reports.findings.source import Source
from reports.findings.verdict import verdict
from reports.page import sections
from reports.page.pictures import category_pictures, curve_picture, example_groups, paper_pictures
from reports.page.provenance import commands, facts
from reports.tables.tables import paper_tables

TEMPLATES = Path(__file__).parent / "templates"


def render_page(source: Source, correlation: Correlation, examples: Sequence[Example]) -> str:
    """The page as text; the same input gives the same text.

    Args:
        source: the run; the first of several.
        correlation: what ``correlate`` made of it, or ``correlate_together`` of several.
        examples: all that there are; some of each kind are shown.
    """
    return render(
        "report.html.j2",
        name=source.name,
        heading=sections.heading(correlation),
        verdict=verdict(correlation),
        tested=correlation["final"]["test_auroc"] is not None,
        from_run=source.folder is not None,
        correlation=correlation,
        final=correlation["final"],
        together=correlation.get("together"),
        bootstrap=correlation["bootstrap"],
        several=len(correlation["configurations"]) > 1,
        warnings=sections.cautions(correlation),
        stages=[_with_pictures(correlation, index) for index in range(len(correlation["stages"]))],
        parts=sections.parts(correlation),
        heads=sections.heads(correlation),
        regrets=sections.regrets(correlation),
        statistics=sections.statistics(correlation),
        alike=sections.alike(correlation),
        reasons=sections.pixel_reasons(source),
        tables=paper_tables(correlation),
        figures=paper_pictures(examples),
        groups=example_groups(source, examples),
        maps=any(one.map is not None for one in examples),
        commands=commands(source, correlation),
        facts=facts(source, correlation),
    )


def render(template: str, **values: Any) -> str:
    """A page from a template of ``TEMPLATES``, with its style, script and policy inside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "auroc": auroc,
        "points": points,
        "share": share,
        "count": lambda number: "–" if number is None else f"{number:,}",
        "range": between,
        "points_range": lambda pair: between(pair, points),
        "tied": tied,
        "stage_values": sections.stage_values,
        "label": axis_label,
        "symbol": sections.symbol,
        "statistic": sections.statistic_words,
        "params": describe,
    }
    environment.tests["numeric"] = numeric
    style, script = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js")
    )
    fixed = {"style": style, "script": script, "policy": _policy(style, script)}
    return environment.get_template(template).render(**fixed, **values)


def tied(text: str) -> str:
    """A text whose equations and percentages no line break takes apart."""
    return re.sub(r" (?==)|(?<==) | (?=%)", "\u00a0", text)


def _with_pictures(correlation: Correlation, index: int) -> dict[str, Any]:
    stage = correlation["stages"][index]
    by_category = {
        name: part["stages"][index] for name, part in correlation["per_category"].items()
    }
    return {
        **stage,
        "picture": curve_picture(stage),
        "panels": category_pictures(by_category) if len(by_category) > 1 else [],
    }


def _policy(style: str, script: str) -> str:
    """A content security policy that lets in this style, this script and inline pictures only."""

    def allowed(text: str) -> str:
        # The browser hashes what stands between the tags, line breaks included.
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; img-src data:; style-src {allowed(style)}; "
        f"script-src {allowed(script)}; base-uri 'none'; form-action 'none'"
    )
