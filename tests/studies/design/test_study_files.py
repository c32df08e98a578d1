"""Studies as TOML files, and what a wrong one is told."""

import json
from pathlib import Path

import pytest
from helpers import planned_scores, refused

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from pseudoval.models.open import open_detector
from studies import read_study

FILE = """\
name = "fine"
summary = "around the paper's choice"
objective = "image_ap"
rule = "margin"

[[stage]]
name = "coarse"
editing = false
values.t = {from = 100, to = 300, step = 100}

[[stage]]
values.k = [4, 1]

[[stage]]
name = "both"
sampler = "tpe"
trials = 3
[stage.values]
t = [50, 100]
k = [1, 2]
"""


@pytest.fixture(scope="module")
def detector(road: Path) -> LafiteDetector:
    found = open_detector(road / "model", seed=0, device="cpu")
    assert isinstance(found, LafiteDetector)
    return found


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_what_a_file_says(detector: LafiteDetector, tmp_path: Path) -> None:
    study = read_study(written(tmp_path, FILE), detector)
    assert (study.name, study.detector) == ("fine", "lafite")
    assert (study.objective, study.rule) == ("image_ap", "margin")
    first, second, third = study.stages
    assert first.configs({}) == [{"t": t, "k": 0} for t in (100, 200, 300)]
    assert second.name == "k", "named by what it varies"
    assert second.configs({"t": 300}) == [{"t": 300, "k": k} for k in (1, 4)]
    assert (third.sampler, third.budget, third.inherits) == ("tpe", 3, ())
    own = read_study(written(tmp_path, '[[stage]]\nfixed.t=150\nvalues.k="default"\n'), detector)
    assert own.name == "study"
    assert own.stages[0].grid["k"] == detector.parameters[1].grid


def test_tune_runs_a_file(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_scores(monkeypatch, road / "pseudo", lambda config, label, noise: label + noise[0])
    path, out = written(tmp_path, FILE), tmp_path / "run"
    command = ["tune", "--study", str(path), "--model", str(road / "model"), "--pseudo",
               str(road / "pseudo"), "--out", str(out)]  # fmt: skip
    assert run(command) == 0
    best = json.loads((out / "best.json").read_text())
    assert (best["study"], best["objective"], best["rule"]) == ("fine", "image_ap", "margin")
    assert [stage["name"] for stage in best["stages"]] == ["coarse", "k", "both"]
    assert run(["report", str(out)]) == 0
    page = (out / "report" / "report.html").read_text()
    assert "--study ../study.toml" in page
    assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    refused(capsys, [*command, "--rule", "best"], "another rule (margin there, best now)")
    refused(capsys, [*command, "--t", "25"], "grids of its own; leave --t and --k out")
    written(tmp_path, FILE.replace("[4, 1]", "[4, 1, 2]"))
    refused(capsys, command, "another stages")
    written(tmp_path, FILE.replace("trials = 3", "trials = 2"))
    refused(capsys, command, "another stages")
    assert run(["studies"]) == 0
    assert 'values.t = "default"' in capsys.readouterr().out


STAGE = "[[stage]]\n"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("name = fine\n" + FILE, 1, "not a TOML file"),
        (FILE.replace('"fine"', "3"), 1, "name is not text in quotes"),
        (FILE.replace("rule =", "rules ="), 4, "there is no 'rules'; known are"),
        (FILE.replace('"margin"', '"widest"'), 4, "no selection rule 'widest'"),
        (FILE.replace('"image_ap"', '"f1"'), 3, "no objective 'f1'"),
        (FILE.replace("[4, 1]", "[]"), 12, "neither a list, nor a range"),
        (FILE.replace("[4, 1]", "[4, 1.5]"), 12, "1.5 is no value of k; give a whole number"),
        (FILE.replace("[4, 1]", "[4, -1]"), 12, "-1 is no value of k"),
        (FILE.replace("[4, 1]", "{from = 4, to = 1}"), 12, "the range of k is empty"),
        (FILE.replace("[4, 1]", "{from = 4}"), 12, "a range of k is {from = 100"),
        (FILE.replace("values.k", "values.q"), 12, "no parameter 'q'; it has t and k"),
        (FILE.replace("t = [50, 100]", "t = [50, true]"), 19, "True is no value of t"),
        (FILE.replace('"both"', '"k"'), 15, "two stages are named 'k'"),
        (FILE.replace('"tpe"', '"cma"'), 16, "no sampler 'cma'; the samplers are grid, tpe"),
        (FILE.replace('"tpe"', '"grid"'), 17, "trials is for the sampler tpe"),
        (FILE.replace("= false\n", "= false\nfixed.k = 2\n"), 8, "editing = false fixes k"),
        (STAGE + "values.t = [1]\nfixed.t = 1\n", 2, "t has values and is fixed"),
        (STAGE + "values.t = [1]\n", 2, "no stage before this one selects k"),
        (STAGE + "fixed.t = 1\n", 1, "the stage varies nothing"),
        ('name = "x"\n', 1, "there is no stage"),
    ],
)
def test_a_wrong_file_gets_the_line_and_the_mend(
    detector: LafiteDetector, tmp_path: Path, text: str, line: int, what: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_study(path, detector)
    told = str(caught.value)
    assert told.startswith(str(path)) and what in told
    assert f"line {line}" in told, told


def test_a_file_that_is_not_there(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "--study", str(tmp_path / "no.toml"), "--model", str(road / "model"),
               "--pseudo", str(road / "pseudo"), "--out", str(tmp_path / "run")]  # fmt: skip
    refused(capsys, command, "There is no study file at")
    written(tmp_path, STAGE + "values.t = [5000]\nfixed.k = 1\n")
    command[2] = str(tmp_path / "study.toml")
    refused(capsys, command, "t = 5000 cannot be scored")
    assert not (tmp_path / "run").exists()
