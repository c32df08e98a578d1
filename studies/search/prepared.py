"""A study that is ready to be searched."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.samplers import BaseSampler

from pseudoval.metrics.runs import RunHeader
from pseudoval.tasks import ALONE, Workers
from studies.design.stages import Study
from studies.search.members import Member

MAY_DIFFER = ("model", "pseudo", "study_file", "members_are", "versions", "device", "defaults",
              "ranges", "trained_sha256", "workers")  # fmt: skip
"""Keys of the header that may differ from one call to the next; all others make it this study."""


@dataclass(frozen=True, kw_only=True)
class PreparedStudy:
    """What is searched, on what, for what: everything was looked through, nothing is written.

    Attributes:
        plan: the stages, fitted to the detector.
        members: what is scored; the choice is made on their mean.
        out: the RUN folder.
        header: its ``run.json``, which names objective, rule and seed.
        workers: those who score.
        sampler: what searches the stages that are not grids; None is the sampler that they name.
    """

    plan: Study
    members: list[Member]
    out: Path
    header: RunHeader
    workers: Workers = ALONE
    sampler: BaseSampler | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a study the same, wherever it is kept: that part of the header."""
        other = (*MAY_DIFFER, "storage")
        return {key: value for key, value in self.header.items() if key not in other}
