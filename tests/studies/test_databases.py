import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pseudoval.cli import run
from pseudoval.errors import UserError
from studies import run_study
from studies.storage import connect

STAGES = ("t", "k")


def working(url: str, name: str) -> dict[int, int]:
    """Process ids of those who hold a block, with how many blocks each has finished."""
    try:
        study = optuna.load_study(study_name=f"{name}#blocks", storage=connect(url))
    except KeyError:
        return {}
    found: dict[int, int] = {}
    for trial in study.trials:
        pid = int(trial.user_attrs["worker"].split("/")[-2])
        found[pid] = found.get(pid, 0) + (trial.state == TrialState.COMPLETE)
    return found


def test_four_workers_on_postgres_two_of_them_killed(wide, database: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    process = wide.start(out, "--storage", database, "--study-name", "four", "--workers", "4")
    killed: set[int] = set()
    while len(killed) < 2:
        assert process.poll() is None, process.communicate()[0]
        for pid, blocks in working(database, "four").items():
            if pid != process.pid and blocks and pid not in killed and len(killed) < 2:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert "2 of 4 workers ended early" in said
    assert wide.is_same(out)
    assert "secret" not in (out / "run.json").read_text() + said
    storage = connect(database)
    for stage in STAGES:
        trials = optuna.load_study(study_name=f"four/{stage}", storage=storage).trials
        values = json.loads((out / "run.json").read_text())["grids"][stage]
        assert [trial.params[stage] for trial in trials] == values
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_two_machines_that_share_the_database_alone(wide, database: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outs = [tmp_path / "here" / "run", tmp_path / "there" / "run"]
    both = [wide.start(out, "--storage", database) for out in outs]
    for process in both:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
    assert all(wide.is_same(out) for out in outs), "every machine ends up with all of it"
    # Each by itself is named after its RUN, so these two, of one name, are one study.
    found = working(database, "run/t_then_k")
    assert len(found) == 2
    assert all(found.values()), "both have scored"
    members, stages, blocks = 2, 2, 8
    settled = 1 + len(STAGES)  # the study's identity, and the record of each stage
    assert sum(found.values()) == members * stages * blocks + settled


def test_results_come_back_from_the_database(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from pseudoval.detectors.feature_models import LafiteDetector

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


def test_a_damaged_result_is_scored_again(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import sqlite3

    from studies import blocks

    url = f"sqlite:///{tmp_path / 'study.db'}"
    named = ("--storage", url, "--study-name", "s")
    assert run(wide.arguments(tmp_path / "one", *named)) == 0
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("update trial_user_attributes set value_json = '\"AAAA\"' where key = '0'")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blocks.Claims.__init__, "__defaults__", (0.5,))
        assert run(wide.arguments(tmp_path / "two", *named)) == 0
    assert wide.is_same(tmp_path / "two")
