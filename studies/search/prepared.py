"""A study that is ready to be searched."""

from dataclasses import dataclass
from pathlib import Path

from pseudoval.metrics.runs import RunHeader
from pseudoval.tasks import ALONE, Workers
from studies.design.stages import Study
from studies.search.members import Member


@dataclass(frozen=True, kw_only=True)
class PreparedStudy:
    """What is searched, on what, for what: everything was looked through, nothing is written.

    Attributes:
        plan: the stages, fitted to the detector.
        members: what is scored; the choice is made on their mean.
        out: the RUN folder.
        header: its ``run.json``, which names objective, rule and seed.
        workers: those who score.
    """

    plan: Study
    members: list[Member]
    out: Path
    header: RunHeader
    workers: Workers = ALONE
