"""Tables 1 to 5 for a paper: one metric per table, by category, as Markdown, CSV and LaTeX."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.findings.names import describe

METRICS = {
    "test_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "image_ap": "image AP",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
}
"""What each table shows, in the order of their numbers."""
PSEUDO_METRICS = {"pseudo_auroc": "image AUROC on the pseudo set"}
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
class Table:
    """One metric by category under some settings.

    Attributes:
        number: of the table, from 1.
        name: of its files, such as ``table1_image_auroc``.
        title: the metric.
        about: what the settings and deviations are, in a sentence or three; the same for all.
        values: in [0, 1], a row per category and a column per setting, NaN where not known; of
            several categories the last two rows are their mean and the deviation between them
            (dividing by n).
        spread: of the same form, the standard deviation over seeds (dividing by n - 1); NaN where
            there is one seed only.
        foot: number of rows that are no category, 0 or 2.
    """

    number: int
    name: str
    title: str
    about: str
    values: pd.DataFrame
    spread: pd.DataFrame
    foot: int

    def caption(self) -> str:
        """What is shown, and where values are missing what the mean is over."""
        text = f"{self.title[0].upper()}{self.title[1:]} in percent. {self.about}"
        rows = self.values.iloc[: len(self.values) - self.foot]
        known = len(rows.dropna())
        if self.foot and 0 < known < len(rows):
            text += f" The mean is over the {known} of {len(rows)} categories that have masks."
        return text

    def percent(self) -> pd.DataFrame:
        """The cells as papers print them: ``98.4``, ``98.4 ± 0.3``, or ``n/a``."""
        text = (100 * self.values).map("{:.1f}".format, na_action="ignore")
        spread = (100 * self.spread).map(" ± {:.1f}".format, na_action="ignore")
        return (text + spread.astype(object).fillna("")).fillna(MISSING)


def paper_tables(correlation: Mapping[str, Any]) -> list[Table]:
    """The tables of a correlation: on the real test set, or on the pseudo set if that is all.

    The settings are the chosen configuration and the same t without feature editing; over several
    seeds their means; of several RUNs the chosen configuration of each.
    """
    tested = correlation["final"]["test_auroc"] is not None
    settings = _settings(correlation)
    categories = list(correlation["per_category"])
    tables = []
    for number, (metric, title) in enumerate((METRICS if tested else PSEUDO_METRICS).items(), 1):
        columns = {
            name: _column(pd.DataFrame([read(metric, one) for one in categories], categories))
            for name, read in settings.items()
        }
        tables.append(
            Table(
                number=number,
                name=f"table{number}_{metric.replace('test_auroc', 'image_auroc')}",
                title=title,
                about=_about(correlation, tested),
                values=pd.DataFrame({name: column[0] for name, column in columns.items()}),
                spread=pd.DataFrame({name: column[1] for name, column in columns.items()}),
                foot=2 if len(categories) > 1 else 0,
            )
        )
    return tables


def table_files(correlation: Mapping[str, Any]) -> dict[str, bytes]:
    """Every table as ``tables/NAME.md``, ``.csv`` and ``.tex``."""
    forms = {"md": markdown, "csv": csv_text, "tex": latex}
    return {
        f"tables/{table.name}.{ending}": write(table).encode()
        for table in paper_tables(correlation)
        for ending, write in forms.items()
    }


def markdown(table: Table) -> str:
    """A table in Markdown, in percent."""
    percent = table.percent()
    lines = [["category", *percent.columns], [":--", *["--:"] * percent.shape[1]]]
    lines += percent.reset_index().to_numpy().tolist()
    # A name with a bar in it would end its cell.
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    body = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return f"**Table {table.number}.** {table.caption()}\n\n{body}\n"


def csv_text(table: Table) -> str:
    """A table as CSV with every digit, in [0, 1]; a column more for each spread."""
    frames = [table.values]
    if table.spread.notna().any(axis=None):
        frames.append(table.spread.add_suffix(" (std over seeds)"))
    joined = pd.concat(frames, axis=1)
    return str(joined.to_csv(index_label="category", na_rep=MISSING, lineterminator="\n"))


def latex(table: Table) -> str:
    """A table for LaTeX with the package booktabs, in percent."""
    percent = table.percent().reset_index(names="category").map(_escaped).rename(columns=_escaped)
    text = percent.style.hide(axis="index").to_latex(
        column_format="l" + "r" * (percent.shape[1] - 1),
        position_float="centering",
        hrules=True,
        caption=_escaped(table.caption()),
        label=f"tab:{table.name.replace('_', '-')}",
    )
    lines = [r"% needs \usepackage{booktabs}", *text.splitlines()]
    if table.foot:
        lines.insert(-table.foot - 3, r"\midrule")  # below it foot, bottom rule and two ends
    return "\n".join(lines) + "\n"


Read = Callable[[str, str], list[float]]
"""(metric, category) to its values, one per seed."""


def _settings(correlation: Mapping[str, Any]) -> dict[str, Read]:
    """The columns: a name, and how to read a metric of a category."""
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
    def read(metric: str, category: str) -> list[float]:
        finals = [run["per_category"][category]["final"] for run in runs]
        values = [(final if part is None else final[part])[metric] for final in finals]
        return [math.nan if value is None else value for value in values]

    return read


def _about(correlation: Mapping[str, Any], tested: bool) -> str:
    """What a caption says of the settings and the deviations."""
    together = correlation.get("together")
    final = correlation["final"]
    if together and together["kind"] == "runs":
        text = "Each run with its own choice."
    else:
        text = f"Chosen without labels: {describe(final['params'])}"
        plain = final["without_editing"]
        if plain is not None and plain["params"] != final["params"]:
            text += f"; without editing: {describe(plain['params'])}"
        text += "."
    if together and together["kind"] == "seeds":
        count = len(together["rows"])
        text += f" Mean ± standard deviation over {count} {together['noun']} (dividing by n - 1)."
    if len(correlation["per_category"]) > 1:
        text += " The deviation between categories divides by their number n."
    if not tested:
        text += " No real test set was scored; this says nothing about real defects."
    return text


def _column(of_seeds: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Mean and spread over seeds of ``[categories, seeds]``, and of several categories the foot.

    A category is unknown if it is for any seed; the mean over the others is taken seed by seed.
    """
    means, spreads = of_seeds.mean(axis=1, skipna=False), of_seeds.std(axis=1, skipna=False)
    if len(of_seeds) > 1:
        of_all = of_seeds.dropna().mean()  # of each seed
        foot = [of_all.mean(), means.std(ddof=0)]
        means = pd.concat([means, pd.Series(foot, [MEAN, STD])])
        spreads = pd.concat([spreads, pd.Series([of_all.std(), np.nan], [MEAN, STD])])
    return means, spreads


def _escaped(text: str) -> str:
    return text.translate(LATEX)
