"""Which configurations of a stage are tried: all of them, or those that a sampler suggests."""

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, config_name
from studies.design.sampler_names import GRID, make_sampler
from studies.design.stages import Stage
from studies.search.stage_trials import CONFIG, StageTrials, TrialResult, spaces
from studies.search.storage import StudyStorage

BATCH = 8
"""Configurations that are suggested at once, so that they share the work of scoring."""

REPEATS = 20
"""Suggestions in a row that were tried before, after which an untried one is taken at random."""

Make = Callable[[int], BaseSampler]
"""A sampler with a seed."""


def maker(stage: Stage, sampler: BaseSampler | None) -> Make:
    """What makes the sampler of a stage; one that was given itself is asked as it is."""
    return lambda seed: make_sampler(stage.sampler, seed) if sampler is None else sampler


def check_sampler(stage: Stage, sampler: BaseSampler | None) -> None:
    """Refuse a sampler that cannot search a stage: it is asked a few times, in memory.

    Raises:
        UserError: a package is missing, or the sampler does not take such values.
    """
    if stage.sampler == GRID:
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=copy.deepcopy(sampler))
    name = stage.sampler if sampler is None else type(sampler).__name__
    try:
        for value in range(3):
            if sampler is None:
                study.sampler = make_sampler(stage.sampler, value)
            with quiet():
                study.tell(study.ask(spaces(stage)), value)
    except ImportError as error:
        raise UserError(
            f"The sampler {name} needs a package that is not installed ({error}); install it, or "
            "choose another sampler."
        ) from None
    except Exception as error:  # of as many kinds as there are samplers
        raise UserError(
            f"The sampler {name} cannot search stage {stage.name}: {error}. Choose another."
        ) from None


def try_all(
    trials: StageTrials,
    storage: StudyStorage,
    held: Config,
    *,
    seed: int,
    make: Make,
    score: Callable[[Sequence[Config]], None],
) -> None:
    """Score the configurations of a stage, batch by batch, each once.

    Every suggestion comes from a sampler that is seeded anew with the study's seed and the number
    of those before it, so that it depends on them and on the trials alone: a study that is taken
    up again goes on as if nothing had happened, and finds its blocks.

    Args:
        held: the parameters that the stage does not vary.
        score: tells the trials of some configurations.
    """
    if trials.stage.sampler == GRID:
        score(trials.stage.configs(held))
        return
    done = 0
    while done < trials.stage.budget:
        batch = storage.patiently(partial(_batch, trials, held, done, seed, make))
        score(batch)
        done += len(batch)


def tried(trials: StageTrials, held: Config) -> list[Config]:
    """The configurations of the trials of a stage that counts, in the order of the first ones."""
    stage = trials.stage
    found = {t.user_attrs[CONFIG]: stage.config(held, t.params) for t in trials.entered()}
    return [config for name, config in found.items() if config_name(config) == name]


def _batch(trials: StageTrials, held: Config, done: int, seed: int, make: Make) -> list[Config]:
    """The configurations after the first ``done``, with suggestions for those that lack."""
    for torn in trials.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if CONFIG not in torn.user_attrs:
            trials.study.tell(torn.number, state=TrialState.FAIL)
    end = min(done + BATCH, trials.stage.budget)
    while len(known := tried(trials, held)) < end:
        _suggest(trials, held, known, seed, make)
    return known[done:end]


def _suggest(
    trials: StageTrials, held: Config, known: Sequence[Config], seed: int, make: Make
) -> None:
    """Enter a running trial of a configuration that was not tried yet.

    A repeat is told what its configuration was told; one of a configuration that is still being
    scored is told with it.
    """
    stage, names = trials.stage, {config_name(config) for config in known}
    while True:
        entered = trials.entered()
        own = int(np.random.SeedSequence([seed, len(entered)]).generate_state(1)[0])
        trials.study.sampler = make(own)
        if _repeats(entered) >= REPEATS:
            _enqueue_untried(trials, held, names, own)
        with quiet():
            trial = trials.study.ask(spaces(stage))
        name = config_name(config := stage.config(held, trial.params))
        trial.set_user_attr(CONFIG, name)
        if name not in names:
            return
        first = next(one for one in entered if one.user_attrs[CONFIG] == name)
        if first.state.is_finished():
            value = float("nan") if first.value is None else first.value
            trials.tell(trial.number, TrialResult(config=config, value=value))


def _repeats(entered: Sequence[FrozenTrial]) -> int:
    """How many trials at the end have a configuration that another had before."""
    names = [trial.user_attrs[CONFIG] for trial in entered]
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(name, place)
    return len(names) - 1 - max(first.values()) if first else 0


def _enqueue_untried(trials: StageTrials, held: Config, names: set[str], seed: int) -> None:
    """Have the study ask for a configuration that was not tried yet, drawn at random."""
    draws = optuna.create_study(sampler=RandomSampler(seed=seed))
    while True:
        point = draws.ask(spaces(trials.stage)).params
        name = config_name(trials.stage.config(held, point))
        if name not in names:
            trials.study.enqueue_trial(point, user_attrs={CONFIG: name}, skip_if_exists=True)
            return


class quiet(warnings.catch_warnings):
    """Without Optuna's warnings of what may change in its later versions."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
