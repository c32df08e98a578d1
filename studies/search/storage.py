"""Where a study is kept: a journal inside RUN, or a database.

Each stage is an Optuna study ``NAME/STAGE`` in there. One process writes it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pseudoval.errors import UserError

JOURNAL = "optuna.journal"
GRACE_SECONDS = 5
"""A process that is killed while it holds the journal's lock stops the others for so long."""

IDENTITY = "identity"
"""The user attribute of an Optuna study that says what it is a study of."""

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
