"""What a study is: stages, each a grid over one parameter with the others fixed."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.scores import Config


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One parameter on a grid.

    Attributes:
        values: ascending and distinct.
        fixed: parameters that this stage holds at a value of its own.
        inherits: parameters taken from what earlier stages selected.
    """

    name: str
    param: str
    values: tuple[int, ...]
    fixed: Mapping[str, int] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()

    def configs(self, selected: Mapping[str, int]) -> list[Config]:
        """The configurations of this stage, in the order of ``values``."""
        held = {**self.fixed, **{name: selected[name] for name in self.inherits}}
        configs = [{**held, self.param: value} for value in self.values]
        return [
            dict(sorted(config.items(), key=lambda p: (p[0] != "t", p[0]))) for config in configs
        ]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Stages in order; each sees what the ones before it selected.

    Attributes:
        detector: the detector that it is for.
        summary: one line for a person.
    """

    name: str
    detector: str
    summary: str
    stages: tuple[Stage, ...]

    def cells(self) -> list[Config]:
        """The whole grid: every stage at every value of what it inherits, in ascending order."""
        values = {stage.param: stage.values for stage in self.stages}
        return [
            config
            for stage in self.stages
            for held in itertools.product(*(values[name] for name in stage.inherits))
            for config in stage.configs(dict(zip(stage.inherits, held, strict=True)))
        ]


def t_then_k(detector: Detector, t: Sequence[int] | None, k: Sequence[int] | None) -> Study:
    """The paper's study (section 3.4): t without editing, then K with editing at that t.

    Args:
        t, k: the grids; None is the detector's own.
    """
    return Study(
        name="t_then_k",
        detector="lafite",
        summary="corruption step t without feature editing, then neighbours K at that t",
        stages=(
            Stage(name="t", param="t", values=grid(detector, "t", t, 1), fixed={"k": 0}),
            Stage(name="k", param="k", values=grid(detector, "k", k, 1), inherits=("t",)),
        ),
    )


def k_only(detector: Detector, t: Sequence[int] | None, k: Sequence[int] | None) -> Study:
    """The study of the nearest-neighbour detector: K alone.

    Raises:
        UserError: a grid over t was given.
    """
    if t is not None:
        raise UserError("The study k has no parameter t; leave --t out.")
    return Study(
        name="k",
        detector="knn",
        summary="nearest neighbours K",
        stages=(Stage(name="k", param="k", values=grid(detector, "k", k, 1)),),
    )


STUDIES: dict[str, Callable[[Detector, Sequence[int] | None, Sequence[int] | None], Study]] = {
    "t_then_k": t_then_k,
    "k": k_only,
}


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
