"""Which configurations of a stage are tried: all of them, or those that TPE suggests."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from pseudoval.metrics.score_matrix import Config
from studies.design.stages import GRID, Stage

BATCH = 8
"""Configurations that are suggested at once, so that they share the work of scoring."""

REPEATS = 20
"""Suggestions in a row that were tried before, after which an untried one is taken at random."""

Score = Callable[[Sequence[Config]], np.ndarray]
"""Objective values of some configurations, NaN for one that failed."""


def tried(stage: Stage, grid: Sequence[Config], seed: int, score: Score) -> list[Config]:
    """Score the configurations of a stage, batch by batch, each once.

    TPE (multivariate, over the places on each parameter's grid, seeded) is asked and told in
    memory. It is a function of the seed and of the values alone, so a study that is taken up again
    suggests the same, and finds its blocks.

    Returns:
        The configurations in the order in which they were tried.
    """
    if stage.sampler == GRID:
        score(grid)
        return list(grid)
    points = [tuple(stage.point(config).values()) for config in grid]
    known: dict[tuple[int, ...], float] = {}
    study = _in_memory(seed)
    leftover = iter(np.random.default_rng([seed, len(grid)]).permutation(len(grid)).tolist())
    while len(known) < stage.budget:
        batch: dict[tuple[int, ...], Trial] = {}
        while len(batch) < min(BATCH, stage.budget - len(known)):
            point, trial = _new_point(study, stage, points, leftover, {*known, *batch}, known)
            batch[point] = trial
        values = score([grid[points.index(point)] for point in batch])
        for (point, trial), value in zip(batch.items(), values.tolist(), strict=True):
            known[point] = value
            _tell(study, trial, value)
    return [grid[points.index(point)] for point in known]


def _in_memory(seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _new_point(
    study: optuna.Study,
    stage: Stage,
    points: Sequence[tuple[int, ...]],
    leftover: Iterator[int],
    taken: set[tuple[int, ...]],
    known: dict[tuple[int, ...], float],
) -> tuple[tuple[int, ...], Trial]:
    """A point that was not tried yet; repeats are told what they gave the first time."""
    spaces: dict[str, BaseDistribution] = {
        name: IntDistribution(0, len(stage.grid[name]) - 1) for name in stage.names
    }
    for _ in range(REPEATS):
        trial = study.ask(spaces)
        point = tuple(stage.grid[name][trial.params[name]] for name in stage.names)
        if point not in taken:
            return point, trial
        _tell(study, trial, known.get(point, math.nan))
    point = next(points[row] for row in leftover if points[row] not in taken)
    at = {name: stage.grid[name].index(v) for name, v in zip(stage.names, point, strict=True)}
    study.enqueue_trial(at)
    return point, study.ask(spaces)


def _tell(study: optuna.Study, trial: Trial, value: float) -> None:
    if math.isnan(value):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)
