"""A study that is ready to be searched."""

from dataclasses import dataclass
from pathlib import Path

from pseudoval.metrics.runs import RunHeader
from studies.design.stages import Study
from studies.search.members import Member
from studies.sharing.blocks import Team


@dataclass(frozen=True, kw_only=True)
class PreparedStudy:
    """What is searched, on what, for what: everything was looked through, nothing is written.

    Attributes:
        plan: the stages, fitted to the detector.
        members: what is scored; the choice is made on their mean.
        out: the RUN folder.
        header: its ``run.json``, which names objective, rule and seed.
    """

    plan: Study
    members: list[Member]
    out: Path
    header: RunHeader

    @property
    def team(self) -> Team | None:
        """The workers that score, as this process sees them; None is this process alone."""
        return self.members[0].team

    @property
    def helps(self) -> bool:
        """Whether this process only helps another, and so records and writes nothing."""
        return self.team is not None and self.team.helper
