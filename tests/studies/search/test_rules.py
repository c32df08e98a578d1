"""The rule of a study: in its files, in its choice, in its report; failed configurations."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import planned_scores
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pseudoval.cli.commands import run
from pseudoval.data.files import write_json
from pseudoval.errors import UserError
from reports import correlate, load_run
from studies import Outcome, run_study

GRIDS = {"t": [25, 300, 900], "k": [1, 4, 6]}


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch, road: Path) -> None:
    """t = 300 is best by far; every K solves the set, and K = 4 sets its scores farthest apart."""
    apart = {1: 8.0, 4: 20.0, 6: 12.0}

    def plan(config: dict, label: int, noise: np.ndarray) -> float:
        if config["k"] == 0:
            return {25: -1.0, 300: 1.0, 900: -1.0}[config["t"]] * label + 0.1 * noise[0]
        return apart[config["k"]] * label + noise[1] / 4

    planned_scores(monkeypatch, road / "pseudo", plan)


def tuned(road: Path, out: Path, **options: object) -> Outcome:
    return run_study(
        "t_then_k", model=road / "model", pseudo=road / "pseudo", out=out, **{**GRIDS, **options}
    )  # type: ignore[arg-type]


def test_margin_takes_the_k_that_sets_scores_farthest_apart(
    solved: None, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By order alone the values of K tie, and the smallest would win."""
    plain, wide = (tuned(road, tmp_path / rule, rule=rule).best for rule in ("best", "margin"))
    for rule, best in (("best", plain), ("margin", wide)):
        header = json.loads((tmp_path / rule / "run.json").read_text())
        assert header["rule"] == best["rule"] == rule
    assert plain["stages"][1]["pseudo_auroc"] == wide["stages"][1]["pseudo_auroc"] == [1, 1, 1]
    assert plain["params"] == {"t": 300, "k": 1}
    assert wide["params"] == {"t": 300, "k": 4}
    first, last = wide["stages"]
    assert first["selected"] == first["leader"] == 300, "a plain lead is kept"
    assert first["within"] == [300]
    assert last["within"] == [1, 4, 6] and last["leader"] == 1
    assert np.argsort(last["separation"]).tolist() == [0, 2, 1]
    # Again the same, by the command; another rule is another study.
    command = ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"), "--out",
               str(tmp_path / "margin"), "--t", "25,300,900", "--k", "1,4,6"]  # fmt: skip
    assert run([*command, "--rule", "margin"]) == 0
    printed = capsys.readouterr().out
    assert "nothing to do" in printed
    assert "k = 4 is the one that sets scores farthest apart" in printed
    with pytest.raises(UserError, match=r"another rule \(margin there, best now\)"):
        tuned(road, tmp_path / "margin")


@pytest.mark.usefixtures("blank_pictures")
def test_a_report_judges_by_the_rule_of_the_run(solved: None, road: Path, tmp_path: Path) -> None:
    tuned(road, tmp_path / "run", rule="margin")
    source = load_run(tmp_path / "run")
    assert source.rule == "margin"
    found = correlate(source, replicates=100)
    assert all(e["selected"]["k"] == 4 for e in found["stability"]), "by the maximum it were 1"
    assert all(entry["same"] for entry in found["stability"])
    assert run(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    assert "--rule margin" in page
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    write_json(tmp_path / "run" / "run.json", {**header, "rule": "newest"})
    with pytest.raises(UserError, match="no selection rule 'newest'"):
        load_run(tmp_path / "run")


def failing(fails: Callable[[dict], bool]) -> Callable[[dict, int, np.ndarray], float]:
    def plan(config: dict, label: int, noise: np.ndarray) -> float:
        return math.nan if fails(config) and noise[3] > 0 else label + 0.8 * noise[0]

    return plan


@pytest.mark.parametrize("rule", ["best", "margin"])
def test_a_configuration_without_scores_fails_and_never_wins(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    plan = failing(lambda config: config["t"] == 25 or config["k"] == 1)
    planned_scores(monkeypatch, road / "pseudo", plan)
    out = tmp_path / "run"
    outcome = tuned(road, out, rule=rule, audit_share=1.0)
    first, last = outcome.best["stages"]
    assert [value is None for value in first["pseudo_auroc"]] == [True, False, False]
    assert first["selected"] == 300, "of the equal ones that have a value the smallest"
    assert last["pseudo_auroc"][0] is None and last["selected"] == 4
    trials = pd.read_csv(out / "trials.csv")
    assert trials["state"].tolist()[:6] == ["FAIL", *["COMPLETE"] * 2, "FAIL", *["COMPLETE"] * 2]
    assert (trials["pseudo_auroc"].isna() == (trials["state"] == "FAIL")).all()
    assert (trials["state"][6:] == "FAIL").sum() == 4, "of the audit: t = 25, and k = 1 at 900"
    storage = JournalStorage(JournalFileBackend(str(out / "optuna.journal")))
    told = optuna.load_study(study_name="t_then_k/t", storage=storage)
    assert [trial.state.name for trial in told.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.params["t"] for trial in told.trials] == [25, 300, 900]
    before = (out / "optuna.journal").read_bytes()
    assert not tuned(road, out, rule=rule).fresh
    assert (out / "optuna.journal").read_bytes() == before, "a failed trial is not added again"
    assert run(["report", str(out), "--out", str(tmp_path / "report")]) == 0


def test_a_stage_without_any_value_ends_in_a_sentence(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_scores(monkeypatch, road / "pseudo", failing(lambda config: config["k"] > 0))
    with pytest.raises(UserError, match=r"Stage k has no configuration whose scores are all"):
        tuned(road, tmp_path / "run")
    assert not (tmp_path / "run" / "best.json").exists()
