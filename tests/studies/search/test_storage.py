import json
import time
from pathlib import Path

import optuna
import pytest

from pseudoval.errors import UserError
from studies import Stage
from studies.search.storage import (
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


def test_what_is_shown_of_a_url() -> None:
    url = shown("postgresql://me:secret@host:5/db?host=/run/pg&password=secret&sslmode=require")
    assert "secret" not in url
    assert url.startswith("postgresql+psycopg://me")
    assert "host" in url
