"""Scoring one stage: its grid or what TPE suggests, raced or in full, and refined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pseudoval.data.dataset import data_sha256
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback
from pseudoval.statistics.objectives import values
from studies.design.stages import GRID, Stage
from studies.search.judging import replicates_of
from studies.search.members import Member, mean_over_members, score_members
from studies.search.racing import Pruned, Race, group_keys, race, rounds_of
from studies.search.refining import between, in_order
from studies.search.samplers import tried


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a stage.

    Attributes:
        order: the configurations in the order in which they were tried.
        matrices: of each member, the smallest t first, then the smallest K.
        pruned: those that a race dropped, by the row in ``matrices``.
        raced: what ``best.json`` says of the race; None without one.
    """

    order: list[Config]
    matrices: list[ScoreMatrix]
    pruned: dict[int, Pruned]
    raced: dict[str, Any] | None

    @property
    def configs(self) -> list[dict[str, float | str]]:
        """The rows of the matrices."""
        return self.matrices[0].configs


def score_stage(
    stage: Stage,
    selected: Mapping[str, int],
    members: Sequence[Member],
    objective: str,
    seed: int,
    report: ProgressCallback,
) -> Scored:
    """Score everything that a stage tries.

    Args:
        selected: what the stages before it chose.
        seed: of the sampler.

    Raises:
        UserError: an image cannot be read, or the objective is not available.
    """
    batches: list[list[ScoreMatrix]] = []
    grid = stage.configs(selected)
    name = f"stage-{stage.name}"
    raced: Race | None = None

    def score(configs: Sequence[Config]) -> np.ndarray:
        label = name if stage.sampler == GRID else f"{name}-{len(batches):03d}"
        batches.append(score_members(members, configs, label, report))
        return _means(objective, batches[-1])

    if stage.race:
        raced = _raced(objective, grid, members, name, report)
        batches.append(raced.matrices)
        order = grid
    else:
        order = tried(stage, grid, seed, score)
    added = _refine(stage, order, batches, members, objective, name, report)
    rows = in_order(stage, [*order, *added])
    wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
    wholes = [whole.select([whole.row(config) for config in rows]) for whole in wholes]
    return Scored(
        order=[*order, *added],
        matrices=wholes,
        pruned={
            rows.index(grid[one.row]): replace(one, row=rows.index(grid[one.row]))
            for one in (raced.pruned if raced else [])
        },
        raced=raced.entry(stage.values(grid)) if raced else None,
    )


def _refine(
    stage: Stage,
    order: Sequence[Config],
    batches: list[list[ScoreMatrix]],
    members: Sequence[Member],
    objective: str,
    name: str,
    report: ProgressCallback,
) -> list[Config]:
    """Add rounds of values around the leader to the batches, scored on all images."""
    added: list[Config] = []
    for number in range(stage.refine):
        matrices = [ScoreMatrix.joined(of_member) for of_member in zip(*batches, strict=True)]
        means = _means(objective, matrices)
        if np.isnan(means).all():
            break  # the study ends with a sentence when it is to choose
        fresh = between(
            stage,
            matrices[0].configs,
            means,
            lambda matrices=matrices: replicates_of(objective, members, matrices),  # type: ignore[misc]
        )
        if not fresh:
            break
        batches.append(score_members(members, fresh, f"{name}-refine-{number}", report))
        added += fresh
    return added


def _raced(
    objective: str,
    grid: Sequence[Config],
    members: Sequence[Member],
    name: str,
    report: ProgressCallback,
) -> Race:
    frames, hashes = zip(*(_frame(member) for member in members), strict=True)
    rounds = rounds_of(frames, group_keys(frames[0], hashes[0]))

    def score(
        configs: Sequence[Config], places: list[list[int]], number: int
    ) -> Sequence[np.ndarray]:
        found = score_members(members, configs, f"{name}-race-{number}", report, places)
        return [matrix.scores for matrix in found]

    return race(objective, grid, frames, rounds, score)


def _frame(member: Member) -> tuple[ScoreMatrix, list[str]]:
    """The images of a member as a matrix without configurations, and their hashes."""
    items = member.items
    hashes = [item.sha256 for item in items]
    frame = ScoreMatrix(
        scores=np.empty((0, len(items))),
        configs=[],
        images=[item.id for item in items],
        categories=[item.category for item in items],
        labels=np.array([item.label for item in items], dtype=np.int64),
        groups=[item.group for item in items],
        header={**member.detector.provenance(), "data_sha256": data_sha256(items)},
    )
    return frame, hashes


def _means(objective: str, matrices: Sequence[ScoreMatrix]) -> np.ndarray:
    return mean_over_members([values(objective, matrix) for matrix in matrices])
