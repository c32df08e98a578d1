"""Studies that a database keeps: one to a name, through an outage, as a journal keeps them."""

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import postgres
import pytest
from helpers import planned_scores

from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from studies import Outcome, run_study
from studies.search.storage import connect

Tune = Callable[..., Outcome]


@pytest.fixture
def tune(road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """A study that takes no time, in a RUN of a name."""

    def plan(config: dict, label: int, noise: np.ndarray) -> float:
        return label + abs(np.log(config["t"] / 100)) * noise[config["k"]]

    planned_scores(monkeypatch, road / "pseudo", plan)

    def tuned(name: str, **more: object) -> Outcome:
        return run_study(
            "joint", model=road / "model", pseudo=road / "pseudo", out=tmp_path / name,
            **{"t": {"from": 25, "to": 400}, "k": [1, 4], "trials": 10, **more},
        )  # type: ignore[arg-type] # fmt: skip

    return tuned


def trials_of(url: str, name: str) -> list[tuple[object, ...]]:
    trials = optuna.load_study(study_name=name, storage=connect(url)).trials
    return [(t.state.name, t.params, t.values, t.intermediate_values) for t in trials]


def test_a_database_has_what_a_journal_would_have(
    tune: Tune, tmp_path: Path, database: postgres.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    sqlite = f"sqlite:///{tmp_path / 'study.db'}"
    plain = tune("plain")
    for name, url in (("one", database.url), ("two", sqlite)):
        found = tune(name, storage=url)
        assert found.best == plain.best
        assert found.trials.drop(columns="seconds").equals(plain.trials.drop(columns="seconds"))
    ours, other = trials_of(database.url, "one/joint/joint"), trials_of(sqlite, "two/joint/joint")
    assert len(ours) >= 10 and ours == other
    said = capsys.readouterr()
    for path in (tmp_path / "one").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), path
    assert "secret" not in said.out + said.err


def test_another_study_of_the_same_name_is_refused(tune: Tune, tmp_path: Path) -> None:
    given = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "study_name": "s"}
    first = tune("one", **given)
    with pytest.raises(UserError, match=r"'s' in sqlite.* has another seed; .*--study-name"):
        tune("two", seed=1, **given)
    assert not (tmp_path / "two").exists()
    same = tune("three", **given)
    assert same.fresh and same.best == first.best, "the same study in another RUN finds its trials"
    assert same.trials.equals(first.trials)
    assert tune("two", seed=1, overwrite=True, **given).fresh
    (name,) = optuna.get_all_study_names(connect(given["storage"]))
    assert name == "s/joint"
    with pytest.raises(UserError, match="another seed"):
        tune("four", **given)


def test_a_short_outage_is_waited_for(
    tune: Tune, tmp_path: Path, database: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("studies.search.samplers.BATCH", 4)
    whole = tune("whole")
    honest = optuna.Study.tell
    told = [0]

    def tell(self, *args, **more):  # type: ignore[no-untyped-def]
        told[0] += 1
        if told[0] == 6:  # the first three are told in memory, before anything begins
            database.stop()
            threading.Timer(1.0, database.start).start()
        return honest(self, *args, **more)

    monkeypatch.setattr(optuna.Study, "tell", tell)
    found = tune("run", storage=database.url, notice=said.append)
    assert found.best == whole.best
    assert found.trials.drop(columns="seconds").equals(whole.trials.drop(columns="seconds"))
    assert len(said) == 1 and "does not answer; trying again for 60 s" in said[0]
    assert "secret" not in said[0]


def test_a_long_outage_costs_nothing_that_was_scored(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.db"
    url = f"sqlite:///{path}?timeout=0.1"
    whole = tune("whole")
    monkeypatch.setattr("studies.search.storage.PATIENCE", 1.0)
    honest, locks = optuna.Study.tell, []

    def tell(self, *args, **more):  # type: ignore[no-untyped-def]
        if path.exists() and not locks:  # in memory it is told before anything begins
            locks.append(sqlite3.connect(path))
            locks[0].execute("begin exclusive")
        return honest(self, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "tell", tell)
        began = time.monotonic()
        with pytest.raises(UserError, match=r"sqlite.*cannot be used: .*locked.*same command goes"):
            tune("run", storage=url)
        assert time.monotonic() - began < 30
        assert sorted((tmp_path / "run" / "blocks").iterdir()), "they stay"
        locks[0].close()
    calls: list[int] = []
    planned = LafiteDetector.score_block

    def counted(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(len(configs))
        return planned(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", counted)
    found = tune("run", storage=url)
    assert found.best == whole.best
    assert 8 not in calls, "the first batch is not scored again"
    table = pd.read_csv(tmp_path / "run" / "trials.csv").drop(columns="seconds")
    assert table.equals(whole.trials.drop(columns="seconds"))
