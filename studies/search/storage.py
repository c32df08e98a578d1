"""Where a study is kept, and its stages in there: every grid point COMPLETE exactly once.

Each stage is an Optuna study ``NAME/STAGE``, in a journal inside RUN or in a database. One process
writes it. A trial is entered together with its value, so that none is left half-run.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, config_name
from studies.design.stages import Stage

JOURNAL = "optuna.journal"
GRACE_SECONDS = 5
"""A process that is killed while it holds the journal's lock stops the others for so long."""

CONFIG = "config"
"""The user attribute of a trial that names its configuration, held parameters included."""

WAITS = 0.2
"""Seconds before a database that does not answer is asked again; growing."""


@dataclass(frozen=True, kw_only=True)
class StudyStorage:
    """The storage of a study, and its name there.

    Attributes:
        name: what the names of its Optuna studies begin with.
    """

    storage: BaseStorage
    name: str


class _Lock(JournalFileOpenLock):
    """Optuna's lock file, a shorter time after which that of a dead process is broken, and calm if
    it was broken: what was appended stands, since lines are appended whole.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=GRACE_SECONDS)

    def release(self) -> None:
        with suppress(RuntimeError):
            super().release()


class _JournalFile(JournalFileBackend):
    """Optuna's journal file, which a kill in the middle of an append does not spoil.

    Optuna ignores half a line at the end, but would append the next line to it, and could then
    never read the file again.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._guard = path, _Lock(path)
        super().__init__(str(path), lock_obj=self._guard)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if not self._whole():
            self._guard.acquire()
            try:
                if not self._whole():  # what was being written a moment ago may be whole by now
                    content = self._path.read_bytes()
                    with self._path.open("r+b") as file:
                        file.truncate(content.rfind(b"\n") + 1)
            finally:
                self._guard.release()
        super().append_logs(logs)

    def _whole(self) -> bool:
        with self._path.open("rb") as file:
            if file.seek(0, 2) == 0:
                return True
            file.seek(-1, 2)
            return file.read() == b"\n"


def open_journal(folder: Path) -> BaseStorage:
    """The journal in a RUN folder, made if need be; safe for several processes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(_JournalFile(folder / JOURNAL))


def connect(url: str) -> BaseStorage:
    """The database at a URL that Optuna understands.

    Raises:
        UserError: not such a URL, no driver, or no answer.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parsed = _parsed(url)
    with answering(url):
        for attempt in range(5):
            try:
                database = RDBStorage(
                    parsed.render_as_string(hide_password=False),
                    engine_kwargs={"pool_pre_ping": True},
                )
                return get_storage(database)
            except ImportError:
                raise UserError(
                    f"The driver for {shown(url)} is not installed; PostgreSQL's comes with "
                    "'pip install pseudoval[postgres]'."
                ) from None
            except (SQLAlchemyError, StorageInternalError):
                # Of several machines that open an empty database at once, one makes the tables.
                if attempt == 4:
                    raise
                time.sleep(WAITS * (attempt + 1))
    raise AssertionError("unreachable")


@contextmanager
def answering(url: str | None) -> Iterator[None]:
    """Turn what a database that fails raises inside the block into one sentence.

    Raises:
        UserError: naming the storage without its password.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        if url is None:
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split()) or type(cause).__name__
        for secret in (url, _parsed(url).password):
            reason = reason.replace(str(secret), "***") if secret else reason
        raise UserError(
            f"The storage {shown(url)} cannot be used: {reason.rstrip(' .?')}. Check address, user "
            "and password; nothing that was finished is lost, and the same command goes on."
        ) from None


def shown(url: str) -> str:
    """A URL without its password, for messages and ``run.json``."""
    parsed = _parsed(url)
    kept = {name: value for name, value in parsed.query.items() if name in ("host", "port")}
    return parsed.set(password=None, query=kept).render_as_string()


def _parsed(url: str) -> URL:
    """The URL, with the driver that pseudoval installs where it names none.

    Raises:
        UserError: it is none; the sentence does not repeat it, as it may hold a password.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(
            "--storage is not a URL that Optuna understands; an example is "
            "postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None
    except ImportError:
        return parsed  # a missing driver has a sentence of its own
    return parsed


def open_stage(storage: StudyStorage, stage: Stage, seed: int) -> optuna.Study:
    """The Optuna study of a stage, created if need be.

    The sampler is never asked; one is named all the same, because the default differs between
    versions of Optuna.
    """
    return optuna.create_study(
        storage=storage.storage,
        study_name=f"{storage.name}/{stage.name}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )


def record(
    study: optuna.Study,
    stage: Stage,
    configs: Sequence[Config],
    values: Sequence[float] | np.ndarray,
    attributes: Sequence[Mapping[str, Any]],
) -> None:
    """Give every configuration a finished trial, if it has none yet.

    A NaN is a failed trial. A configuration that failed before and has a value now gets another
    trial, which is the one that counts.

    Args:
        configs: in the order in which they were tried.
        values: objective value of each configuration.
        attributes: user attributes of each configuration.
    """
    spaces: dict[str, BaseDistribution] = {
        name: IntDistribution(min(values), max(values)) for name, values in stage.grid.items()
    }
    outcomes = [TrialState.FAIL if math.isnan(value) else TrialState.COMPLETE for value in values]
    trials = _by_config(study, configs)
    for config, value, outcome, own in zip(configs, values, outcomes, attributes, strict=True):
        if not _settled(trials[config_name(config)], outcome):
            study.add_trial(
                optuna.trial.create_trial(
                    state=outcome,
                    value=float(value) if outcome == TrialState.COMPLETE else None,
                    params=stage.point(config),
                    distributions=spaces,
                    user_attrs={**own, CONFIG: config_name(config)},
                )
            )


def finished(study: optuna.Study, configs: Sequence[Config]) -> list[tuple[FrozenTrial, Config]]:
    """The trial of each configuration that counts, and the configuration, in order of number.

    That is the complete one; of a configuration without, the first that failed.
    """
    trials = _by_config(study, configs)
    counting: list[tuple[FrozenTrial, Config]] = []
    for config in configs:
        over = [trial for trial in trials[config_name(config)] if trial.state.is_finished()]
        over.sort(key=lambda trial: (trial.state == TrialState.FAIL, trial.number))
        counting += [(trial, config) for trial in over[:1]]
    return sorted(counting, key=lambda pair: pair[0].number)


def _by_config(study: optuna.Study, configs: Sequence[Config]) -> dict[str, list[FrozenTrial]]:
    """The trials of each configuration, by its name, in order of number."""
    found: dict[str, list[FrozenTrial]] = {config_name(config): [] for config in configs}
    for trial in study.get_trials(deepcopy=False):
        name = trial.user_attrs[CONFIG]
        if name in found:
            found[name].append(trial)
    return found


def _settled(trials: Sequence[FrozenTrial], state: TrialState) -> bool:
    """Whether one of the trials stands for this outcome or a better one."""
    over = {trial.state for trial in trials if trial.state.is_finished()}
    return bool(over - {TrialState.FAIL}) or (state == TrialState.FAIL and bool(over))
