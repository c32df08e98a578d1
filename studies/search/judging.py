"""What the scores of a stage are worth: the objective of each configuration, and the choice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pseudoval.data.files import write_json
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import auroc_by_category, macro_auroc
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics.bootstrap import Replicates, averaged
from pseudoval.statistics.objectives import (
    MACRO,
    bootstrap,
    by_category,
    objective_intervals,
    values,
)
from pseudoval.statistics.rules import Choice, select
from pseudoval.statistics.separation import separation
from studies.search.members import Member, listed, mean_over_members, number, paired


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
        bounds = objective_intervals(self.objective, self.replicates)
        return [None if np.isnan(pair).any() else pair.tolist() for pair in bounds]

    def attributes(self, row: int) -> dict[str, Any]:
        """What the trial of a configuration is told beside its value."""
        told: dict[str, Any] = {
            f"auroc/{name}": number(value)
            for name, value in zip(self.categories, self.auroc_by_category[row], strict=True)
        }
        if self.objective != MACRO:
            for name, value in zip(self.categories, self.by_category[row], strict=True):
                told[f"objective/{name}"] = number(value)
        for name, own in self.auroc_by_member.items():
            if name:
                told[f"by_seed/{name}"] = number(own[row])
        told["interval"] = self.intervals[row]
        return told

    def entry(self) -> dict[str, Any]:
        """What the stage's entry in ``best.json`` says of its configurations."""
        entry: dict[str, Any] = {
            "pseudo_auroc": listed(self.auroc),
            "objective_value": listed(self.value),
            "objective_interval": self.intervals,
            "separation": listed(self.separation),
        }
        if "" not in self.auroc_by_member:
            entry["pseudo_auroc_by_seed"] = {
                name: listed(own) for name, own in self.auroc_by_member.items()
            }
            each = np.array(list(self.auroc_by_member.values()))
            if len(each) > 1:
                entry["pseudo_auroc_std"] = listed(each.std(axis=0, ddof=1))
        return entry


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
    return Judged(
        objective=objective,
        categories=matrices[0].category_names,
        auroc=mean_over_members(list(by_member.values())),
        auroc_by_member=by_member,
        auroc_by_category=np.mean(tables, axis=0),
        value=mean_over_members([values(objective, matrix) for matrix in matrices]),
        by_category=np.mean([by_category(objective, matrix) for matrix in matrices], axis=0),
        separation=mean_over_members([separation(matrix) for matrix in matrices]),
        replicates=_replicates(objective, members, matrices),
    )


def _replicates(
    objective: str, members: Sequence[Member], matrices: Sequence[ScoreMatrix]
) -> Replicates | None:
    """The mean objective of all members on resamples; None where there is no bootstrap of it."""
    if not paired(members):
        return None
    made = [bootstrap(objective, matrix) for matrix in matrices]
    return averaged([part for part in made if part]) if all(made) else None


def choose(rule: str, stage: str, configs: Sequence[Config], judged: Judged) -> Choice:
    """The choice of a stage by a named rule.

    Raises:
        UserError: no configuration has a value.
    """
    if np.isnan(judged.value).all():
        raise UserError(
            f"Stage {stage} has no configuration whose scores are all numbers; the model is "
            "not usable. Train it again, with a lower learning rate."
        )

    def replicates() -> Replicates:
        assert judged.replicates is not None  # refused before anything was scored
        return judged.replicates

    return select(rule, configs, judged.value, replicates, lambda: judged.separation)


FIGURES = ("pseudo_auroc", "objective_value", "objective_interval")
"""What ``best.json`` tells of the choice, as of every configuration of a stage."""


def of_choice(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of what a stage selected, from its entry in ``best.json``."""
    place = stage["values"].index(stage["selected"])
    return {name: stage[name][place] for name in FIGURES}


def finish_member_runs(
    members: Sequence[Member], matrices: Sequence[ScoreMatrix], best: Mapping[str, Any]
) -> None:
    """Write each member's ``best.json``: its own figures, and the choice that was made for all."""
    for member, matrix in zip(members, matrices, strict=True):
        if not member.name:
            continue
        stages = []
        for stage in best["stages"]:
            part = matrix.select([matrix.row(config) for config in stage["configs"]])
            own = judge(best["objective"], [member], [part]).entry()
            stages.append({**stage, **own})
            for name in ("pseudo_auroc_by_seed", "pseudo_auroc_std"):
                stages[-1].pop(name, None)
        sha256 = member.detector.model_sha256
        own_study = {"stages": stages, "model_sha256": sha256, "seed": member.detector.seed}
        content = {**best, **of_choice(stages[-1]), **own_study}
        write_json(member.folder / "best.json", content)
