"""Where a study is kept, and the trials of its stages in there.

Each stage is an Optuna study ``NAME/STAGE``, in a journal inside RUN or in a database. One process
writes it. The trials of a grid are entered together with their values, in one piece each; those
that a sampler suggests are running until they are told.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, config_name
from studies.design.ranges import Range, Values
from studies.design.sampler_names import GRID
from studies.design.stages import Stage

JOURNAL = "optuna.journal"
GRACE_SECONDS = 5
"""A process that is killed while it holds the journal's lock stops the others for so long."""

CONFIG = "config"
"""The user attribute of a trial that names its configuration, held parameters included."""

IDENTITY, CATEGORIES = "identity", "categories"
"""User attributes of an Optuna study: what it is a study of, and the steps of its trials."""

PATIENCE, WAIT = 60.0, 0.2
"""Seconds for which a database that does not answer is asked again, and until the first time; the
waits grow."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StudyStorage:
    """The storage of a study, and its name there.

    Attributes:
        name: what the names of its Optuna studies begin with.
        url: of the database; None is a journal.
        notice: is told when the database does not answer.
    """

    storage: BaseStorage
    name: str
    url: str | None = None
    notice: Callable[[str], None] = lambda _: None

    def patiently(self, work: Callable[[], T]) -> T:
        """What ``work`` returns; it is done again while a database does not answer, for a minute.

        Args:
            work: looks at what is there before it writes, so that doing it twice does no harm.
        """
        deadline, wait = time.monotonic() + PATIENCE, WAIT
        while True:
            try:
                return work()
            except (SQLAlchemyError, StorageInternalError):
                if time.monotonic() + wait > deadline:
                    raise
            if wait == WAIT:
                self.notice(
                    f"The storage {shown(self.url or '')} does not answer; trying again for "
                    f"{PATIENCE:.0f} s."
                )
            time.sleep(wait)
            wait = min(2 * wait, 10.0)


def open_journal(folder: Path) -> BaseStorage:
    """The journal in a RUN folder, made if need be, for the one process that writes it.

    Optuna ignores half a line that a kill has left at its end, but would append the next line to
    it, and could then never read the file again: it is cut off.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / JOURNAL
    if path.exists():
        with path.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    lock = JournalFileOpenLock(str(path), grace_period=GRACE_SECONDS)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


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
                # Of several studies that open an empty database at once, one makes the tables.
                if attempt == 4:
                    raise
                time.sleep(WAIT * (attempt + 1))
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


