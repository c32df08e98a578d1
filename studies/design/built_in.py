"""The studies that are built in."""

from collections.abc import Callable
from dataclasses import replace

from pseudoval.detectors import Detector, Parameter
from pseudoval.errors import UserError
from studies.design.ranges import Given, Values, values_of
from studies.design.sampler_names import TPE
from studies.design.stages import Stage, Study


def t_then_k(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
    """The paper's study (section 4.5): t without editing, then K with editing at that t.

    Args:
        t, k: lists of values, or ranges such as ``{"from": 25, "to": 900}``; None is the
            detector's own grid.

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
            Stage(name="t", grid={"t": grid(detector, "t", t)}, fixed={"k": 0}),
            Stage(name="k", grid={"k": grid(detector, "k", k)}, inherits=("t",)),
        ),
    )


def k_then_t(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
    """The other way round: K at the detector's default t, then t with editing by that K.

    Arguments as in ``t_then_k``.

    Example:
        >>> from studies import k_then_t
        >>> k_then_t(detector, t=[25, 300], k=[1, 4]).stages[1].configs({"k": 4})
        [{'t': 25, 'k': 4}, {'t': 300, 'k': 4}]
    """
    t_held = _parameter(detector, "t").default
    return Study(
        name="k_then_t",
        detector="lafite",
        summary="neighbours K at the default t, then corruption step t at that K",
        stages=(
            Stage(name="k", grid={"k": grid(detector, "k", k)}, fixed={"t": t_held}),
            Stage(name="t", grid={"t": grid(detector, "t", t)}, inherits=("k",)),
        ),
    )


def joint(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
    """The full grid: every t with every K, all of them with editing.

    Arguments as in ``t_then_k``.

    Example:
        >>> from studies import joint
        >>> len(joint(detector, t=[25, 300], k=[1, 4]).cells())
        4
    """
    both = {"t": grid(detector, "t", t), "k": grid(detector, "k", k)}
    return Study(
        name="joint",
        detector="lafite",
        summary="the full grid over t and K",
        stages=(Stage(name="joint", grid=both),),
    )


def joint_tpe(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
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


def k_only(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
    """The study of nearest neighbours, and of UniAD from no editing on (K = 0): K alone.

    Raises:
        UserError: a grid over t was given.

    Example:
        >>> from studies import k_only
        >>> k_only(detector, k=[1, 4]).stages[0].configs({})
        [{'k': 1}, {'k': 4}]
    """
    if t is not None:
        raise UserError("The study k has no parameter t; leave --t out.")
    lowest = _parameter(detector, "k").low if detector.name == "uniad" else 1
    return Study(
        name="k",
        detector="uniad" if detector.name == "uniad" else "knn",
        summary="nearest neighbours K",
        stages=(Stage(name="k", grid={"k": grid(detector, "k", k, lowest)}),),
    )


def stages_then_k(detector: Detector, t: Given | None = None, k: Given | None = None) -> Study:
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
    stages = {"stages": grid(detector, "stages", None)}
    k_held = _parameter(detector, "k").default
    return Study(
        name="stages_then_k",
        detector="knn",
        summary="feature stages at the default K, then nearest neighbours K with these",
        stages=(
            Stage(name="stages", grid=stages, fixed={"k": k_held}, codes=("stages",)),
            Stage(name="k", grid={"k": grid(detector, "k", k)}, inherits=("stages",)),
        ),
    )


def components_then_levels(
    detector: Detector, t: Given | None = None, k: Given | None = None
) -> Study:
    """The principal components that Gaussians use, with all levels; then the levels with them.

    Raises:
        UserError: a grid over t or K was given.

    Example:
        >>> from studies import components_then_levels
        >>> study = components_then_levels(mvg)
        >>> study.stages[1].configs({"components": "all"})[:2]
        [{'components': 'all', 'levels': 1}, {'components': 'all', 'levels': 2}]
    """
    if t is not None or k is not None:
        raise UserError("The study components_then_levels has neither t nor k; leave them out.")
    components, levels = ({name: grid(detector, name, None)} for name in ("components", "levels"))
    return Study(
        name="components_then_levels",
        detector="mvg",
        summary="principal components with all levels, then the levels with these",
        stages=(
            Stage(
                name="components",
                grid=components,
                fixed={"levels": _parameter(detector, "levels").default},
                codes=("components",),
            ),
            Stage(name="levels", grid=levels, inherits=("components",), codes=("levels",)),
        ),
    )


Maker = Callable[[Detector, Given | None, Given | None], Study]

STUDIES: dict[str, Maker] = {
    "t_then_k": t_then_k,
    "k_then_t": k_then_t,
    "joint": joint,
    "joint_tpe": joint_tpe,
    "k": k_only,
    "stages_then_k": stages_then_k,
    "components_then_levels": components_then_levels,
}
"""The studies that are built in, by name."""


def grid(detector: Detector, name: str, given: Given | None, lowest: float = 1) -> Values:
    """The values of a parameter; arguments and errors as ``values_of``.

    Raises:
        UserError: the detector has no such parameter.
    """
    return values_of(_parameter(detector, name), given, lowest)


def _parameter(detector: Detector, name: str) -> Parameter:
    for parameter in detector.parameters:
        if parameter.name == name:
            return parameter
    raise UserError(
        f"The detector {detector.name} has no parameter {name}; it has "
        f"{', '.join(p.name for p in detector.parameters)}. Choose its own study."
    )
