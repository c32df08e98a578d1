"""What a study is: stages, each over some parameters with the others held."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pseudoval.detectors import Value
from pseudoval.errors import UserError
from pseudoval.metrics.runs import Params, StageHeader, ValuesForm
from pseudoval.metrics.score_matrix import Config, config_name
from studies.design.ranges import Range, Values
from studies.design.sampler_names import GRID, TPE, sampler_name


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One or more parameters varied, the others held.

    Attributes:
        grid: values of each parameter that varies, ascending and distinct, or a ``Range``.
        fixed: parameters that this stage holds at a value of its own.
        inherits: parameters taken from what earlier stages selected.
        sampler: ``grid`` tries every combination of the values; a sampler of Optuna's, by name,
            suggests ``trials`` of them.
        trials: None is a third of all combinations, rounded up; of ranges without a step it must
            be given.
        codes: parameters of the grid without an order (categorical ones), such as feature
            stages: their configurations are told apart by their names.

    Example:
        >>> from studies import Stage
        >>> stage = Stage(name="k", grid={"k": (1, 4)}, inherits=("t",))
        >>> stage.configs({"t": 300})
        [{'t': 300, 'k': 1}, {'t': 300, 'k': 4}]
    """

    name: str
    grid: Mapping[str, Values]
    fixed: Mapping[str, Value] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()
    sampler: str = GRID
    trials: int | None = None
    codes: tuple[str, ...] = ()

    @property
    def param(self) -> str:
        """The one parameter that varies, or ``configuration`` where several do, or a code."""
        return "configuration" if len(self.grid) > 1 or self.codes else next(iter(self.grid))

    @property
    def names(self) -> list[str]:
        """The parameters that vary, t first."""
        return sorted(self.grid, key=_t_first)

    @property
    def ranges(self) -> list[Range]:
        """Those of its parameters that have one."""
        return [values for values in self.grid.values() if isinstance(values, Range)]

    @property
    def cells(self) -> int | None:
        """How many combinations of the values there are; None is no end of them."""
        counts = [v.count if isinstance(v, Range) else len(v) for v in self.grid.values()]
        return None if None in counts else math.prod(count or 0 for count in counts)

    @property
    def budget(self) -> int:
        """How many configurations are tried."""
        cells, trials = self.cells, self.trials
        if cells is None:
            return trials or 0
        return cells if self.sampler == GRID else min(cells, trials or math.ceil(cells / 3))

    def values_of(self, name: str) -> tuple[Value, ...]:
        """The values of a parameter that varies; of a range that a sampler searches its ends."""
        values = self.grid[name]
        if not isinstance(values, Range):
            return values
        if self.sampler == GRID and values.count is not None:
            return values.values()
        return tuple(dict.fromkeys((values.low, values.high)))

    def configs(self, selected: Mapping[str, Value]) -> list[Params]:
        """Every configuration of ``values_of``: the smallest t first, then the smallest K."""
        points = itertools.product(*(self.values_of(name) for name in self.names))
        held = self.held(selected)
        return [self.config(held, dict(zip(self.names, p, strict=True))) for p in points]

    def held(self, selected: Mapping[str, Value]) -> Params:
        """The parameters that do not vary, with what earlier stages selected."""
        return {**self.fixed, **{name: selected[name] for name in self.inherits}}

    def config(self, held: Config, point: Config) -> Params:
        """The configuration of a point, t first."""
        one = {**held, **point}
        return {name: one[name] for name in sorted(one, key=_t_first)}

    def ascending(self, configs: Sequence[Config]) -> list[Config]:
        """Some of its configurations, in the order of ``configs``."""

        def place(config: Config) -> list[float]:
            places = []
            for name, value in self.point(config).items():
                values = self.grid[name]
                at = float(value) if isinstance(values, Range) else values.index(value)
                places.append(at)
            return places

        return sorted(configs, key=place)

    def values(self, configs: Sequence[Config]) -> list[float | str]:
        """What tells some configurations apart: the parameter's value, or their names."""
        if self.param == "configuration":
            return [config_name(config) for config in configs]
        return [config[self.param] for config in configs]

    def point(self, config: Config) -> Params:
        """The parameters that vary, as a configuration has them."""
        return {name: config[name] for name in self.names}

    def described(self) -> StageHeader:
        """All of it for ``run.json``."""
        return {
            "name": self.name,
            "grid": {name: _form(values) for name, values in self.grid.items()},
            "fixed": dict(self.fixed),
            "inherits": list(self.inherits),
            "sampler": self.sampler,
            "trials": self.budget,
            "codes": list(self.codes),
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """Stages in order; each sees what the ones before it selected.

    Attributes:
        detector: the detector that it is for.
        summary: one line for a person.
        objective, rule: what a study file asks for; None leaves it to the caller.
        file: the study file, None for a study that is built in.

    Example:
        >>> from studies import Stage, Study
        >>> study = Study(
        ...     name="two_t",
        ...     detector="lafite",
        ...     summary="two t without editing, then K at the better one",
        ...     stages=(
        ...         Stage(name="t", grid={"t": (100, 200)}, fixed={"k": 0}),
        ...         Stage(name="k", grid={"k": (1, 4)}, inherits=("t",)),
        ...     ),
        ... )
        >>> len(study.cells())
        6
        >>> study.grids()
        {'t': [100, 200], 'k': [1, 4]}
    """

    name: str
    detector: str
    summary: str
    stages: tuple[Stage, ...]
    objective: str | None = None
    rule: str | None = None
    file: Path | None = None

    def cells(self) -> list[Params]:
        """The whole grid, each cell once: every stage at every value of what it inherits.

        A range that a sampler searches counts with its two ends.
        """
        found: list[Params] = []
        grids: dict[str, tuple[Value, ...]] = {}
        for stage in self.stages:
            inherited = [grids[name] for name in stage.inherits]
            for held in itertools.product(*inherited):
                selected = dict(zip(stage.inherits, held, strict=True))
                found += [config for config in stage.configs(selected) if config not in found]
            grids |= {name: (value,) for name, value in stage.fixed.items()}
            grids |= {name: stage.values_of(name) for name in stage.grid}
        return found

    def grids(self) -> dict[str, ValuesForm]:
        """The values of each parameter that varies in some stage."""
        return {name: _form(v) for stage in self.stages for name, v in stage.grid.items()}


def searched(study: Study, sampler: str | None = None, trials: int | None = None) -> Study:
    """The study as it is searched: with a sampler and a number of trials for all its stages.

    Args:
        sampler: a name, see ``sampler_of``; None leaves each stage its own.
        trials: None leaves each stage its own; without a sampler they are for the stages that
            have ranges, or a sampler of their own.

    Raises:
        UserError: a stage names no sampler, nothing uses ``trials``, or there is no end of values.
    """
    names = [_sampler_of(stage, sampler, trials) for stage in study.stages]
    if trials is not None and set(names) == {GRID}:
        raise UserError(
            f"{trials} trials are for a sampler or a range, and the study {study.name} tries all "
            "values of its lists; give --sampler tpe, or a range such as --t 25..900."
        )
    stages = [
        _settled(stage, name, stage.trials if trials is None else trials)
        for stage, name in zip(study.stages, names, strict=True)
    ]
    return replace(study, stages=tuple(stages))


def _sampler_of(stage: Stage, sampler: str | None, trials: int | None) -> str:
    """The name of what searches a stage; TPE where a range has a number of trials alone."""
    name = sampler or sampler_name(stage.sampler)
    counted = trials is not None or stage.trials is not None
    return TPE if sampler is None and name == GRID and counted and stage.ranges else name


def _settled(stage: Stage, sampler: str, trials: int | None) -> Stage:
    """A stage that a sampler searches, or on a grid where all is tried."""
    if trials is not None and trials < 1:
        raise UserError(f"{trials} trials try nothing; give at least 1.")
    own = replace(stage, sampler=sampler, trials=trials)
    if sampler != GRID and trials is None and any(one.step is None for one in stage.ranges):
        raise UserError(
            f"Stage {stage.name} has a range without a step; give the number of its trials."
        )
    if sampler != GRID and (own.cells is None or own.budget < own.cells):
        return own
    if own.cells is None:
        raise UserError(
            f"Stage {stage.name} has a range without a step, so that there is no end of its "
            "values; give it a step, or the number of its trials."
        )
    grid = replace(stage, sampler=GRID, trials=None)
    return replace(grid, grid={name: grid.values_of(name) for name in grid.grid})


def _form(values: Values) -> ValuesForm:
    return values.described() if isinstance(values, Range) else list(values)


def _t_first(name: str) -> tuple[bool, str]:
    return name != "t", name
