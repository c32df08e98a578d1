"""One Optuna study per stage, with every grid point in it exactly once."""

import math
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.distributions import IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from studies.spec import Stage

JOURNAL = "optuna.journal"


def open_stage(folder: Path, study: str, stage: Stage, seed: int) -> optuna.Study:
    """The Optuna study of a stage, in the journal of ``folder``; created if need be.

    Its trials are the grid, so the sampler is never asked; one is named all the same, because the
    default differs between versions of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name=f"{study}/{stage.name}",
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )


def record(
    study: optuna.Study,
    stage: Stage,
    values: Mapping[int, float],
    attributes: Mapping[int, Mapping[str, float | None]],
) -> None:
    """Add a finished trial for every grid point that has none yet.

    A trial enters the storage together with its value, so that an interrupted study holds no
    half-run trials, and one that is taken up again doubles none. A NaN is a failed trial.

    Args:
        values: objective value of each grid point.
        attributes: user attributes of each grid point.
    """
    done = {trial.params[stage.param] for trial in finished(study, stage)}
    space = IntDistribution(min(stage.values), max(stage.values))
    for point in stage.values:
        if point not in done:
            failed = math.isnan(values[point])
            study.add_trial(
                optuna.trial.create_trial(
                    params={stage.param: point},
                    distributions={stage.param: space},
                    state=TrialState.FAIL if failed else TrialState.COMPLETE,
                    value=None if failed else values[point],
                    user_attrs=dict(attributes[point]),
                )
            )


def finished(study: optuna.Study, stage: Stage) -> list[FrozenTrial]:
    """The complete and the failed trials of a stage, one per grid point, in order of number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return [trial for trial in trials if stage.param in trial.params]
