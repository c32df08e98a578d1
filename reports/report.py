"""``pseudoval report``: from one run, or from scores alone, to a folder to read."""

from collections.abc import Sequence
from pathlib import Path

from pseudoval.errors import UserError
from pseudoval.files import claim_folder, write_bytes, write_json, write_text
from reports.correlation import correlate
from reports.curves import curves_table
from reports.examples import read_examples
from reports.figures.curves import curves_figure
from reports.figures.style import png
from reports.html import render_page
from reports.source import Source, load_csv, load_run


def write_report(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    scores: Path | None = None,
    test_scores: Path | None = None,
) -> Path:
    """Write ``correlation.json``, ``curves.csv``, ``curves.png`` and ``report.html``.

    The same input gives the same bytes: no file holds a date or an absolute path of its own.

    Args:
        runs: one RUN folder, or none if ``scores`` is given.
        out: folder to write; ``RUN/report`` for None, or ``report`` for CSVs.
        scores: CSV of pseudo scores, instead of a RUN.
        test_scores: CSV of real test scores that belongs to ``scores``.

    Returns:
        The report's folder.

    Raises:
        UserError: not exactly one RUN or CSV, input that cannot be read or contradicts itself, or
            an output folder that is not ours.
    """
    source = _load(runs, scores, test_scores)
    if out is None:
        out = Path("report") if source.folder is None else source.folder / "report"
    correlation = correlate(source)
    curves = curves_table(source)
    examples = [] if source.folder is None else read_examples(source.folder / "examples")
    claim_folder(out, "report")
    page = render_page(source, correlation, examples)
    picture = png(curves_figure(correlation))
    write_json(out / "correlation.json", correlation)
    write_text(out / "curves.csv", curves.to_csv(index=False, lineterminator="\n"))
    write_bytes(out / "curves.png", picture)
    write_text(out / "report.html", page)
    return out


def _load(runs: Sequence[Path], scores: Path | None, test_scores: Path | None) -> Source:
    if runs and (scores is not None or test_scores is not None):
        raise UserError("A report is made from a RUN or from score files; give one of the two.")
    if scores is not None:
        return load_csv(scores, test_scores)
    if test_scores is not None:
        raise UserError(
            f"{test_scores} holds test scores only; give the pseudo scores with --scores too."
        )
    if not runs:
        raise UserError("There is nothing to report on; give a RUN folder or --scores FILE.")
    if len(runs) > 1:
        raise UserError(
            f"{len(runs)} RUN folders were given, and a report covers one; report on one at a time."
        )
    return load_run(runs[0])
