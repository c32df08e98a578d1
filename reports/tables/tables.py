"""Tables 1 to 5 for a paper: one figure per table, by category, as Markdown, CSV and LaTeX."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.findings.names import describe

FIGURES = {
    "test_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "image_ap": "image AP",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
}
"""What each table shows, in the order of their numbers."""
PSEUDO_FIGURES = {"pseudo_auroc": "image AUROC on the pseudo set"}
MISSING = "n/a"
MEAN, STD = "mean", "std between categories"
LATEX = str.maketrans(
    {
        **{sign: "\\" + sign for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure in [0, 1], None where it is not known, and its spread over seeds if there are
    several (standard deviation, dividing by n - 1)."""

    value: float | None
    spread: float | None = None

    def percent(self) -> str:
        """``98.4`` or ``98.4 ± 0.3``, in percent as papers print it."""
        if self.value is None:
            return MISSING
        text = f"{100 * self.value:.1f}"
        return text if self.spread is None else f"{text} ± {100 * self.spread:.1f}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One figure by category under some settings.

    Attributes:
        number: of the table, from 1.
        name: of its files, such as ``table1_image_auroc``.
        title: the figure.
        about: what the settings and deviations are, in a sentence or three; the same for all.
        columns: the settings.
        rows: for each category a cell per column.
        foot: the mean over categories and the deviation between them (dividing by n); empty for
            one category.
    """

    number: int
    name: str
    title: str
    about: str
    columns: list[str]
    rows: dict[str, list[Cell]]
    foot: dict[str, list[Cell]]

    def caption(self) -> str:
        """What is shown, and where figures are missing what the mean is over."""
        said = f"{self.title[0].upper()}{self.title[1:]} in percent. {self.about}"
        known = sum(all(cell.value is not None for cell in row) for row in self.rows.values())
        if self.foot and 0 < known < len(self.rows):
            said += f" The mean is over the {known} of {len(self.rows)} categories that have masks."
        return said


def paper_tables(correlation: Mapping[str, Any]) -> list[Table]:
    """The tables of a correlation: on the real test set, or on the pseudo set if that is all.

    The settings are the chosen configuration and the same t without feature editing; over several
    seeds their means; of several RUNs the chosen configuration of each.
    """
    tested = correlation["final"]["test_auroc"] is not None
    figures = FIGURES if tested else PSEUDO_FIGURES
    settings = _settings(correlation)
    about = _about(correlation, tested)
    categories = list(correlation["per_category"])
    tables = []
    for number, (figure, title) in enumerate(figures.items(), start=1):
        # [settings][categories] arrays over seeds, NaN where a figure is not known.
        found = [[read(figure, name) for name in categories] for read in settings.values()]
        rows = {
            name: [_cell(column[index]) for column in found]
            for index, name in enumerate(categories)
        }
        foot = {}
        if len(categories) > 1:
            foot = {
                MEAN: [_cell(_known_mean(column)) for column in found],
                STD: [_between(column) for column in found],
            }
        slug = figure.replace("test_auroc", "image_auroc")
        tables.append(
            Table(
                number=number,
                name=f"table{number}_{slug}",
                title=title,
                about=about,
                columns=list(settings),
                rows=rows,
                foot=foot,
            )
        )
    return tables


def table_files(correlation: Mapping[str, Any]) -> dict[str, bytes]:
    """Every table as ``tables/NAME.md``, ``.csv`` and ``.tex``."""
    files = {}
    for table in paper_tables(correlation):
        files[f"tables/{table.name}.md"] = markdown(table).encode()
        files[f"tables/{table.name}.csv"] = csv_text(table).encode()
        files[f"tables/{table.name}.tex"] = latex(table).encode()
    return files


def markdown(table: Table) -> str:
    """A table in Markdown, figures in percent."""
    lines = [["category", *table.columns], [":--", *["--:"] * len(table.columns)]]
    lines += [[name, *(cell.percent() for cell in row)] for name, row in _all_rows(table)]
    body = "\n".join("| " + " | ".join(_bar(text) for text in line) + " |" for line in lines)
    return f"**Table {table.number}.** {table.caption()}\n\n{body}\n"


def csv_text(table: Table) -> str:
    """A table as CSV with every digit, figures in [0, 1]; a column more for each spread."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    spread = any(cell.spread is not None for _, row in _all_rows(table) for cell in row)
    heads = [*table.columns, *(f"{name} (std over seeds)" for name in table.columns if spread)]
    writer.writerow(["category", *heads])
    for name, row in _all_rows(table):
        cells = [cell.value for cell in row] + [cell.spread for cell in row if spread]
        writer.writerow([name, *(MISSING if cell is None else repr(cell) for cell in cells)])
    return buffer.getvalue()


