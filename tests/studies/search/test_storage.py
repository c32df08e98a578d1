import json
import time
from pathlib import Path

import optuna
import pytest

from pseudoval.errors import UserError
from studies import Stage
from studies.search.stage_trials import StageTrials, TrialResult, open_stage
from studies.search.storage import (
    GRACE_SECONDS,
    JOURNAL,
    StudyStorage,
    connect,
    open_journal,
    settle_name,
    shown,
)

STAGE = Stage(name="t", grid={"t": (1, 2, 3)})
CONFIGS = STAGE.configs({})
NAN = float("nan")


def opened(folder: Path, stage: Stage = STAGE) -> StageTrials:
    return open_stage(StudyStorage(storage=open_journal(folder), name="s"), stage, {})


def results(*values: float, stage: Stage = STAGE) -> list[TrialResult]:
    configs = stage.configs({})[: len(values)]
    return [TrialResult(config=c, value=v) for c, v in zip(configs, values, strict=True)]


def outcomes(trials: StageTrials) -> list[tuple[int, str, float | None]]:
    return [(t.number, t.state.name, t.value) for t, _ in trials.finished(CONFIGS)]


def test_a_lock_that_a_dead_process_left_stops_the_next_for_seconds_only(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    (tmp_path / f"{JOURNAL}.lock").touch()
    began = time.monotonic()
    trials.record(results(0.1, 0.2, 0.3))
    assert time.monotonic() - began < GRACE_SECONDS + 5
    assert len(trials.study.trials) == 3


def test_half_a_line_at_the_end_spoils_nothing(tmp_path: Path) -> None:
    opened(tmp_path).record(results(0.1))
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:20])
    assert len(opened(tmp_path).study.trials) == 1
    opened(tmp_path).record(results(0.1, 0.2, 0.3))
    assert len(opened(tmp_path).study.trials) == 3
    assert path.read_bytes().startswith(whole)
    for line in path.read_text().splitlines():
        json.loads(line)


def test_a_point_that_failed_counts_as_what_it_became(tmp_path: Path) -> None:
    trials = opened(tmp_path)
    trials.record(results(0.1, NAN, 0.3))
    trials.record(results(0.1, NAN, 0.3))
    assert len(trials.study.trials) == 3
    trials.record(results(0.1, 0.2, 0.3))
    assert outcomes(trials) == [(0, "COMPLETE", 0.1), (2, "COMPLETE", 0.3), (3, "COMPLETE", 0.2)]


def test_the_same_values_held_at_something_else_are_other_points(tmp_path: Path) -> None:
    for k in (1, 5):
        stage = Stage(name="t", grid={"t": (1, 2)}, fixed={"k": k})
        trials = opened(tmp_path, stage)
        trials.record(results(0.1, 0.2, stage=stage))
    assert len(trials.study.trials) == 4


def test_whatever_a_parameter_is_comes_back_as_it_was(tmp_path: Path) -> None:
    stage = Stage(
        name="x", grid={"rate": (0.1, 1 / 3), "layers": ("2", "2,3"), "n": (10**7,)},
        codes=("layers",),
    )  # fmt: skip
    configs = stage.configs({})
    for _ in range(2):
        opened(tmp_path, stage).record(results(0.1, 0.2, 0.3, 0.4, stage=stage))
    found = [config for _, config in opened(tmp_path, stage).finished(configs)]
    assert found == configs
    assert [list(map(type, config.values())) for config in found] == [[str, int, float]] * 4
    (trials,) = {len(opened(tmp_path, stage).study.trials)}
    assert trials == 4


def test_the_steps_of_a_trial_are_the_categories(tmp_path: Path) -> None:
    storage = StudyStorage(storage=open_journal(tmp_path), name="s")
    trials = open_stage(storage, STAGE, {"seed": 1}, ["bottle", "tire"])
    trials.record([TrialResult(config=CONFIGS[0], value=0.5, steps={0: 0.4, 1: 0.6})])
    # What Optuna and its dashboard see, also of a copy.
    optuna.copy_study(
        from_study_name="s/t", from_storage=storage.storage,
        to_storage=f"sqlite:///{tmp_path / 'copy.db'}",
    )  # fmt: skip
    copied = optuna.load_study(study_name="s/t", storage=f"sqlite:///{tmp_path / 'copy.db'}")
    (trial,) = copied.trials
    assert trial.intermediate_values == {0: 0.4, 1: 0.6}
    assert copied.user_attrs == {"categories": ["bottle", "tire"], "identity": {"seed": 1}}


def test_a_name_belongs_to_one_study(tmp_path: Path) -> None:
    database, url = open_journal(tmp_path), "sqlite:///study.db"
    one, other, longer = (
        {"study_name": name, "seed": seed} for name, seed in (("a", 0), ("a", 1), ("a/b", 0))
    )

    def stored(name: str) -> StudyStorage:
        return StudyStorage(storage=database, name=name, url=url)

    for identity in (one, longer):
        settle_name(stored(identity["study_name"]), identity, overwrite=False)  # type: ignore[arg-type]
        open_stage(stored(identity["study_name"]), STAGE, identity).record(results(0.1))  # type: ignore[arg-type]
    settle_name(stored("a"), one, overwrite=False)
    refused = r"'a' in sqlite:///study.db has another seed; .*--study-name, or pass --overwrite"
    with pytest.raises(UserError, match=refused):
        settle_name(stored("a"), other, overwrite=False)
    settle_name(stored("a"), other, overwrite=True)
    assert optuna.get_all_study_names(database) == ["a/b/t"], "that is another study's"
    # Trials of whoever they are, and what a kill leaves before a study has its identity.
    optuna.create_study(storage=database, study_name="c/t").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    with pytest.raises(UserError, match="'c' in sqlite"):
        settle_name(stored("c"), {"study_name": "c"}, overwrite=False)
    optuna.create_study(storage=database, study_name="d/t")
    settle_name(stored("d"), {"study_name": "d"}, overwrite=False)


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
