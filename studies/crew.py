"""Who scores a study: this process alone, with helpers, or with other machines."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from pseudoval.data.files import read_json
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies.search.members import Member
from studies.search.off_path import AUDIT, is_open
from studies.sharing.blocks import RESULTS, TICKETS, Results, Team
from studies.sharing.leases import Claims, told
from studies.sharing.storage import Home, forget
from studies.sharing.workers import Help, helped, threads_of_one

SEARCH = "search"
IDENTITY = "identity"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the work of a RUN, for which a crew comes together.

    Attributes:
        kind: ``SEARCH`` or ``AUDIT``.
        retries: how often points that failed were run again, this time included.
        share: of the audit.
    """

    kind: str
    retries: int = 0
    share: float = 0.0

    def is_over(self, out: Path) -> bool:
        """Whether RUN has what comes of this part."""
        if not (out / "best.json").exists():
            return False
        best = read_json(out / "best.json", "The run's choice")
        if self.kind == AUDIT:
            return not is_open(best, self.share)
        return bool(best.get("retries", 0) >= self.retries)


@dataclass(frozen=True, kw_only=True)
class Crew:
    """How many take part, and by what they find each other.

    Attributes:
        workers: processes of this machine; None is one, which shares with nobody.
        remote: whether results travel through the storage of ``home``.
    """

    home: Home
    workers: int | None
    remote: bool

    @contextmanager
    def scoring(
        self, members: Sequence[Member], out: Path, part: Part, *, helper: bool = False
    ) -> Iterator[list[Member]]:
        """The members of a study, to be scored by this crew; with what is known of each.

        However the block ends, this process holds no work afterwards.
        """
        team = None
        if self.remote or self.workers is not None:
            count = self.workers or 1
            team = Team(
                claims=Claims(self.home.storage, self.home.name + TICKETS),
                results=Results(self.home.storage, self.home.name + RESULTS)
                if self.remote
                else None,
                helper=helper,
                tells=count > 1,
                threads=threads_of_one(1 if helper else count),
                retries=part.retries,
                over=lambda: part.is_over(out),
            )
        again = part.kind == SEARCH and part.retries > 0
        try:
            yield [
                replace(
                    member,
                    team=team,
                    known=ScoreMatrix.load(member.folder / "pseudo_scores.npz") if again else None,
                )
                for member in members
            ]
        finally:
            if team is not None:
                team.claims.let_go()

    @contextmanager
    def at_work(
        self,
        members: Sequence[Member],
        out: Path,
        part: Part,
        work: Help,
        order: Any,
        notice: Callable[[str], None],
    ) -> Iterator[list[Member]]:
        """The same, with ``work(order, part)`` done by helpers during the block."""
        with self.scoring(members, out, part) as own:
            if (self.workers or 1) == 1:
                yield own
                return
            with helped((self.workers or 1) - 1, work, (order, part), notice):
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
