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


@pytest.mark.usefixtures("blank_pictures")
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
    assert "--study study.toml" in page
    assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    refused(capsys, [*command, "--rule", "best"], "another rule (margin there, best now)")
    refused(capsys, [*command, "--t", "25"], "grids of its own; leave --t out")
    written(tmp_path, FILE.replace("[4, 1]", "[4, 1, 2]"))
    refused(capsys, command, "another stages")
    written(tmp_path, FILE.replace("trials = 3", "trials = 2"))
    refused(capsys, command, "another stages")
    assert run(["studies"]) == 0
    listed = capsys.readouterr().out
    assert 'values.t = "default"' in listed and "grid, bruteforce, cmaes, gp, " in listed


STAGE = "[[stage]]\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name = fine\n" + FILE, "not a TOML file: Invalid value (at line 1, column 8)"),
        (FILE.replace('"fine"', "3"), ": name = 3 is not text in quotes"),
        (FILE.replace("rule =", "rules ="), ": There is no 'rules'; known are"),
        (FILE.replace('"margin"', '"widest"'), ": There is no selection rule 'widest'"),
        (FILE.replace('"image_ap"', '"f1"'), ": There is no objective 'f1'"),
        (FILE.replace("[4, 1]", "[]"), ", stage 2: The grid over k is empty"),
        (FILE.replace("[4, 1]", "[4, 1.5]"), ", stage 2: The values of k are [4, 1.5]"),
        (FILE.replace("[4, 1]", "[4, -1]"), ", stage 2: The grid over k starts at -1"),
        (
            FILE.replace("[4, 1]", "{from = 4, to = 1}"),
            ", stage 2: The range of k goes from 4 down",
        ),
        (FILE.replace("[4, 1]", "{from = 4}"), ", stage 2: A range of k is {from = 100"),
        (
            FILE.replace("values.k", "values.q"),
            ", stage 2: The detector lafite has no parameter 'q'",
        ),
        (
            FILE.replace("t = [50, 100]", "t = [50, true]"),
            ", stage 3: The values of t are [50, True]",
        ),
        (FILE.replace('"both"', '"k"'), ", stage 3: Two stages are named 'k'"),
        (FILE.replace('"tpe"', '"cma"'), "no sampler 'cma'; the samplers are grid, "),
        (FILE.replace('"tpe"', '"grid"'), ", stage 3: trials = 3 is not possible"),
        (FILE.replace("= false\n", "= false\nfixed.k = 2\n"), ", stage 1: editing = false fixes k"),
        (STAGE + "values.t = [1]\nfixed.t = 1\n", ", stage 1: t has values and is fixed"),
        (STAGE + "values.t = [1]\n", ", stage 1: No stage before this one selects k"),
        (STAGE + "fixed.t = 1\n", ", stage 1: The stage varies nothing"),
        ("stage = [3]\n", ", stage 1: 3 is not a table"),
        ('name = "x"\n', ": There is no stage"),
    ],
)
def test_a_wrong_file_gets_the_stage_and_the_mend(
    detector: LafiteDetector, tmp_path: Path, text: str, what: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_study(path, detector)
    assert str(caught.value).startswith(str(path)) and what in str(caught.value)


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
