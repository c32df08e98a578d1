"""Who does which piece of work: claims that any storage of Optuna can hold.

A study of its own in the storage has a trial for every claim, here called a ticket. A ticket is
entered as RUNNING with the key of the work; the **owner** of a piece of work is, among its tickets
that did not FAIL, the one of the lowest number. Whoever wants a piece enters a ticket, looks, and
withdraws (FAIL) if it is not the owner. It rests on two things that every storage gives: trial
numbers are handed out one after the other, so that a ticket of a lower number than mine is there
to be seen when I look; and a trial that is finished is finished for good.

An owner counts up a number in its ticket while it works. Whoever sees it stand still for longer
than the lease, by the own monotonic clock (clocks of several machines are never compared), sets
the ticket to FAIL, and the work is free. On the same machine one need not wait: a process that is
gone is seen to be gone.

Why nothing counts twice, whoever dies or comes back when:

- A piece has at most one COMPLETE ticket. Another ticket can become the owner only when the one
  before it has FAILed, and a FAILed ticket can never be set to COMPLETE: the storage refuses it,
  and the worker that was thought dead learns that its work is not wanted.
- Two may do the same work for a while (one of them thought dead). The result is a function of its
  key, so it is the same; leases save work, correctness does not hang on them.
- Killed before COMPLETE, a worker leaves a RUNNING ticket that expires, and the work is done again,
  or only completed where its result was kept. Killed between two steps of a takeover, it leaves a
  piece without an owner, which is the same as one that nobody has begun.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from studies.sharing.storage import WAITS

LEASE_SECONDS = 30.0
"""A worker that gives no sign for so long is taken for dead."""

BEATS = 6
"""Signs that a worker gives in the time of a lease."""

WORK, WORKER, BEAT, TOLD = "work", "worker", "beat", "told"


class Claims:
    """The tickets of a study.

    Args:
        name: of the Optuna study that holds them.
    """

    def __init__(self, storage: BaseStorage, name: str, lease: float = LEASE_SECONDS) -> None:
        optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        self.lease = lease
        self.worker = this_process()
        self._storage = storage
        self._study = storage.get_study_id_from_name(name)
        self._seen: dict[int, tuple[Any, float]] = {}
        self._mine: set[int] = set()

    def owners(self) -> dict[str, FrozenTrial]:
        """The owner of every piece of work that has one; tickets that have expired are failed."""
        owners: dict[str, FrozenTrial] = {}
        for trial in self._storage.get_all_trials(self._study, deepcopy=False):
            if trial.state == TrialState.FAIL:
                continue
            if trial.state == TrialState.RUNNING and self._expired(trial):
                self._close(trial._trial_id, TrialState.FAIL)
                continue
            owners.setdefault(trial.user_attrs[WORK], trial)
        return owners

    def take(self, work: str) -> int | None:
        """Claim a piece of work: the id of the ticket, or None if it has another owner."""
        ticket = self._storage.create_new_trial(
            self._study,
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                user_attrs={WORK: work, WORKER: self.worker, BEAT: 0},
            ),
        )
        self._mine.add(ticket)
        owner = self.owners().get(work)
        if owner is not None and owner._trial_id == ticket:
            return ticket
        self.release(ticket)
        return None

    @contextmanager
    def held(self, ticket: int) -> Iterator[None]:
        """Give signs of life during the block; if it fails, the work is free for others at once."""
        over = threading.Event()
        signs = threading.Thread(target=self._beat, args=(ticket, over), daemon=True)
        signs.start()
        try:
            yield
        except BaseException:
            with suppress(Exception):  # the lease does it if the storage cannot be told
                self.release(ticket)
            raise
        finally:
            over.set()
            signs.join()
            self._mine.discard(ticket)

    def complete(self, ticket: int, told: Any = None, seconds: float = 0.0) -> bool:
        """Finish a piece of work; False if the ticket had expired and the work is not wanted."""
        try:
            self._storage.set_trial_user_attr(ticket, TOLD, told)
        except UpdateFinishedTrialError:
            return False
        return self._close(ticket, TrialState.COMPLETE, seconds)

    def release(self, ticket: int) -> None:
        """Let go of a piece of work that is not finished."""
        self._mine.discard(ticket)
        self._close(ticket, TrialState.FAIL)

    def let_go(self) -> None:
        """Release what this process still holds, also what it was interrupted in claiming."""
        self._mine.clear()
        with suppress(Exception):  # the lease does it if the storage cannot be told
            self.owners()

    def settle(self, work: str, make: Callable[[], Any]) -> Any:
        """Have something done by one of all; what ``make`` returned to the one that did it."""
        while True:
            owner = self.owners().get(work)
            if owner is None:
                ticket = self.take(work)
                if ticket is not None:
                    with self.held(ticket):
                        self.complete(ticket, make())
            elif owner.state == TrialState.COMPLETE:
                return owner.user_attrs[TOLD]
            else:
                time.sleep(WAITS)

    def _expired(self, trial: FrozenTrial) -> bool:
        worker, beat = trial.user_attrs[WORKER], trial.user_attrs[BEAT]
        if worker == self.worker:  # entered or let go of while the storage did not answer
            return trial._trial_id not in self._mine
        now = time.monotonic()
        before, since = self._seen.get(trial._trial_id, (None, now))
        if before != beat:
            since = now
        self._seen[trial._trial_id] = (beat, since)
        return now - since > self.lease or is_gone(worker)

    def _beat(self, ticket: int, over: threading.Event) -> None:
        beat = 0
        while not over.wait(self.lease / BEATS):
            beat += 1
            try:
                self._storage.set_trial_user_attr(ticket, BEAT, beat)
            except UpdateFinishedTrialError:
                return
            except Exception:  # no answer just now: the next sign may come through
                continue

    def _close(self, ticket: int, state: TrialState, value: float | None = None) -> bool:
        values = None if value is None else [value]
        try:
            return self._storage.set_trial_state_values(ticket, state, values)
        except UpdateFinishedTrialError:
            return False


def told(owners: Mapping[str, FrozenTrial], work: str) -> Any:
    """What was told of a piece of work when it was completed; None if it was not."""
    owner = owners.get(work)
    if owner is None or owner.state != TrialState.COMPLETE:
        return None
    return owner.user_attrs[TOLD]


def this_process() -> str:
    """A name of this process that no other has, on any machine: PLACE/PID/START.

    The place is the running kernel and the namespace of process ids (containers have their own);
    within it, id and time of start tell whether the process is still there.
    """
    return f"{_place()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(worker: str) -> bool:
    """Whether a process is known to be gone, which only its own machine can tell."""
    place, pid, started = worker.rsplit("/", 2)
    return bool(started) and place == _place() and _started(int(pid)) != started


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str:
    """When a process started, in ticks since the kernel did; "" if it is gone or not known."""
    try:
        # The name in parentheses may hold anything; state and start are fields 3 and 22.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return ""
