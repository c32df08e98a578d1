"""What a study is: stages, each a grid over some parameters with the others held."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pseudoval.metrics.runs import Params, StageHeader
from pseudoval.metrics.score_matrix import Config, config_name

GRID, TPE = "grid", "tpe"

SAMPLERS = (GRID, TPE)
"""Every combination of the values; or as many as ``trials`` says, suggested by Optuna's TPE."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One or more parameters on a grid, the others held.

    Attributes:
        grid: values of each parameter that varies, ascending and distinct.
        fixed: parameters that this stage holds at a value of its own.
        inherits: parameters taken from what earlier stages selected.
        sampler: one of ``SAMPLERS``.
        trials: how many configurations ``tpe`` tries; None is a third of the grid, rounded up.
        codes: parameters of the grid without an order (``Parameter.ordered``), such as feature
            stages: their configurations are told apart by their names.

    Example:
        >>> from studies import Stage
        >>> stage = Stage(name="k", grid={"k": (1, 4)}, inherits=("t",))
        >>> stage.configs({"t": 300})
        [{'t': 300, 'k': 1}, {'t': 300, 'k': 4}]
    """

    name: str
    grid: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, int] = field(default_factory=dict)
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
    def budget(self) -> int:
        """How many configurations are tried."""
        cells = math.prod(len(values) for values in self.grid.values())
        if self.sampler == GRID:
            return cells
        return min(cells, self.trials or math.ceil(cells / 3))

    def configs(self, selected: Mapping[str, int]) -> list[Params]:
        """Every configuration of the grid: the smallest t first, then the smallest K."""
        held = {**self.fixed, **{name: selected[name] for name in self.inherits}}
        points = itertools.product(*(self.grid[name] for name in self.names))
        configs = [held | dict(zip(self.names, point, strict=True)) for point in points]
        return [{name: one[name] for name in sorted(one, key=_t_first)} for one in configs]

    def values(self, configs: Sequence[Config]) -> list[float | str]:
        """What tells some configurations apart: the parameter's value, or their names."""
        if self.param == "configuration":
            return [config_name(config) for config in configs]
        return [config[self.param] for config in configs]

    def point(self, config: Config) -> dict[str, int]:
        """The parameters that vary, as a configuration has them."""
        return {name: int(config[name]) for name in self.names}

    def described(self) -> StageHeader:
        """All of it for ``run.json``."""
        return {
            "name": self.name,
            "grid": {name: list(values) for name, values in self.grid.items()},
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
        """The whole grid, each cell once: every stage at every value of what it inherits."""
        found: list[Params] = []
        grids: dict[str, tuple[int, ...]] = {}
        for stage in self.stages:
            inherited = [grids[name] for name in stage.inherits]
            for held in itertools.product(*inherited):
                selected = dict(zip(stage.inherits, held, strict=True))
                found += [config for config in stage.configs(selected) if config not in found]
            grids |= {**{name: (value,) for name, value in stage.fixed.items()}, **stage.grid}
        return found

    def grids(self) -> dict[str, list[int]]:
        """The values of each parameter that varies in some stage."""
        return {name: list(v) for stage in self.stages for name, v in stage.grid.items()}


def _t_first(name: str) -> tuple[bool, str]:
    return name != "t", name
