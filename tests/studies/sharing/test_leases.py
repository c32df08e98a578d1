import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from studies.sharing import leases
from studies.sharing.leases import BEAT, WORKER, Claims, is_gone, this_process
from studies.sharing.storage import connect, open_journal


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    if request.param == "journal":
        return open_journal(tmp_path)
    return connect(f"sqlite:///{tmp_path / 'study.db'}")


def two(storage: BaseStorage, monkeypatch: pytest.MonkeyPatch, lease: float = 30) -> list[Claims]:
    """Claims of two workers on other machines, as far as they can tell."""
    both = []
    for name in ("elsewhere/1/1", "yonder/1/1"):
        monkeypatch.setattr(leases, "this_process", lambda name=name: name)
        both.append(Claims(storage, "work", lease))
    return both


def states(storage: BaseStorage) -> list[str]:
    study = storage.get_study_id_from_name("work")
    return [trial.state.name for trial in storage.get_all_trials(study)]


def test_one_of_two_gets_the_work(storage: BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two(storage, monkeypatch)
    ticket = one.take("a")
    assert ticket is not None
    assert other.take("a") is None
    assert other.take("b") is not None, "other work is free"
    assert one.complete(ticket, {"result": 1})
    assert other.take("a") is None, "finished work is nobody's"
    assert other.owners()["a"].state == TrialState.COMPLETE
    assert states(storage).count("COMPLETE") == 1


def test_a_worker_thought_dead_cannot_count(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(storage, monkeypatch, lease=10)
    clock = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    ticket = one.take("a")
    assert ticket is not None
    assert other.owners()["a"]._trial_id == ticket
    clock[0] = 9
    assert "a" in other.owners(), "not yet"
    storage.set_trial_user_attr(ticket, BEAT, 1)
    clock[0] = 18
    assert "a" in other.owners(), "it gave a sign"
    clock[0] = 29
    assert "a" not in other.owners()
    second = other.take("a")
    assert second is not None
    assert not one.complete(ticket, "late")
    assert other.complete(second, "in time")
    assert one.owners()["a"].user_attrs["told"] == "in time"
    assert sorted(states(storage)) == ["COMPLETE", "FAIL"]


def test_a_worker_that_works_gives_signs(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(storage, monkeypatch, lease=0.6)
    ticket = one.take("a")
    assert ticket is not None
    end = time.monotonic() + 1.5
    with one.held(ticket):
        while time.monotonic() < end:
            assert "a" in other.owners()
            time.sleep(0.05)
    assert one.complete(ticket)


def test_work_that_fails_is_free_at_once(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(storage, monkeypatch)
    ticket = one.take("a")
    assert ticket is not None
    with pytest.raises(KeyboardInterrupt), one.held(ticket):
        raise KeyboardInterrupt
    assert other.take("a") is not None


def test_a_process_that_is_gone_is_seen_to_be_gone(storage: BaseStorage) -> None:
    code = "from studies.sharing.leases import this_process; print(this_process())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    gone = found.stdout.strip()
    if not gone.rpartition("/")[2]:
        pytest.skip("this system does not tell when a process started")
    assert is_gone(gone)
    assert not is_gone(this_process())
    assert not is_gone("another place/1/5"), "of another machine one cannot tell"
    claims = Claims(storage, "work")
    storage.create_new_trial(
        storage.get_study_id_from_name("work"),
        optuna.trial.create_trial(
            state=TrialState.RUNNING, user_attrs={"work": "a", WORKER: gone, BEAT: 0}
        ),
    )
    assert claims.take("a") is not None, "no lease to wait for"


def test_a_ticket_of_mine_that_i_do_not_know_holds_nobody_up(storage: BaseStorage) -> None:
    claims = Claims(storage, "work")
    ticket = claims.take("a")
    assert ticket is not None
    claims._mine.clear()  # as if the storage had not answered when it was let go of
    assert claims.take("a") is not None


def test_an_interrupted_claim_is_let_go_of(
    storage: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(storage, monkeypatch)
    honest = storage.create_new_trial

    def interrupted(*arguments, **more):  # type: ignore[no-untyped-def]
        honest(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "create_new_trial", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.take("a")
    monkeypatch.setattr(storage, "create_new_trial", honest)
    assert one.take("b") is not None
    one.let_go()
    assert other.take("a") is not None
    assert other.take("b") is not None


def test_something_is_settled_once(storage: BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two(storage, monkeypatch)
    assert one.settle("name", lambda: ["first"]) == ["first"]
    assert other.settle("name", lambda: ["second"]) == ["first"]
