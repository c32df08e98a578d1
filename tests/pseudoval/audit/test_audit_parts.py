"""The parts of an audit on input whose answer is known."""

from typing import Any

import numpy as np
import pytest

from pseudoval.audit.measures import measure, summary
from pseudoval.audit.sheets import COLUMNS, TILE, contact_sheet, fitted
from pseudoval.audit.warnings import warnings
from pseudoval.cli.output import audit_lines


def test_measures_of_a_known_square() -> None:
    background = np.full((20, 30, 3), 100, np.uint8)
    background[:, 15:] = 200  # contrast enough for the full floor of 8 grey levels
    image, mask = background.copy(), np.zeros((20, 30), bool)
    mask[5:9, 5:10] = True
    image[mask] += np.array([30, 0, 60], np.uint8)
    image[0, 0, 0] += 1
    foreground = np.zeros((20, 30), bool)
    foreground[:, :8] = True
    found = measure(image, mask, background, foreground)
    assert found["area"] == pytest.approx(20 / 600, abs=1e-6)
    assert found["visibility"] == 30
    assert found["floor"] == 8
    assert found["outside"] == pytest.approx(1 / 580, abs=1e-6)
    assert found["on_object"] == 12 / 20
    assert not found["empty"] and not found["invisible"]


def test_invisible_is_judged_by_the_contrast_of_the_background() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    even = np.full((20, 20, 3), 100, np.uint8)
    rough = even + (np.arange(20) % 2 * 60).astype(np.uint8)[:, None, None]
    assert not measure(even + mask[..., None] * np.uint8(3), mask, even, None)["invisible"]
    assert measure(rough + mask[..., None] * np.uint8(3), mask, rough, None)["invisible"]
    assert measure(even, mask, even, None)["invisible"]


def test_an_empty_mask_is_empty_and_not_invisible() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    found = measure(image, np.zeros((20, 20), bool), image, np.ones((20, 20), bool))
    assert found["empty"] and not found["invisible"]
    assert found["visibility"] is None and found["on_object"] is None


def test_a_summary_of_what_is_known() -> None:
    found = summary([None, *range(101)])
    assert found == {
        "mean": 50, "min": 0, "low": 5, "median": 50, "high": 95, "max": 100, "count": 101
    }  # fmt: skip
    assert summary([None]) is None


def test_a_sheet_shows_every_picture_in_its_place() -> None:
    red = np.zeros((50, 100, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    mask = np.ones((40, 40), bool)
    rows = [("", {"one": red, "two": None, "mask": mask})] * (COLUMNS + 1)
    sheet = contact_sheet(rows)
    reds = (sheet == [255, 0, 0]).all(axis=2).sum()
    assert reds == (COLUMNS + 1) * TILE * TILE // 2
    black = contact_sheet([("", {"mask": np.zeros((9, 9), bool)})])
    assert (black == 0).all(axis=2).sum() >= TILE * TILE
    assert contact_sheet(rows).tobytes() == sheet.tobytes()


@pytest.mark.parametrize("size", [(10, 10), (1000, 50), (50, 1000), (300, 200)])
def test_a_tile_keeps_proportions(size: tuple[int, int]) -> None:
    tile = fitted(np.zeros((*size, 3), np.uint8))
    assert max(tile.size) == TILE
    assert tile.height / tile.width == pytest.approx(size[0] / size[1], rel=0.05)


def category(**changed: Any) -> dict[str, Any]:
    plain = {"low": 0.1, "median": 0.9, "high": 1.0}
    return {
        "normals": 5, "anomalies": 10, "image_auroc": 0.9, "area": plain, "visibility": plain,
        "on_object": plain, "empty": 0, "invisible": 0, "changed_outside": 0,
        "near_duplicates": None, **changed,
    }  # fmt: skip


def content(**categories: dict[str, Any]) -> dict[str, Any]:
    aurocs = [one["image_auroc"] for one in categories.values()]
    found = {
        "categories": categories,
        "image_auroc": None if None in aurocs else float(np.mean(aurocs)),
        "reference": {"backbone": "filterbank", "from": "normals"},
        "reference_reason": None,
        "near_duplicates_reason": None,
    }
    return {**found, "warnings": warnings(found)}


def codes(**categories: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(w["code"], w["category"]) for w in content(**categories)["warnings"]]


def test_a_sound_set_has_no_warnings() -> None:
    assert codes(a=category(), b=category(image_auroc=0.7)) == []


def test_saturated_and_guessing() -> None:
    solved, guessed = category(image_auroc=0.999), category(image_auroc=0.51)
    assert codes(a=solved, b=solved) == [("saturated", None)]
    assert codes(a=solved, b=category()) == [("saturated", "a")]
    assert codes(a=guessed, b=guessed) == [("guessing", None)]
    assert codes(a=guessed, b=category()) == [("guessing", "a")]
    assert codes(a=category(image_auroc=0.995)) == []  # at the limit there is still some room
    assert codes(a=category(image_auroc=None)) == []
    for both in (solved, guessed):
        text = content(a=both, b=both)["warnings"][0]["text"]
        assert "--set opacity=" in text and "--set scale=" in text


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("empty", {"empty": 1}),
        ("invisible", {"invisible": 2}),
        ("changed_outside", {"changed_outside": 3}),
        ("off_object", {"on_object": {"median": 0.49}}),
        ("near_duplicates", {"near_duplicates": {"with_training": 4}}),
    ],
)
def test_every_finding_is_named_with_its_category(code: str, changed: dict[str, Any]) -> None:
    found = content(a=category(**changed), b=category())
    assert [(w["code"], w["category"]) for w in found["warnings"]] == [(code, "a")]
    assert found["warnings"][0]["text"].startswith("a: ")


def test_the_table_says_what_is_not_known() -> None:
    nothing = category(image_auroc=None, on_object=None, visibility=None)
    lines = list(audit_lines({**content(long_name=nothing), "reference_reason": "no bank"}))
    assert lines[0].split()[:2] == ["category", "AUROC"]
    assert lines[1].split()[:4] == ["long_name", "n/a", "5", "10"]
    assert len(lines[0]) == len(lines[1])
    assert "difficulty not measured: no bank" in lines
