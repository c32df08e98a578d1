"""The trials of a stage, in an Optuna study of its own.

The trials of a grid are entered together with their values, in one piece each; those that a
sampler suggests are running until they are told.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from pseudoval.metrics.score_matrix import Config, config_name
from studies.design.ranges import Range, Values
from studies.design.sampler_names import GRID
from studies.design.stages import Stage
from studies.search.storage import IDENTITY, StudyStorage

CONFIG = "config"
"""The user attribute of a trial that names its configuration, held parameters included."""

CATEGORIES = "categories"
"""The user attribute of an Optuna study that names the steps of its trials."""


def open_stage(
    storage: StudyStorage, stage: Stage, identity: Mapping[str, Any], categories: Sequence[str] = ()
) -> "StageTrials":
    """The trials of a stage, in an Optuna study that is created if need be.

    Args:
        identity: see ``settle_name``.
        categories: whose values are the steps of a trial's intermediate values, in this order.
    """
    study = optuna.create_study(
        storage=storage.storage,
        study_name=f"{storage.name}/{stage.name}",
        direction="maximize",
        load_if_exists=True,
    )
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(CATEGORIES, list(categories))
        study.set_user_attr(IDENTITY, dict(identity))
    return StageTrials(study=study, storage=storage.storage, stage=stage)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What the trial of a configuration is told.

    Attributes:
        value: the objective; NaN is a failed trial.
        attributes: user attributes.
        steps: intermediate values, by the place of a category.
    """

    config: Config
    value: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[int, float] = field(default_factory=dict)

    @property
    def state(self) -> TrialState:
        """The state of its trial."""
        return TrialState.FAIL if math.isnan(self.value) else TrialState.COMPLETE


@dataclass(frozen=True, kw_only=True)
class StageTrials:
    """The trials of a stage.

    A trial counts from the moment on that it has the name of its configuration, so that a kill
    while a sampler is asked leaves one that does not.
    """

    study: optuna.Study
    storage: BaseStorage
    stage: Stage

    def entered(self) -> list[FrozenTrial]:
        """The trials that count, in order of number."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if CONFIG in t.user_attrs and t.state != TrialState.WAITING]

    def record(self, outcomes: Sequence[TrialResult]) -> None:
        """Tell the running trials of some configurations, and enter one where there is none.

        A configuration that failed before and has a value now gets another trial, which is the
        one that counts.
        """
        trials = self._by_config([one.config for one in outcomes])
        drawn_from = spaces(self.stage)
        for one in outcomes:
            own = trials[config_name(one.config)]
            running = [trial.number for trial in own if trial.state == TrialState.RUNNING]
            for number in running:
                self.tell(number, one)
            if not running and not _settled(own, one.state):
                self.study.add_trial(
                    optuna.trial.create_trial(
                        state=one.state,
                        value=one.value if one.state == TrialState.COMPLETE else None,
                        params=self.stage.point(one.config),
                        distributions=drawn_from,
                        user_attrs={**one.attributes, CONFIG: config_name(one.config)},
                        intermediate_values=dict(one.steps),
                    )
                )

    def tell(self, number: int, outcome: TrialResult) -> None:
        """Finish a running trial, whoever asked for it."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        for name, value in outcome.attributes.items():
            self.storage.set_trial_user_attr(trial_id, name, value)
        for step, value in outcome.steps.items():
            self.storage.set_trial_intermediate_value(trial_id, step, value)
        failed = outcome.state == TrialState.FAIL
        self.study.tell(number, None if failed else outcome.value, state=outcome.state)

    def finished(self, configs: Sequence[Config]) -> list[tuple[FrozenTrial, Config]]:
        """The trial of each configuration that counts, and the configuration, in order of number.

        That is the first complete one; of a configuration without, the first that failed.
        """
        trials = self._by_config(configs)
        counting: list[tuple[FrozenTrial, Config]] = []
        for config in configs:
            over = [trial for trial in trials[config_name(config)] if trial.state.is_finished()]
            over.sort(key=lambda trial: (trial.state == TrialState.FAIL, trial.number))
            counting += [(trial, config) for trial in over[:1]]
        return sorted(counting, key=lambda pair: pair[0].number)

    def _by_config(self, configs: Sequence[Config]) -> dict[str, list[FrozenTrial]]:
        """The trials of each configuration, by its name, in order of number."""
        found: dict[str, list[FrozenTrial]] = {config_name(config): [] for config in configs}
        for trial in self.entered():
            if trial.user_attrs[CONFIG] in found:
                found[trial.user_attrs[CONFIG]].append(trial)
        return found


def _settled(trials: Sequence[FrozenTrial], state: TrialState) -> bool:
    """Whether one of the trials stands for this outcome or a better one."""
    over = {trial.state for trial in trials if trial.state.is_finished()}
    return bool(over - {TrialState.FAIL}) or (state == TrialState.FAIL and bool(over))


def spaces(stage: Stage) -> dict[str, BaseDistribution]:
    """What a sampler draws from; of a grid, whose cells are known, the range of its numbers.

    A list is categorical: its values may lie at any distance from each other.
    """
    searched = stage.sampler != GRID
    return {name: _space(stage.grid[name], searched) for name in stage.names}


def _space(values: Values, searched: bool) -> BaseDistribution:
    """The distribution of a parameter."""
    if isinstance(values, Range):
        high = values.values()[-1] if values.step is not None else values.high
        if isinstance(values.low, int) and isinstance(high, int):
            return IntDistribution(values.low, high, step=int(values.step or 1), log=values.log)
        return FloatDistribution(values.low, high, step=values.step, log=values.log)
    if searched or any(isinstance(value, str) for value in values):
        return CategoricalDistribution(values)
    numbers = [float(value) for value in values]
    if all(isinstance(value, int) for value in values):
        return IntDistribution(round(min(numbers)), round(max(numbers)))
    return FloatDistribution(min(numbers), max(numbers))
