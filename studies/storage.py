"""One Optuna study per stage, with every grid point in it exactly once."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pseudoval.scores import Config
from studies.spec import Stage

JOURNAL = "optuna.journal"
REASON = "pruned"
"""The user attribute of a pruned trial that says why."""


def open_stage(folder: Path, study: str, stage: Stage, seed: int) -> optuna.Study:
    """The Optuna study of a stage, in the journal of ``folder``; created if need be.

    Trials enter it finished, so the sampler is never asked; one is named all the same, because the
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
    configs: Sequence[Config],
    values: Sequence[float] | np.ndarray,
    attributes: Sequence[Mapping[str, Any]],
) -> None:
    """Add a finished trial for every configuration that has none yet.

    A trial enters the storage together with its value, so that an interrupted study holds no
    half-run trials, and one that is taken up again doubles none. A NaN is a failed trial, and
    one whose attributes have ``REASON`` a pruned one.

    Args:
        configs: in the order in which they were tried.
        values: objective value of each configuration.
        attributes: user attributes of each configuration.
    """
    done = [trial.params for trial in finished(study, stage)]
    spaces: dict[str, BaseDistribution] = {
        name: IntDistribution(min(values), max(values)) for name, values in stage.grid.items()
    }
    for config, value, told in zip(configs, values, attributes, strict=True):
        if stage.point(config) not in done:
            state = TrialState.FAIL if math.isnan(value) else TrialState.COMPLETE
            if REASON in told:
                state = TrialState.PRUNED
            study.add_trial(
                optuna.trial.create_trial(
                    params=stage.point(config),
                    distributions=spaces,
                    state=state,
                    value=float(value) if state == TrialState.COMPLETE else None,
                    user_attrs=dict(told),
                )
            )


def finished(study: optuna.Study, stage: Stage) -> list[FrozenTrial]:
    """The finished trials of a stage, one per configuration, in order of number."""
    over = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=over)
    return [trial for trial in trials if set(stage.grid) <= set(trial.params)]
