"""``pseudoval report``: from runs, or from scores alone, to a folder to read."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pseudoval.data.files import claim_folder, write_bytes, write_text
from pseudoval.errors import UserError
from pseudoval.metrics.runs import load_run as load_header
from reports.figures.examples import read_examples
from reports.findings.correlation import correlate
from reports.findings.curves import curves_table
from reports.findings.forms import write_correlation
from reports.findings.source import Source, load_csv, load_run
from reports.findings.together import RUNS, SEEDS, Kind, correlate_together
from reports.page.html import render_page
from reports.paper import extra_files


def write_report(
    runs: Sequence[Path],
    out: Path | None = None,
    *,
    scores: Path | None = None,
    test_scores: Path | None = None,
) -> Path:
    """Write ``correlation.json``, ``curves.csv``, ``curves.png``, ``report.html`` and more.

    The same input gives the same bytes: no file holds a date or an absolute path of its own.

    Args:
        runs: RUN folders, or none if ``scores`` is given. A RUN of several seeds is read as so
            many RUNs.
        out: folder to write; ``RUN/report`` for None, or ``report`` for several RUNs and CSVs.
        scores: CSV of pseudo scores, instead of a RUN.
        test_scores: CSV of real test scores that belongs to ``scores``.

    Returns:
        The report's folder.

    Raises:
        UserError: neither a RUN nor a CSV or both, input that cannot be read or contradicts
            itself, or an output folder that is not ours.
    """
    sources, kind = _load(runs, scores, test_scores)
    if out is None:
        out = runs[0] / "report" if len(runs) == 1 else Path("report")
    if len(sources) == 1:
        correlation = correlate(sources[0])
    else:
        correlation = correlate_together(sources, kind=kind)
    first = sources[0]
    curves = pd.concat([curves_table(source) for source in sources], ignore_index=True)
    examples = [] if first.folder is None else read_examples(first.folder / "examples")
    claim_folder(out, "report")
    page = render_page(first, correlation, examples)
    further = extra_files(first, correlation, examples)
    for folder in ("figures", "tables"):
        # An earlier report may have had more of them, of a test set that is gone.
        shutil.rmtree(out / folder, ignore_errors=True)
    write_correlation(out, correlation)
    write_text(out / "curves.csv", curves.to_csv(index=False, lineterminator="\n"))
    write_bytes(out / "curves.png", further["figures/figure6_curves.png"])
    for name, data in further.items():
        write_bytes(out / name, data)
    write_text(out / "report.html", page)
    return out


def _load(
    runs: Sequence[Path], scores: Path | None, test_scores: Path | None
) -> tuple[list[Source], Kind]:
    """The sources, and whether they are the seeds of one RUN."""
    if runs and (scores is not None or test_scores is not None):
        raise UserError("A report is made from a RUN or from score files; give one of the two.")
    if scores is not None:
        return [load_csv(scores, test_scores)], RUNS
    if test_scores is not None:
        raise UserError(
            f"{test_scores} holds test scores only; give the pseudo scores with --scores too."
        )
    if not runs:
        raise UserError("There is nothing to report on; give a RUN folder or --scores FILE.")
    if len(set(runs)) < len(runs):
        raise UserError("A RUN folder was given twice; give each once.")
    opened = [load_header(run) for run in runs]
    folders = [member.folder for run in opened for member in run.members.values()]
    sources = [load_run(folder) for folder in folders]
    kind = SEEDS if len(runs) == 1 and len(folders) > 1 else RUNS
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.as_posix() for folder in folders]
    for one in sources[1:]:
        if one.pseudo.category_names != sources[0].pseudo.category_names:
            raise UserError(
                f"{one.folder} has the categories {', '.join(one.pseudo.category_names)}, and "
                f"{sources[0].folder} has {', '.join(sources[0].pseudo.category_names)}; only RUNs "
                "of the same categories stand side by side."
            )
    if len(sources) > 1:
        sources = [replace(one, name=name) for one, name in zip(sources, names, strict=True)]
    return sources, kind
