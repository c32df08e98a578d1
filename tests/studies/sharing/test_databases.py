import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from studies import run_study
from studies.crew import IDENTITY
from studies.sharing.leases import Claims
from studies.sharing.storage import connect

STAGES = ("t", "k")


def blocks_of(storage: BaseStorage, name: str) -> Counter[int]:
    """Process ids of those who took work, with how many pieces each has finished."""
    found: Counter[int] = Counter()
    with contextlib.suppress(KeyError):  # not begun yet
        for trial in optuna.load_study(study_name=f"{name}#blocks", storage=storage).trials:
            if trial.user_attrs["work"] == IDENTITY:  # settled before anybody helps
                continue
            pid = int(trial.user_attrs["worker"].split("/")[-2])
            found[pid] += trial.state == TrialState.COMPLETE
    return found


def until(true: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Wait for something that processes do."""
    end = time.monotonic() + 300
    while not true():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def finishes(process: subprocess.Popen[str]) -> str:
    """What it says until it ends well."""
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    return said


def test_four_workers_on_postgres_two_of_them_killed(wide, database: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out, storage = tmp_path / "run", connect(database)
    process = wide.start(out, "--storage", database, "--study-name", "four", "--workers", "4")

    def helpers() -> set[int]:
        return set(blocks_of(storage, "four")) - {process.pid}

    until(lambda: process.pid in blocks_of(storage, "four"), process)
    process.send_signal(signal.SIGSTOP)  # it would have done all before the others are up
    until(lambda: bool(helpers()), process)
    killed = helpers().pop()
    os.kill(killed, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    until(lambda: len(helpers()) > 1, process)
    os.kill((helpers() - {killed}).pop(), signal.SIGKILL)
    said = finishes(process)
    assert "2 of 4 workers ended early" in said
    assert wide.is_same(out)
    assert "secret" not in (out / "run.json").read_text() + said
    for stage in STAGES:
        trials = optuna.load_study(study_name=f"four/{stage}", storage=storage).trials
        values = json.loads((out / "run.json").read_text())["grids"][stage]
        assert [trial.params[stage] for trial in trials] == values
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_two_machines_that_share_the_database_alone(wide, database: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outs, storage = [tmp_path / "here" / "run", tmp_path / "there" / "run"], connect(database)
    # Without --study-name a study is called after its RUN; these two have one name.
    one, other = (wide.start(out, "--storage", database) for out in outs)
    name = "run/t_then_k"
    until(lambda: bool(blocks_of(storage, name)), one, other)
    first = one if one.pid in blocks_of(storage, name) else other
    first.send_signal(signal.SIGSTOP)  # it would have done all before the other is up
    second = other if first is one else one
    until(lambda: blocks_of(storage, name)[second.pid] > 1, second)
    first.send_signal(signal.SIGCONT)
    finishes(one)
    finishes(other)
    assert all(wide.is_same(out) for out in outs), "every machine ends up with all of it"
    members, stages, blocks = 2, 2, 8
    found = blocks_of(storage, name)
    records = len(STAGES)
    assert sum(found.values()) == members * stages * blocks + records, "nothing is done twice"


def test_results_come_back_from_the_database(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = f"sqlite:///{tmp_path / 'study.db'}"
    named = ("--storage", url, "--study-name", "s")
    assert run(wide.arguments(tmp_path / "one", *named)) == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LafiteDetector, "score_block", None)
        assert run(wide.arguments(tmp_path / "two", *named)) == 0, "nothing is scored again"
    assert wide.is_same(tmp_path / "two")


def test_another_study_of_the_same_name_is_refused(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    given = {
        "model": wide.folder / "model", "pseudo": wide.folder / "pseudo", "t": [25], "k": [1, 4],
        "storage": f"sqlite:///{tmp_path / 'study.db'}", "study_name": "s",
    }  # fmt: skip
    run_study("t_then_k", out=tmp_path / "one", **given)
    with pytest.raises(UserError, match=r"'s' in sqlite.* has another seed; .*--study-name"):
        run_study("t_then_k", out=tmp_path / "two", seed=1, **given)
    assert not (tmp_path / "two").exists()
    anew = run_study("t_then_k", out=tmp_path / "two", seed=1, overwrite=True, **given)
    assert anew.fresh
    storage = connect(given["storage"])
    names = [study.study_name for study in optuna.get_all_study_summaries(storage)]
    assert sorted(names) == ["s#blocks", "s#results", "s/k", "s/t"]
    assert len(optuna.load_study(study_name="s/k", storage=storage).trials) == 2


def test_a_damaged_result_is_scored_again(  # type: ignore[no-untyped-def]
    wide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "model": wide.folder / "model", "pseudo": wide.folder / "pseudo", "t": [25], "k": [1, 4],
        "storage": f"sqlite:///{tmp_path / 'study.db'}", "study_name": "s",
    }  # fmt: skip
    run_study("t_then_k", out=tmp_path / "one", **given)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("update trial_user_attributes set value_json = '\"AAAA\"' where key = '0'")
    monkeypatch.setattr(Claims.__init__, "__defaults__", (0.5,))  # the lease
    run_study("t_then_k", out=tmp_path / "two", **given)
    for name in ("best.json", "pseudo_scores.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