def latex(table: Table) -> str:
    """A table for LaTeX with the package booktabs, figures in percent."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"

    def body(rows: Mapping[str, Sequence[Cell]]) -> list[str]:
        return [line([name, *(cell.percent() for cell in row)]) for name, row in rows.items()]

    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{table.caption().translate(LATEX)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        line(["category", *table.columns]),
        r"\midrule",
        *body(table.rows),
        *([r"\midrule", *body(table.foot)] if table.foot else []),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


Read = Callable[[str, str], np.ndarray]
"""(figure, category) to its values, one per seed."""


def _settings(correlation: Mapping[str, Any]) -> dict[str, Read]:
    """The columns: a name, and how to read a figure of a category."""
    together = correlation.get("together")
    if together and together["kind"] == "runs":
        names = [row["run"] for row in together["rows"]]
        runs = correlation["runs"]
        return {name: _reader([run], None) for name, run in zip(names, runs, strict=True)}
    runs = correlation["runs"] if together else [correlation]
    finals = [run["final"] for run in runs]
    plain = [final["without_editing"] for final in finals]
    if any(one is None for one in plain) or all(
        one["params"] == final["params"] for one, final in zip(plain, finals, strict=True)
    ):
        return {"chosen": _reader(runs, None)}
    return {
        "without editing": _reader(runs, "without_editing"),
        "with editing": _reader(runs, None),
    }


def _reader(runs: Sequence[Mapping[str, Any]], part: str | None) -> Read:
    def read(figure: str, category: str) -> np.ndarray:
        finals = [run["per_category"][category]["final"] for run in runs]
        values = [(final if part is None else final[part])[figure] for final in finals]
        return np.array([math.nan if value is None else value for value in values])

    return read


def _about(correlation: Mapping[str, Any], tested: bool) -> str:
    """What a caption says of the settings and the deviations."""
    together = correlation.get("together")
    final = correlation["final"]
    if together and together["kind"] == "runs":
        said = "Each run with its own choice."
    else:
        said = f"Chosen without labels: {describe(final['params'])}"
        plain = final["without_editing"]
        if plain is not None and plain["params"] != final["params"]:
            said += f"; without editing: {describe(plain['params'])}"
        said += "."
    if together and together["kind"] == "seeds":
        count = len(together["rows"])
        said += f" Mean ± standard deviation over {count} {together['noun']} (dividing by n - 1)."
    if len(correlation["per_category"]) > 1:
        said += " The deviation between categories divides by their number n."
    if not tested:
        said += " No real test set was scored; this says nothing about real defects."
    return said


def _cell(values: np.ndarray) -> Cell:
    """Mean and spread over seeds; unknown if any of them is."""
    if np.isnan(values).any():
        return Cell(value=None)
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return Cell(value=float(values.mean()), spread=spread)


def _known_mean(column: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the categories that have the figure, for each seed."""
    known = [values for values in column if not np.isnan(values).any()]
    return np.mean(known, axis=0) if known else np.array([math.nan])


def _between(column: Sequence[np.ndarray]) -> Cell:
    """Deviation between the categories' means over seeds, as the paper divides: by n."""
    known = [float(values.mean()) for values in column if not np.isnan(values).any()]
    return Cell(value=float(np.std(known)) if known else None)


def _all_rows(table: Table) -> list[tuple[str, list[Cell]]]:
    return [*table.rows.items(), *table.foot.items()]


def _bar(text: str) -> str:
    """A name with a bar in it would end its cell."""
    return text.replace("|", "\\|")