def settle_name(storage: StudyStorage, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """See to it that a name belongs to one study of a database.

    Args:
        identity: what makes a study the same, as JSON.
        overwrite: forget the study that has the name.

    Raises:
        UserError: another study has it.
    """
    own = json.loads(json.dumps(identity))
    for name in optuna.get_all_study_names(storage=storage.storage):
        if not name.startswith(f"{storage.name}/"):
            continue
        there = optuna.load_study(study_name=name, storage=storage.storage)
        found = there.user_attrs.get(IDENTITY)
        if found is not None and found["study_name"] != storage.name:
            continue  # "a/b" is another study than "a", whose stages are called "a/..." too
        if overwrite:
            optuna.delete_study(study_name=name, storage=storage.storage)
        elif found is None and not there.get_trials(deepcopy=False):
            continue  # a kill left it before it was said whose it is
        elif found != own:
            differing = [key for key in own if (found or {}).get(key) != own[key]]
            raise UserError(
                f"The study {storage.name!r} in {shown(storage.url or '')} has another "
                f"{differing[0]}; give this one another --study-name, or pass --overwrite."
            )


def open_stage(
    storage: StudyStorage, stage: Stage, identity: Mapping[str, Any], categories: Sequence[str] = ()
) -> "StageTrials":
    """The trials of a stage, in an Optuna study that is created if need be.

    Args:
        identity: see ``settle_name``.
        categories: whose values are the steps of a trial's intermediate values, in this order.
    """
    study = optuna.create_study(
        storage=storage.storage,
        study_name=f"{storage.name}/{stage.name}",
        direction="maximize",
        load_if_exists=True,
    )
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(CATEGORIES, list(categories))
        study.set_user_attr(IDENTITY, dict(identity))
    return StageTrials(study=study, storage=storage.storage, stage=stage)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the trial of a configuration is told.

    Attributes:
        value: the objective; NaN is a failed trial.
        attributes: user attributes.
        steps: intermediate values, by the place of a category.
    """

    config: Config
    value: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[int, float] = field(default_factory=dict)

    @property
    def state(self) -> TrialState:
        """The state of its trial."""
        return TrialState.FAIL if math.isnan(self.value) else TrialState.COMPLETE


@dataclass(frozen=True, kw_only=True)
class StageTrials:
    """The trials of a stage.

    A trial counts from the moment on that it has the name of its configuration, so that a kill
    while a sampler is asked leaves one that does not.
    """

    study: optuna.Study
    storage: BaseStorage
    stage: Stage

    def entered(self) -> list[FrozenTrial]:
        """The trials that count, in order of number."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if CONFIG in t.user_attrs and t.state != TrialState.WAITING]

    def record(self, outcomes: Sequence[Told]) -> None:
        """Tell the running trials of some configurations, and enter one where there is none.

        A configuration that failed before and has a value now gets another trial, which is the
        one that counts.
        """
        trials = self._by_config([one.config for one in outcomes])
        drawn_from = spaces(self.stage)
        for one in outcomes:
            own = trials[config_name(one.config)]
            running = [trial.number for trial in own if trial.state == TrialState.RUNNING]
            for number in running:
                self.tell(number, one)
            if not running and not _settled(own, one.state):
                self.study.add_trial(
                    optuna.trial.create_trial(
                        state=one.state,
                        value=one.value if one.state == TrialState.COMPLETE else None,
                        params=self.stage.point(one.config),
                        distributions=drawn_from,
                        user_attrs={**one.attributes, CONFIG: config_name(one.config)},
                        intermediate_values=dict(one.steps),
                    )
                )

    def tell(self, number: int, outcome: Told) -> None:
        """Finish a running trial, whoever asked for it."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        for name, value in outcome.attributes.items():
            self.storage.set_trial_user_attr(trial_id, name, value)
        for step, value in outcome.steps.items():
            self.storage.set_trial_intermediate_value(trial_id, step, value)
        failed = outcome.state == TrialState.FAIL
        self.study.tell(number, None if failed else outcome.value, state=outcome.state)

    def finished(self, configs: Sequence[Config]) -> list[tuple[FrozenTrial, Config]]:
        """The trial of each configuration that counts, and the configuration, in order of number.

        That is the first complete one; of a configuration without, the first that failed.
        """
        trials = self._by_config(configs)
        counting: list[tuple[FrozenTrial, Config]] = []
        for config in configs:
            over = [trial for trial in trials[config_name(config)] if trial.state.is_finished()]
            over.sort(key=lambda trial: (trial.state == TrialState.FAIL, trial.number))
            counting += [(trial, config) for trial in over[:1]]
        return sorted(counting, key=lambda pair: pair[0].number)

    def _by_config(self, configs: Sequence[Config]) -> dict[str, list[FrozenTrial]]:
        """The trials of each configuration, by its name, in order of number."""
        found: dict[str, list[FrozenTrial]] = {config_name(config): [] for config in configs}
        for trial in self.entered():
            if trial.user_attrs[CONFIG] in found:
                found[trial.user_attrs[CONFIG]].append(trial)
        return found


def _settled(trials: Sequence[FrozenTrial], state: TrialState) -> bool:
    """Whether one of the trials stands for this outcome or a better one."""
    over = {trial.state for trial in trials if trial.state.is_finished()}
    return bool(over - {TrialState.FAIL}) or (state == TrialState.FAIL and bool(over))


def spaces(stage: Stage) -> dict[str, BaseDistribution]:
    """What a sampler draws from; of a grid, whose cells are known, the range of its numbers.

    A list is categorical: its values may lie at any distance from each other.
    """
    searched = stage.sampler != GRID
    return {name: _space(stage.grid[name], searched) for name in stage.names}


def _space(values: Values, searched: bool) -> BaseDistribution:
    """The distribution of a parameter."""
    if isinstance(values, Range):
        high = values.values()[-1] if values.step is not None else values.high
        if isinstance(values.low, int) and isinstance(high, int):
            return IntDistribution(values.low, high, step=int(values.step or 1), log=values.log)
        return FloatDistribution(values.low, high, step=values.step, log=values.log)
    if searched or any(isinstance(value, str) for value in values):
        return CategoricalDistribution(values)
    numbers = [float(value) for value in values]
    if all(isinstance(value, int) for value in values):
        return IntDistribution(round(min(numbers)), round(max(numbers)))
    return FloatDistribution(min(numbers), max(numbers))
