"""Who scores a study: this process alone, with helpers, or with other machines."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from pseudoval.errors import UserError
from pseudoval.metrics.runs import is_finished, read_best
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies.search.off_path import share_of
from studies.search.prepared import PreparedStudy
from studies.sharing.blocks import RESULTS, TICKETS, Results, Team
from studies.sharing.leases import Claims, told
from studies.sharing.storage import StudyStorage, forget
from studies.sharing.workers import Help, helped, threads_of_one

IDENTITY = "identity"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the work of a RUN that workers share.

    Attributes:
        off_path: the share of the cells off the path to score; None is the search itself.
        retries: how often points that failed were run again, this time included.
    """

    off_path: float | None = None
    retries: int = 0

    def is_over(self, out: Path) -> bool:
        """Whether RUN has what comes of this part."""
        if not is_finished(out):
            return False
        best = read_best(out)
        if self.off_path is not None:
            return share_of(best) >= self.off_path
        return best.get("retries", 0) >= self.retries


@dataclass(frozen=True, kw_only=True)
class WorkerPool:
    """How many take part, and by what they find each other.

    Attributes:
        workers: processes of this machine; None is one, which shares with nobody.
        remote: whether results travel through the storage.
    """

    storage: StudyStorage
    workers: int | None
    remote: bool

    @contextmanager
    def joined(
        self, study: PreparedStudy, part: Part, *, helper: bool = False
    ) -> Iterator[PreparedStudy]:
        """The study, to be scored by this pool; with what is known of each member.

        However the block ends, this process holds no work afterwards.
        """
        team = None
        if self.remote or self.workers is not None:
            count = self.workers or 1
            database, name = self.storage.storage, self.storage.name
            team = Team(
                claims=Claims(database, name + TICKETS),
                results=Results(database, name + RESULTS) if self.remote else None,
                helper=helper, tells=count > 1, threads=threads_of_one(1 if helper else count),
                retries=part.retries, over=lambda: part.is_over(study.out),
            )  # fmt: skip
        members = [
            replace(m, team=team, known=ScoreMatrix.load(m.scores_path) if part.retries else None)
            for m in study.members
        ]
        try:
            yield replace(study, members=members)
        finally:
            if team is not None:
                team.claims.let_go()

    @contextmanager
    def at_work(
        self,
        study: PreparedStudy,
        part: Part,
        help_with: Help,
        request: Any,
        notice: Callable[[str], None],
    ) -> Iterator[PreparedStudy]:
        """The same, with ``help_with(request, part)`` done by helpers during the block."""
        with self.joined(study, part) as own:
            if (self.workers or 1) == 1:
                yield own
                return
            with helped((self.workers or 1) - 1, help_with, (request, part), notice):
                yield own


def agree(
    storage: BaseStorage, name: str, identity: Mapping[str, Any], overwrite: bool, where: str
) -> None:
    """Settle in a storage that several machines use which study has this name.

    Args:
        identity: what makes a study the same, as JSON.
        overwrite: forget the one that is there.
        where: the storage, for the sentence.

    Raises:
        UserError: another study has it.
    """
    own = json.loads(json.dumps(identity))
    claims = Claims(storage, name + TICKETS)
    if overwrite:
        earlier = told(claims.owners(), IDENTITY) or own
        stages = [f"{name}/{stage['name']}" for stage in earlier["stages"]]
        forget(storage, [*stages, name + RESULTS, name + TICKETS])
        claims = Claims(storage, name + TICKETS)
    found = claims.settle(IDENTITY, lambda: own)
    differing = [key for key in own if found.get(key) != own[key]]
    if differing:
        raise UserError(
            f"The study {name!r} in {where} has another {differing[0]}; give this one another "
            "--study-name, or pass --overwrite."
        )
