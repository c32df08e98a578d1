"""Ranges, numbers that are not whole and texts, from a command or a study file to the report."""

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import planned_scores, refused

from pseudoval.cli.commands import run
from pseudoval.errors import UserError
from pseudoval.metrics.runs import read_best, read_header
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.train import train
from pseudoval.scoring import evaluate_run
from studies import run_study

STUDY = """
[[stage]]
name = "search"
sampler = "tpe"
trials = 10
values.power = {from = 0.05, to = 5}
values.colours = "default"
fixed.cell = 4

[[stage]]
name = "cells"
values.cell = {from = 2, to = 8, step = 3}
"""


def test_a_detector_with_a_parameter_of_each_kind(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    train(road / "data", road / "pseudo", model, detector="own_classes:Power")
    study, out = tmp_path / "study.toml", tmp_path / "run"
    study.write_text(STUDY)

    def tuned(folder: Path, **more: object):  # type: ignore[no-untyped-def]
        return run_study(study, model=model, pseudo=road / "pseudo", out=folder, **more)  # type: ignore[arg-type]

    best = tuned(out).best
    first, last = best["stages"]
    powers = [config["power"] for config in first["configs"]]
    assert len(powers) == len(set(powers)) == 10
    assert all(isinstance(p, float) and 0.05 <= p <= 5 and p % 0.05 for p in powers)
    assert {config["colours"] for config in first["configs"]} <= {"0", "1,2", "0,1,2"}
    assert np.median(np.array(powers, float)) < 1.5, "drawn in the logarithm"
    assert last["values"] == [2, 5, 8] and last["param"] == "cell"
    chosen = first["configs"][first["values"].index(first["selected"])]
    assert best["params"] == {**chosen, "cell": last["selected"]}
    assert ScoreMatrix.load(out / "pseudo_scores.npz").configs == [
        *first["configs"], *(c for c in last["configs"] if c not in first["configs"])
    ]  # fmt: skip
    header = read_header(out)
    assert header["grids"]["power"] == {"from": 0.05, "to": 5.0, "step": None, "log": True}
    assert header["grids"]["cell"] == [2, 5, 8]
    assert header["ranges"] == {"power": [0.05, 5], "cell": [1, 16]}
    table = pd.read_csv(out / "trials.csv")
    assert table["params"].tolist()[-1].startswith("cell=8;colours=")
    assert not tuned(out).fresh
    assert tuned(tmp_path / "again").best == best

    evaluate_run(out, road / "data")
    assert ScoreMatrix.load(out / "test_scores.npz").configs[:10] == first["configs"]
    assert run(["report", str(out)]) == 0
    final = json.loads((out / "report" / "correlation.json").read_text())["final"]
    assert final["params"] == best["params"] and final["regret"] >= 0

    wrong = {
        "values.colours = {from = 1, to = 2}": "colours has no order",
        "values.power = [0.1, 'x']": "The values of power are [0.1, 'x']; give a list of numbers",
        "values.power = {from = 0.1, to = 1, log = true, step = 0.1}": "logarithmic",
        "values.power = {from = 0, to = 1, log = true}": "begins above 0",
        "values.power = {from = 0.1, to = 0.2}": "no end of its values",
        "values.power = [0.01]": "power = 0.01 cannot be scored; it must be a number from 0.05",
        "values.colours = ['2']": "it must be one of '0', '1,2', '0,1,2'",
        "sampler = 'random'\nvalues.power = {from = 0.1, to = 1}": "number of its trials",
    }
    for text, what in wrong.items():
        fixed = {"power": "1.0", "colours": "'0'", "cell": "4"}
        held = "".join(f"fixed.{n} = {v}\n" for n, v in fixed.items() if f"values.{n}" not in text)
        study.write_text(f"[[stage]]\n{text}\n{held}")
        with pytest.raises(UserError) as caught:
            tuned(tmp_path / "no")
        assert what in str(caught.value), str(caught.value)
    assert not (tmp_path / "no").exists()


@pytest.mark.usefixtures("blank_pictures")
def test_ranges_on_the_command_line(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plan(config: dict, label: int, noise: np.ndarray) -> float:
        return label + abs(np.log(config["t"] / 300)) * noise[config["k"] % 8]

    planned_scores(monkeypatch, road / "pseudo", plan)
    out = tmp_path / "run"
    command = ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"),
               "--out", str(out)]  # fmt: skip
    searched = ["--t", "25..900", "--trials", "12", "--sampler", "tpe", "--k", "2..6:2"]
    assert run([*command, *searched]) == 0
    best, header = read_best(out), read_header(out)
    first, last = best["stages"]
    assert len(first["values"]) == 12 and first["values"] == sorted(first["values"])
    assert all(isinstance(t, int) and 25 <= t <= 900 for t in first["values"])
    assert last["values"] == [2, 4, 6], "no more than there are trials: all of them"
    assert [stage["sampler"] for stage in header["stages"]] == ["tpe", "grid"]
    assert (header["sampler"], header["trials"]) == ("tpe", 12)
    assert run(["report", str(out)]) == 0
    page = (out / "report" / "report.html").read_text()
    assert "--t 25..900 --k 2,4,6 --sampler tpe --trials 12" in page
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(out / "optuna.journal"))
    )
    trial = optuna.load_study(study_name="t_then_k/t", storage=storage).trials[0]
    assert trial.distributions == {"t": optuna.distributions.IntDistribution(25, 900)}
    assert set(trial.intermediate_values) == {0, 1}, "of two categories"
    refused(capsys, [*command, *searched[:3], "9", *searched[4:]], "another stages")
    capsys.readouterr()
    other = [*command[:-1], str(tmp_path / "no")]
    assert run([*command, *searched]) == 0 and "nothing to do" in capsys.readouterr().out

    for options, what in [
        (["--t", "900..25", "--trials", "3"], "The range of t goes from 900 down to 25"),
        (["--t", "25.5..900", "--trials", "3"], "t takes whole numbers, and its range has 25.5"),
        (["--t", "25,1.5"], "The values of t are [25, 1.5]; give a list of whole numbers"),
        (["--t", "25..9000", "--trials", "3"], "t = 9000 cannot be scored"),
        (["--t", "25..900:0"], "The step of t is 0; give one above 0"),
        (["--t", "25..90", "--sampler", "tpe"], "give the number of its trials"),
        (["--trials", "3"], "3 trials are for a sampler or a range"),
        (["--sampler", "grid", "--trials", "3"], "3 trials are for a sampler or a range"),
        (["--sampler", "simplex"], "There is no sampler 'simplex'; the samplers are grid, "),
        (["--t", "25..900", "--trials", "3", "--audit-joint", "0.5"], "no cells to audit"),
    ]:
        refused(capsys, [*other, *options], what)
    for wrong in ("25..", "1,,2", "a..b", "1..2:x"):
        assert run([*other, "--t", wrong]) == 2
        assert f"'{wrong}' is neither a list" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_sampler_as_an_object(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_scores(monkeypatch, road / "pseudo", lambda config, label, noise: label + noise[0])
    found = run_study(
        "joint", model=road / "model", pseudo=road / "pseudo", out=tmp_path / "run",
        t={"from": 100, "to": 500, "step": 100}, k={"from": 1, "to": 6},
        trials=5, sampler=optuna.samplers.RandomSampler(seed=3),
    )  # fmt: skip
    own = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    ints = optuna.distributions.IntDistribution
    asked = [
        own.ask({"t": ints(100, 500, step=100), "k": ints(1, 6, log=True)}).params for _ in range(5)
    ]
    assert sorted(asked, key=lambda p: (p["t"], p["k"])) == found.best["stages"][0]["configs"]
    assert read_header(tmp_path / "run")["sampler"] == "RandomSampler"
