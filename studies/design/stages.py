"""What a study is: stages, each a grid over some parameters with the others held."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, config_name

GRID, TPE = "grid", "tpe"

SAMPLERS = {
    GRID: "every combination of the values",
    TPE: "as many combinations as 'trials' says, suggested by Optuna's TPE from those before",
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One or more parameters on a grid, the others held.

    Attributes:
        grid: values of each parameter that varies, ascending and distinct.
        fixed: parameters that this stage holds at a value of its own.
        inherits: parameters taken from what earlier stages selected.
        sampler: a name in ``SAMPLERS``.
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

    def configs(self, selected: Mapping[str, int]) -> list[Config]:
        """Every configuration of the grid: the smallest t first, then the smallest K."""
        held = {**self.fixed, **{name: selected[name] for name in self.inherits}}
        return [
            dict(sorted({**held, **dict(zip(self.names, at, strict=True))}.items(), key=_by_name))
            for at in itertools.product(*(self.grid[name] for name in self.names))
        ]

    def values(self, configs: Sequence[Config]) -> list[float | str]:
        """What tells some configurations apart: the parameter's value, or their names."""
        if self.param == "configuration":
            return [config_name(config) for config in configs]
        return [config[self.param] for config in configs]

    def point(self, config: Config) -> dict[str, int]:
        """The parameters that vary, as a configuration has them."""
        return {name: int(config[name]) for name in self.names}

    def described(self) -> dict[str, Any]:
        """All of it for ``run.json``."""
        return {
            "name": self.name,
            "grid": {name: list(values) for name, values in self.grid.items()},
            "fixed": dict(self.fixed),
            "inherits": list(self.inherits),
            "sampler": self.sampler,
            "trials": self.budget,
            **({"codes": list(self.codes)} if self.codes else {}),
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

    def cells(self) -> list[Config]:
        """The whole grid, each cell once: every stage at every value of what it inherits."""
        found: list[Config] = []
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


def t_then_k(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """The paper's study (section 3.4): t without editing, then K with editing at that t.

    Args:
        t, k: the grids; None is the detector's own.

    Example:
        >>> from studies import t_then_k
        >>> study = t_then_k(detector, t=[25, 300], k=[1, 4])
        >>> study.stages[0].configs({})
        [{'t': 25, 'k': 0}, {'t': 300, 'k': 0}]
        >>> study.stages[1].configs({"t": 300})
        [{'t': 300, 'k': 1}, {'t': 300, 'k': 4}]
    """
    return Study(
        name="t_then_k",
        detector="lafite",
        summary="corruption step t without feature editing, then neighbours K at that t",
        stages=(
            Stage(name="t", grid={"t": grid(detector, "t", t, 1)}, fixed={"k": 0}),
            Stage(name="k", grid={"k": grid(detector, "k", k, 1)}, inherits=("t",)),
        ),
    )


def k_then_t(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """The other way round: K at the detector's default t, then t with editing by that K.

    Arguments as in ``t_then_k``.

    Example:
        >>> from studies import k_then_t
        >>> k_then_t(detector, t=[25, 300], k=[1, 4]).stages[1].configs({"k": 4})
        [{'t': 25, 'k': 4}, {'t': 300, 'k': 4}]
    """
    default = {p.name: p.default for p in detector.parameters}.get("t", 1)
    return Study(
        name="k_then_t",
        detector="lafite",
        summary="neighbours K at the default t, then corruption step t at that K",
        stages=(
            Stage(name="k", grid={"k": grid(detector, "k", k, 1)}, fixed={"t": default}),
            Stage(name="t", grid={"t": grid(detector, "t", t, 1)}, inherits=("k",)),
        ),
    )


def joint(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """The full grid: every t with every K, all of them with editing.

    Arguments as in ``t_then_k``.

    Example:
        >>> from studies import joint
        >>> len(joint(detector, t=[25, 300], k=[1, 4]).cells())
        4
    """
    both = {"t": grid(detector, "t", t, 1), "k": grid(detector, "k", k, 1)}
    return Study(
        name="joint",
        detector="lafite",
        summary="the full grid over t and K",
        stages=(Stage(name="joint", grid=both),),
    )


def joint_tpe(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """A third of the full grid, suggested by a seeded TPE.

    Arguments as in ``t_then_k``.

    Example:
        >>> from studies import joint_tpe
        >>> joint_tpe(detector, t=[25, 50, 300], k=[1, 4]).stages[0].budget
        2
    """
    (stage,) = joint(detector, t, k).stages
    return Study(
        name="joint_tpe",
        detector="lafite",
        summary="a third of the grid over t and K, by Optuna's TPE",
        stages=(replace(stage, sampler=TPE),),
    )


def k_only(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """The study of the nearest-neighbour detector: K alone.

    Raises:
        UserError: a grid over t was given.

    Example:
        >>> from studies import k_only
        >>> k_only(detector, k=[1, 4]).stages[0].configs({})
        [{'k': 1}, {'k': 4}]
    """
    if t is not None:
        raise UserError("The study k has no parameter t; leave --t out.")
    return Study(
        name="k",
        detector="knn",
        summary="nearest neighbours K",
        stages=(Stage(name="k", grid={"k": grid(detector, "k", k, 1)}),),
    )


def stages_then_k(
    detector: Detector, t: Sequence[int] | None = None, k: Sequence[int] | None = None
) -> Study:
    """The feature stages of the nearest-neighbour detector at its default K, then K with them.

    Every value of ``stages`` needs a memory bank of its own, fitted from the training features
    that MODEL keeps.

    Raises:
        UserError: a grid over t was given, or the detector has no ``stages``.

    Example:
        >>> from studies import stages_then_k
        >>> study = stages_then_k(knn, k=[1, 4])
        >>> study.stages[0].configs({})[:2]
        [{'k': 5, 'stages': 1}, {'k': 5, 'stages': 2}]
        >>> study.stages[1].configs({"stages": 23})
        [{'k': 1, 'stages': 23}, {'k': 4, 'stages': 23}]
    """
    if t is not None:
        raise UserError("The study stages_then_k has no parameter t; leave --t out.")
    stages = {"stages": grid(detector, "stages", None, 1)}
    default = {p.name: p.default for p in detector.parameters}.get("k", 1)
    return Study(
        name="stages_then_k",
        detector="knn",
        summary="feature stages at the default K, then nearest neighbours K with these",
        stages=(
            Stage(name="stages", grid=stages, fixed={"k": default}, codes=("stages",)),
            Stage(name="k", grid={"k": grid(detector, "k", k, 1)}, inherits=("stages",)),
        ),
    )


Maker = Callable[[Detector, Sequence[int] | None, Sequence[int] | None], Study]

STUDIES: dict[str, Maker] = {
    "t_then_k": t_then_k,
    "k_then_t": k_then_t,
    "joint": joint,
    "joint_tpe": joint_tpe,
    "k": k_only,
    "stages_then_k": stages_then_k,
}
"""The studies that are built in, by name."""


def grid(
    detector: Detector, name: str, values: Sequence[int] | None, lowest: int
) -> tuple[int, ...]:
    """A parameter's grid, ascending and without repeats.

    Raises:
        UserError: the detector has no such parameter, or the grid is empty or too low.
    """
    found = [parameter for parameter in detector.parameters if parameter.name == name]
    if not found:
        raise UserError(
            f"The detector {detector.name} has no parameter {name}; it has "
            f"{', '.join(p.name for p in detector.parameters)}. Choose its own study."
        )
    chosen = sorted(set(found[0].grid if values is None else values))
    if not chosen:
        raise UserError(f"The grid over {name} is empty; give at least one value.")
    if chosen[0] < lowest:
        raise UserError(f"The grid over {name} starts at {chosen[0]}; the lowest is {lowest}.")
    return tuple(chosen)


def _t_first(name: str) -> tuple[bool, str]:
    return name != "t", name


def _by_name(pair: tuple[str, Any]) -> tuple[bool, str]:
    return _t_first(pair[0])
