import json
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pseudoval.errors import UserError
from studies import Stage
from studies.sharing.storage import (
    GRACE_SECONDS,
    JOURNAL,
    StudyStorage,
    connect,
    finished,
    open_journal,
    open_stage,
    record,
    shown,
)

STAGE = Stage(name="t", grid={"t": (1, 2, 3)})
CONFIGS = STAGE.configs({})


def opened(folder: Path) -> optuna.Study:
    return open_stage(StudyStorage(storage=open_journal(folder), name="s"), STAGE, 0)


def outcomes(study: optuna.Study) -> list[tuple[int, str, float | None]]:
    return [(t.number, t.state.name, t.value) for t, _ in finished(study, CONFIGS)]


def test_a_lock_that_a_dead_process_left_stops_the_others_for_seconds_only(tmp_path: Path) -> None:
    study = opened(tmp_path)
    (tmp_path / f"{JOURNAL}.lock").touch()
    began = time.monotonic()
    record(study, STAGE, CONFIGS, [0.1, 0.2, 0.3], [{}] * 3)
    assert time.monotonic() - began < GRACE_SECONDS + 5
    assert len(study.trials) == 3


def test_half_a_line_at_the_end_spoils_nothing(tmp_path: Path) -> None:
    record(opened(tmp_path), STAGE, CONFIGS[:1], [0.1], [{}])
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:20])
    assert len(opened(tmp_path).trials) == 1
    record(opened(tmp_path), STAGE, CONFIGS, [0.1, 0.2, 0.3], [{}] * 3)
    assert len(opened(tmp_path).trials) == 3
    assert path.read_bytes().startswith(whole)
    for line in path.read_text().splitlines():
        json.loads(line)


def test_who_dies_while_recording_leaves_no_gap_and_no_double(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [0.1, 0.2, float("nan")]
    honest = {"add_trial": optuna.Study.add_trial, "tell": optuna.Study.tell}
    for name in honest:
        for allowed in range(3):
            folder = tmp_path / f"{name}{allowed}"
            folder.mkdir()
            left = [allowed]

            def dies(self, *args, name=name, left=left, **more):  # type: ignore[no-untyped-def]
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return honest[name](self, *args, **more)

            monkeypatch.setattr(optuna.Study, name, dies)
            with pytest.raises(KeyboardInterrupt):
                record(opened(folder), STAGE, CONFIGS, values, [{}] * 3, alone=False)
            monkeypatch.setattr(optuna.Study, name, honest[name])
            record(opened(folder), STAGE, CONFIGS, values, [{}] * 3, alone=False)
            found = outcomes(opened(folder))
            assert found == [(0, "COMPLETE", 0.1), (1, "COMPLETE", 0.2), (2, "FAIL", None)]
            assert len(opened(folder).trials) == 3


def test_two_that_record_at_once_complete_every_point_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [0.1, 0.2, float("nan")]
    honest = optuna.Study.add_trial
    other = opened(tmp_path)

    def both(self, trial):  # type: ignore[no-untyped-def]
        """As if another process had missed the same point at the same moment."""
        honest(other, trial)
        honest(self, trial)

    monkeypatch.setattr(optuna.Study, "add_trial", both)
    record(opened(tmp_path), STAGE, CONFIGS, values, [{}] * 3, alone=False)
    record(other, STAGE, CONFIGS, values, [{}] * 3, alone=False)
    study = opened(tmp_path)
    complete = [t.params["t"] for t in study.trials if t.state == TrialState.COMPLETE]
    assert complete == [1, 2]
    assert all(trial.state.is_finished() for trial in study.trials)
    assert [state for _, state, _ in outcomes(study)] == ["COMPLETE", "COMPLETE", "FAIL"]


def test_a_point_that_failed_counts_as_what_it_became(tmp_path: Path) -> None:
    study = opened(tmp_path)
    record(study, STAGE, CONFIGS, [0.1, float("nan"), 0.3], [{}] * 3)
    record(study, STAGE, CONFIGS, [0.1, float("nan"), 0.3], [{}] * 3)
    assert len(study.trials) == 3
    record(study, STAGE, CONFIGS, [0.1, 0.2, 0.3], [{}] * 3)
    assert outcomes(study) == [(0, "COMPLETE", 0.1), (2, "COMPLETE", 0.3), (3, "COMPLETE", 0.2)]


def test_the_same_values_held_at_something_else_are_other_points(tmp_path: Path) -> None:
    study = opened(tmp_path)
    for k in (1, 5):
        stage = Stage(name="t", grid={"t": (1, 2)}, fixed={"k": k})
        record(study, stage, stage.configs({}), [0.1, 0.2], [{}] * 2)
    assert len(study.trials) == 4


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense-secret", "not a URL"),
        ("nosuch://me:secret@host/db", "not a URL"),
        ("postgresql://me:secret@127.0.0.1:1/db", "cannot be used"),
        ("sqlite:////nosuch/secret/study.db", "cannot be used"),
    ],
)
def test_a_storage_that_is_none_is_refused_without_its_password(url: str, what: str) -> None:
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(UserError, match=what) as refused:
        connect(url)
    if not url.startswith("sqlite"):
        assert "secret" not in str(refused.value)


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("psycopg", "psycopg.adapt"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UserError, match=r"pip install pseudoval\[postgres\]") as refused:
        connect("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(refused.value)


def test_sqlite_is_for_one_worker(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    connect(url)
    with pytest.raises(UserError, match="SQLite is not for several"):
        connect(url, several=True)


def test_what_is_shown_of_a_url() -> None:
    url = shown("postgresql://me:secret@host:5/db?host=/run/pg&password=secret&sslmode=require")
    assert "secret" not in url
    assert url.startswith("postgresql+psycopg://me")
    assert "host" in url
