"""What the page says beyond its figures: sections, provenance, words for pictures."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import CONFIGS, make_run, write_example

from reports import Source, correlate, load_run
from reports.figures.examples import read_examples
from reports.findings.names import between, share
from reports.page.html import render_page, tied
from reports.page.pictures import curve_words, example_groups, paper_pictures
from reports.page.provenance import commands, facts
from reports.page.sections import (
    alike,
    cautions,
    heading,
    power,
    regrets,
    stage_rows,
    stage_values,
    tiles,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return load_run(make_run(tmp_path_factory.mktemp("page") / "run"))


@pytest.fixture(scope="module")
def correlation(source: Source) -> dict[str, Any]:
    return correlate(source)


def test_each_way_of_choosing_has_its_cost(correlation: dict[str, Any]) -> None:
    found = regrets(correlation)
    assert found is not None
    assert found["heads"] == ["all configurations", "stage\u00a0t", "stage\u00a0K"]
    rows = dict(found["rows"])
    chosen = rows["the choice made on the pseudo set"]
    assert chosen[0]["value"] == correlation["final"]["regret"]
    assert [cell["value"] for cell in chosen[1:]] == [s["regret"] for s in correlation["stages"]]
    assert [cell["value"] for cell in rows["the best on the test set itself"]] == [0.0] * 3
    assert "the detector's fixed default" not in rows  # this run does not know of one


def test_without_a_test_set_there_is_no_cost(tmp_path: Path) -> None:
    correlation = correlate(load_run(make_run(tmp_path / "run", test=False)))
    assert regrets(correlation) is None
    assert [tile["value"] for tile in tiles(correlation)][-1] == "not scored"
    assert all(row["name"].startswith("pseudo set") for row in power(correlation))
    assert len(power(correlation)) == 3


def test_rows_of_a_stage_say_what_cannot_be_told_apart(correlation: dict[str, Any]) -> None:
    stage = {**correlation["stages"][0], "pseudo_leading_set": [200, 300], "default": 300}
    rows = stage_rows(stage)["rows"]
    assert [row["sets"][0]["leading"] for row in rows] == [False, True, True]
    assert rows[1]["marks"][0] == "chosen" and rows[2]["marks"][-1] == "default"


def test_the_leading_set_is_told_by_stage(correlation: dict[str, Any]) -> None:
    final = {**correlation["final"], "pseudo_leading_set": [CONFIGS[1], CONFIGS[2], CONFIGS[4]]}
    assert alike(correlation | {"final": final}) == ["t = 200, 300", "K = 9"]
    alone = {**final, "pseudo_leading_set": [CONFIGS[1]]}
    assert alike(correlation | {"final": alone}) == []


def test_an_audit_is_told_in_words(source: Source, correlation: dict[str, Any]) -> None:
    audit = {
        "cells": 99,
        "scored": 15,
        "joint_choice": CONFIGS[0],
        "pseudo_loss": 0.008,
        "pseudo_loss_interval": [0.0, 0.053],
        "test_loss": 0.021,
        "test_loss_interval": None,
        "joint_choice_gain": -0.088,
        "joint_choice_gain_interval": [-0.136, -0.041],
    }
    page = re.sub(r"\s+", " ", render_page(source, correlation | {"audit": audit}, []))
    assert "15 of the 99 other cells" in page
    assert "lost 0.8 points there (95 % interval 0.0 to 5.3). On the real" in page
    assert "the best cell lies 2.1 points above the staged choice. Taking" in page
    assert "would have lost 8.8 points there (difference -13.6 to -4.1). The audit took" in page
    assert "joint search" not in render_page(source, correlation, [])


def test_several_runs_share_their_warnings(correlation: dict[str, Any]) -> None:
    rows = [{"run": "one"}, {"run": "two"}]
    runs = [{"warnings": [{"text": "Few."}, {"text": "Flat."}]}, {"warnings": [{"text": "Few."}]}]
    choices = [{"params": CONFIGS[0]}, {"params": CONFIGS[1]}]
    together = {"kind": "runs", "rows": rows, "choices": choices}
    found = correlation | {"runs": runs, "together": together}
    assert cautions(found) == ["one, two: Few.", "one: Flat."]
    assert heading(found) == "2 runs, 2 different choices"
    assert heading(correlation) == "Chosen without labels: t = 200, K = 2"
    assert tiles(found) == []


def test_small_words() -> None:
    assert stage_values({"configuration": "wide"}) == "wide"
    assert stage_values({"t": 200, "k": 3}) == "t = 200, K = 3"
    assert [share(v) for v in (0.0, 0.004, 0.006, 1.0, None)] == [
        "0 %",
        "< 1 %",
        "1 %",
        "100 %",
        "–",
    ]
    assert between([0.5, 0.75]) == "0.500 to 0.750" and between(None) == ""
    assert tied("t = 5 at 95 % of a") == "t\u00a0=\u00a05 at 95\u00a0% of a"


def test_commands_of_several_runs_and_of_score_files(
    source: Source, correlation: dict[str, Any]
) -> None:
    rows = [{"run": "one"}, {"run": "run two"}]
    together = correlation | {"together": {"kind": "runs", "rows": rows}}
    assert commands(source, together) == ["pseudoval report one 'run two'"]
    source.pseudo.header["source"] = "pseudo scores.csv"
    alone = replace(source, folder=None, test=None)
    assert commands(alone, correlation) == ["pseudoval report --scores 'pseudo scores.csv'"]


def test_facts_hide_passwords_and_repeat_nothing(
    source: Source, correlation: dict[str, Any]
) -> None:
    source.pseudo.header.update({"seed": 7, "data_sha256": "abc"})
    found = facts(source, correlation)
    told = dict(found)
    assert len(told) == len(found)
    assert told["storage"] == "postgresql://…@host/db"
    assert told["pseudo scores: images (SHA-256)"] == "abc"
    assert "pseudo scores: seed" not in told  # the same as that of the run
    assert told["versions"] == "numpy 2.x"


def test_words_for_curves(correlation: dict[str, Any]) -> None:
    stage = {**correlation["stages"][0], "pseudo_auroc": [0.5, 0.9, None], "test_auroc": None}
    assert curve_words(stage) == (
        "Image AUROC over corruption step t, chosen 200. On the pseudo set it is highest at 200 "
        "with 0.900; it is 0.500 at 100 and 0.900 at 200."
    )


def test_examples_say_what_their_maps_show(source: Source, tmp_path: Path) -> None:
    inside = np.zeros((24, 32), dtype=np.uint8)
    inside[20:, 28:] = 1  # the map of the helper is highest in this corner
    write_example(tmp_path / "pseudo-0.npz", "pseudo", 1, "cable", mask=inside)
    write_example(tmp_path / "pseudo-1.npz", "pseudo", 1, "cable")
    (group,) = example_groups(source, read_examples(tmp_path))
    first, second = group["strips"]
    assert first["alt"].endswith("its map, which peaks inside the mask.")
    assert second["alt"].endswith("its map, which peaks outside the mask.")
    assert first["rank"] is None and first["state"] == ""  # not an image of this run


def test_pictures_of_errors_say_what_is_seen(tmp_path: Path) -> None:
    write_example(tmp_path / "pseudo-0.npz", "pseudo", 1, "cable")
    (sheet,) = paper_pictures(read_examples(tmp_path))
    assert sheet["pictures"][0]["alt"].startswith("Pseudo anomalies of cable, each")
    for category in ("cable", "tire"):
        write_example(tmp_path / f"test-{category}.npz", "test", 0, category)
        write_example(tmp_path / f"test-{category}1.npz", "test", 1, category)
    _, errors = paper_pictures(read_examples(tmp_path))
    assert [picture["alt"] for picture in errors["pictures"]] == [
        f"{name}: inputs and error maps. On the normal image the highest error is 0.0 without "
        "editing and 1.0 with it. On the real defect the highest error is 0.0 without editing and "
        "1.0 with it."
        for name in ("cable", "tire")
    ]
