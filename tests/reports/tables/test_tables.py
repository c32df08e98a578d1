"""The tables for a paper against figures worked out by hand."""

import csv
import io
from typing import Any

import pandas as pd
import pytest

from reports.tables.tables import Table, csv_text, latex, markdown, paper_tables, table_files

CHOSEN, PLAIN = {"t": 200, "k": 2}, {"t": 200, "k": 0}


def _figures(auroc: float, pixel: float | None) -> dict[str, Any]:
    return {
        "test_auroc": auroc,
        "pixel_auroc": pixel,
        "image_ap": 0.5,
        "pixel_ap": None,
        "pixel_aupro": None,
        "pseudo_auroc": auroc / 2,
    }


def _correlation(shift: float = 0.0, tested: bool = True) -> dict[str, Any]:
    """Image AUROC .8 and .9, and .6 and .8 without editing; one category with masks."""

    def final(edited: float, plain: float, pixel: float | None) -> dict[str, Any]:
        found = {**_figures(edited + shift, pixel), "params": CHOSEN}
        found["without_editing"] = {**_figures(plain, None), "params": PLAIN}
        return found if tested else found | {"test_auroc": None}

    return {
        "final": final(0.85, 0.7, 0.97),
        "per_category": {
            "a_b": {"final": final(0.8, 0.6, None)},
            "c": {"final": final(0.9, 0.8, 0.97)},
        },
    }


def cells(table: Table) -> dict[str, list[str]]:
    """The cells of each row in percent."""
    return {name: list(row) for name, *row in table.percent().itertuples()}


def test_by_category_mean_and_deviation() -> None:
    tables = paper_tables(_correlation())
    assert [table.title for table in tables] == [
        "image AUROC",
        "pixel AUROC",
        "image AP",
        "pixel AP",
        "AUPRO",
    ]
    image = tables[0]
    assert list(image.values.columns) == ["without editing", "with editing"]
    assert cells(image) == {
        "a_b": ["60.0", "80.0"],
        "c": ["80.0", "90.0"],
        "mean": ["70.0", "85.0"],
        "std between categories": ["10.0", "5.0"],
    }
    assert "t = 200, K = 2; without editing: t = 200, K = 0." in image.caption()


def test_what_is_not_known_is_not_zero() -> None:
    pixel, ap = paper_tables(_correlation())[1], paper_tables(_correlation())[3]
    assert cells(pixel)["a_b"] == ["n/a", "n/a"]
    assert cells(pixel)["mean"] == ["n/a", "97.0"]
    assert ap.values.isna().all(axis=None)
    assert "0.0" not in markdown(ap) and "n/a" in latex(ap)
    table = pd.read_csv(io.StringIO(csv_text(ap)), index_col="category")
    assert table.isna().all(axis=None)


def test_a_mean_over_some_categories_says_so() -> None:
    correlation = _correlation()
    correlation["per_category"]["c"]["final"]["without_editing"]["pixel_auroc"] = 0.5
    pixel = paper_tables(correlation)[1]
    assert cells(pixel)["mean"] == ["50.0", "97.0"]
    assert pixel.caption().endswith("The mean is over the 1 of 2 categories that have masks.")


def test_seeds_give_a_spread_that_divides_by_one_less() -> None:
    runs = [_correlation(), _correlation(0.02)]
    together = {"kind": "seeds", "noun": "seeds", "rows": [{"run": "seed-0"}, {"run": "seed-1"}]}
    image = paper_tables(runs[0] | {"runs": runs, "together": together})[0]
    assert cells(image)["c"] == ["80.0 ± 0.0", "91.0 ± 1.4"]
    assert cells(image)["mean"] == ["70.0 ± 0.0", "86.0 ± 1.4"]
    assert cells(image)["std between categories"][1] == "5.0"
    assert r"91.0 $\pm$ 1.4" in latex(image)
    rows = list(csv.DictReader(io.StringIO(csv_text(image))))
    assert float(rows[1]["with editing (std over seeds)"]) == pytest.approx(0.02 / 2**0.5)
    assert "over 2 seeds" in image.caption()


def test_several_runs_stand_side_by_side() -> None:
    runs = [_correlation(), _correlation(0.02)]
    together = {"kind": "runs", "rows": [{"run": "perlin"}, {"run": "lafite"}]}
    image = paper_tables(runs[0] | {"runs": runs, "together": together})[0]
    assert list(image.values.columns) == ["perlin", "lafite"]
    assert cells(image)["a_b"] == ["80.0", "82.0"]


def test_a_choice_without_editing_has_one_column() -> None:
    correlation = _correlation()
    correlation["final"]["params"] = PLAIN
    assert list(paper_tables(correlation)[0].values.columns) == ["chosen"]
    correlation["final"]["without_editing"] = None
    assert list(paper_tables(correlation)[0].values.columns) == ["chosen"]


def test_without_a_test_set_there_is_the_pseudo_set_alone() -> None:
    (table,) = paper_tables(_correlation(tested=False))
    assert table.title == "image AUROC on the pseudo set"
    assert cells(table)["c"][1] == "45.0"
    assert "says nothing about real defects" in table.caption()


def test_the_three_forms_say_the_same() -> None:
    files = table_files(_correlation())
    assert len(files) == 15
    text = files["tables/table1_image_auroc.tex"].decode()
    assert r"a\_b & 60.0 & 80.0 \\" in text
    order = [
        r"\toprule",
        r"\midrule",
        r"c &",
        r"\midrule",
        "mean &",
        r"\bottomrule",
        r"\end{table}",
    ]
    at = -1
    for part in order:
        at = text.index(part, at + 1)
    assert text.count("{") == text.count("}")
    assert "| a_b | 60.0 | 80.0 |" in files["tables/table1_image_auroc.md"].decode()
    table = pd.read_csv(io.BytesIO(files["tables/table1_image_auroc.csv"]), index_col="category")
    assert table.loc["mean", "with editing"] == pytest.approx(0.85)


def test_names_are_escaped() -> None:
    correlation = _correlation()
    correlation["per_category"] = {r"a|b & 50% \x^~": correlation["per_category"]["c"]}
    table = paper_tables(correlation)[0]
    assert table.foot == 0
    escaped = r"a|b \& 50\% \textbackslash{}x\textasciicircum{}\textasciitilde{} & 80.0"
    assert escaped in latex(table)
    assert r"| a\|b & 50% \x^~ | 80.0 |" in markdown(table)
