"""What the scores of a stage are worth: the objective of each configuration, and the choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import auroc_by_category, macro_auroc
from pseudoval.metrics.runs import Params, StageResult
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics import objectives
from pseudoval.statistics.bootstrap import Replicates, averaged
from pseudoval.statistics.rules import select
from pseudoval.statistics.separation import separation
from studies.design.stages import Stage
from studies.search.members import Member, listed, mean_over_members, number, paired
from studies.search.stage_trials import TrialResult


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The configurations of a stage, as means over the members of a study.

    Attributes:
        categories: their names, the columns of the tables.
        auroc: ``[C]`` macro image AUROC, whatever the objective is.
        auroc_by_member: the same of each member, by its name.
        auroc_by_category: ``[C, categories]`` image AUROC.
        value: ``[C]`` the objective; NaN for a configuration without a value.
        by_category: ``[C, categories]`` the objective within each category.
        separation: ``[C]`` see ``pseudoval.statistics.separation``.
        replicates: the objective on resamples; None where an objective has none, or the members'
            images are not over the same normals.
    """

    objective: str
    categories: list[str]
    auroc: np.ndarray
    auroc_by_member: dict[str, np.ndarray]
    auroc_by_category: np.ndarray
    value: np.ndarray
    by_category: np.ndarray
    separation: np.ndarray
    replicates: Replicates | None

    @cached_property
    def intervals(self) -> list[list[float] | None]:
        """95 % interval of each configuration's objective, None where there is none."""
        if self.replicates is None:
            return [None] * len(self.value)
        bounds = objectives.objective_intervals(self.objective, self.replicates)
        return [None if np.isnan(pair).any() else pair.tolist() for pair in bounds]

    def trial_result(self, row: int, config: Config, seconds: float) -> TrialResult:
        """What a configuration's trial is told.

        Args:
            seconds: that its scoring took.
        """
        by_category = {
            step: float(value)
            for step, value in enumerate(self.by_category[row])
            if np.isfinite(value)
        }
        return TrialResult(
            config=config,
            value=float(self.value[row]),
            attributes={"seconds": seconds, **self._attributes(row)},
            steps=by_category,
        )

    def _attributes(self, row: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            f"auroc/{name}": number(value)
            for name, value in zip(self.categories, self.auroc_by_category[row], strict=True)
        }
        if self.objective != objectives.MACRO:
            for name, value in zip(self.categories, self.by_category[row], strict=True):
                found[f"objective/{name}"] = number(value)
        for name, own in self.auroc_by_member.items():
            if name:
                found[f"by_seed/{name}"] = number(own[row])
        found["interval"] = self.intervals[row]
        return found


def judge(objective: str, members: Sequence[Member], matrices: Sequence[ScoreMatrix]) -> Judged:
    """Judge configurations by the scores of every member.

    Raises:
        UserError: the objective is not available for these scores.
    """
    by_member = {
        member.name: macro_auroc(matrix.scores, matrix.categories, matrix.labels)
        for member, matrix in zip(members, matrices, strict=True)
    }
    tables = [auroc_by_category(m.scores, m.categories, m.labels) for m in matrices]
    replicates = [objectives.bootstrap(objective, m) for m in matrices] if paired(members) else []
    known = [one for one in replicates if one is not None]
    return Judged(
        objective=objective,
        categories=matrices[0].category_names,
        auroc=mean_over_members(list(by_member.values())),
        auroc_by_member=by_member,
        auroc_by_category=np.mean(tables, axis=0),
        value=mean_over_members([objectives.values(objective, m) for m in matrices]),
        by_category=np.mean([objectives.by_category(objective, m) for m in matrices], axis=0),
        separation=mean_over_members([separation(matrix) for matrix in matrices]),
        replicates=averaged(known) if known else None,
    )


def choose(rule: str, stage: Stage, configs: Sequence[Params], judged: Judged) -> StageResult:
    """The stage's entry in ``best.json``: its figures, and the choice of a named rule.

    Raises:
        UserError: no configuration has a value.
    """
    if np.isnan(judged.value).all():
        raise UserError(
            f"Stage {stage.name} has no configuration whose scores are all numbers; the model is "
            "not usable. Train it again, with a lower learning rate."
        )

    def replicates() -> Replicates:
        assert judged.replicates is not None  # refused before anything was scored
        return judged.replicates

    chosen = select(rule, configs, judged.value, replicates, lambda: judged.separation)
    names = stage.values(configs)
    result: StageResult = {
        "name": stage.name,
        "param": stage.param,
        "values": names,
        "pseudo_auroc": listed(judged.auroc),
        "objective_value": listed(judged.value),
        "objective_interval": judged.intervals,
        "separation": listed(judged.separation),
        "selected": names[chosen.row],
        "leader": names[chosen.leader],
        "within": [names[row] for row in chosen.within],
        "configs": list(configs),
    }
    if "" not in judged.auroc_by_member:
        by_member = judged.auroc_by_member
        result["pseudo_auroc_by_seed"] = {name: listed(own) for name, own in by_member.items()}
        if len(by_member) > 1:
            each = np.array(list(by_member.values()))
            result["pseudo_auroc_std"] = listed(each.std(axis=0, ddof=1))
    return result


def as_member(result: StageResult, judged: Judged) -> StageResult:
    """A stage's entry in the ``best.json`` of one member: its own figures, the common choice."""
    own: StageResult = {
        **result,
        "pseudo_auroc": listed(judged.auroc),
        "objective_value": listed(judged.value),
        "objective_interval": judged.intervals,
        "separation": listed(judged.separation),
    }
    own.pop("pseudo_auroc_by_seed", None)
    own.pop("pseudo_auroc_std", None)
    return own
