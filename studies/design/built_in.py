"""The studies that are built in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pseudoval.detectors import Detector, Parameter
from pseudoval.errors import UserError
from studies.design.ranges import Given, Values, values_of
from studies.design.sampler_names import TPE
from studies.design.stages import Stage, Study

Grids = Mapping[str, Given]
"""Values by parameter: lists, or ranges such as ``{"from": 25, "to": 900}``. Of a parameter that is
not in it the detector's own grid is taken."""


def t_then_k(detector: Detector, grids: Grids) -> Study:
    """The paper's study (section 4.5): t without editing, then K with editing at that t.

    Example:
        >>> from studies import t_then_k
        >>> study = t_then_k(detector, {"t": [25, 300], "k": [1, 4]})
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
            Stage(name="t", grid={"t": grid(detector, "t", grids)}, fixed={"k": 0}),
            Stage(name="k", grid={"k": grid(detector, "k", grids)}, inherits=("t",)),
        ),
    )


def t_then_k_then_epoch(detector: Detector, grids: Grids) -> Study:
    """``t_then_k`` with the last network, then the epoch whose network is taken at that t and K.

    Raises:
        UserError: the model has kept no epochs.

    Example:
        >>> from studies import t_then_k_then_epoch
        >>> t_then_k_then_epoch(kept, {"epoch": [20, 40]}).stages[-1].configs({"t": 300, "k": 4})
        [{'t': 300, 'epoch': 20, 'k': 4}, {'t': 300, 'epoch': 40, 'k': 4}]
    """
    return _then_epoch(t_then_k(detector, grids), detector, grids)


def k_then_epoch(detector: Detector, grids: Grids) -> Study:
    """K of UniAD with the last network, then the epoch whose network is taken at that K.

    Raises:
        UserError: the model has kept no epochs.

    Example:
        >>> from studies import k_then_epoch
        >>> k_then_epoch(kept, {"epoch": [20, 40]}).stages[-1].configs({"k": 4})
        [{'epoch': 20, 'k': 4}, {'epoch': 40, 'k': 4}]
    """
    return _then_epoch(k_only(detector, grids), detector, grids)


def _then_epoch(study: Study, detector: Detector, grids: Grids) -> Study:
    if all(parameter.name != "epoch" for parameter in detector.parameters):
        raise UserError("The model has kept no epochs to choose; train it with --keep-epochs.")
    names = tuple(name for stage in study.stages for name in stage.grid)
    epoch = Stage(name="epoch", grid={"epoch": grid(detector, "epoch", grids)}, inherits=names)
    return replace(
        study,
        name=f"{study.name}_then_epoch",
        summary=f"{study.summary}; then the epoch",
        stages=(*study.stages, epoch),
    )


def k_then_t(detector: Detector, grids: Grids) -> Study:
    """The other way round: K at the detector's default t, then t with editing by that K.

    Example:
        >>> from studies import k_then_t
        >>> k_then_t(detector, {"t": [25, 300], "k": [1, 4]}).stages[1].configs({"k": 4})
        [{'t': 25, 'k': 4}, {'t': 300, 'k': 4}]
    """
    t_held = _parameter(detector, "t").default
    return Study(
        name="k_then_t",
        detector="lafite",
        summary="neighbours K at the default t, then corruption step t at that K",
        stages=(
            Stage(name="k", grid={"k": grid(detector, "k", grids)}, fixed={"t": t_held}),
            Stage(name="t", grid={"t": grid(detector, "t", grids)}, inherits=("k",)),
        ),
    )


def joint(detector: Detector, grids: Grids) -> Study:
    """The full grid: every t with every K; of another detector every value of all parameters.

    Example:
        >>> from studies import joint
        >>> len(joint(detector, {"t": [25, 300], "k": [1, 4]}).cells())
        4
    """
    own = [parameter.name for parameter in _parameters(detector)]
    names = ["t", "k"] if detector.name == "lafite" else own
    return Study(
        name="joint",
        detector=detector.name,
        summary=f"the full grid over {' and '.join(names)}",
        stages=(_over(detector, names, grids, name="joint"),),
    )


def joint_tpe(detector: Detector, grids: Grids) -> Study:
    """A third of the full grid, suggested by a seeded TPE.

    Example:
        >>> from studies import joint_tpe
        >>> joint_tpe(detector, {"t": [25, 50, 300], "k": [1, 4]}).stages[0].budget
        2
    """
    whole = joint(detector, grids)
    return replace(
        whole,
        name="joint_tpe",
        summary=f"a third of {whole.summary}, by Optuna's TPE",
        stages=tuple(replace(stage, sampler=TPE) for stage in whole.stages),
    )


def staged(detector: Detector, grids: Grids) -> Study:
    """The parameters one after another as the detector declares them, later ones at their default.

    Example:
        >>> from studies import staged
        >>> study = staged(knn, {"k": [1, 4], "keep": [10]})
        >>> [stage.name for stage in study.stages]
        ['k', 'keep', 'stages']
        >>> study.stages[0].configs({})
        [{'k': 1, 'keep': 10, 'stages': 1234}, {'k': 4, 'keep': 10, 'stages': 1234}]
    """
    parameters = _parameters(detector)
    names = [parameter.name for parameter in parameters]
    stages = []
    for place, name in enumerate(names):
        later = {parameter.name: parameter.default for parameter in parameters[place + 1 :]}
        one = _over(detector, [name], grids, name=name)
        stages.append(replace(one, fixed=later, inherits=tuple(names[:place])))
    return Study(
        name="staged",
        detector=detector.name,
        summary=f"{', then '.join(names)}",
        stages=tuple(stages),
    )


def k_only(detector: Detector, grids: Grids) -> Study:
    """The study of nearest neighbours, and of UniAD from no editing on (K = 0): K alone.

    Example:
        >>> from studies import k_only
        >>> k_only(detector, {"k": [1, 4]}).stages[0].configs({})
        [{'k': 1}, {'k': 4}]
    """
    return Study(
        name="k",
        detector="uniad" if detector.name == "uniad" else "knn",
        summary="nearest neighbours K",
        stages=(Stage(name="k", grid={"k": grid(detector, "k", grids)}),),
    )


def stages_then_k(detector: Detector, grids: Grids) -> Study:
    """The feature stages of the nearest-neighbour detector at its default K, then K with them.

    Every value of ``stages`` needs a memory bank of its own, fitted from the training features
    that MODEL keeps.

    Raises:
        UserError: the detector has no ``stages``.

    Example:
        >>> from studies import stages_then_k
        >>> study = stages_then_k(knn, {"k": [1, 4]})
        >>> study.stages[0].configs({})[:2]
        [{'k': 5, 'stages': 1}, {'k': 5, 'stages': 2}]
        >>> study.stages[1].configs({"stages": 23})
        [{'k': 1, 'stages': 23}, {'k': 4, 'stages': 23}]
    """
    k_held = _parameter(detector, "k").default
    first = _over(detector, ["stages"], grids, name="stages")
    return Study(
        name="stages_then_k",
        detector="knn",
        summary="feature stages at the default K, then nearest neighbours K with these",
        stages=(
            replace(first, fixed={"k": k_held}),
            Stage(name="k", grid={"k": grid(detector, "k", grids)}, inherits=("stages",)),
        ),
    )


def components_then_levels(detector: Detector, grids: Grids) -> Study:
    """The principal components that Gaussians use, with all levels; then the levels with them.

    Example:
        >>> from studies import components_then_levels
        >>> study = components_then_levels(mvg, {})
        >>> study.stages[1].configs({"components": "all"})[:2]
        [{'components': 'all', 'levels': 1}, {'components': 'all', 'levels': 2}]
    """
    first = _over(detector, ["components"], grids, name="components")
    second = _over(detector, ["levels"], grids, name="levels")
    return Study(
        name="components_then_levels",
        detector="mvg",
        summary="principal components with all levels, then the levels with these",
        stages=(
            replace(first, fixed={"levels": _parameter(detector, "levels").default}),
            replace(second, inherits=("components",)),
        ),
    )


Maker = Callable[[Detector, Grids], Study]

STUDIES: dict[str, Maker] = {
    "t_then_k": t_then_k,
    "t_then_k_then_epoch": t_then_k_then_epoch,
    "k_then_t": k_then_t,
    "joint": joint,
    "joint_tpe": joint_tpe,
    "staged": staged,
    "k": k_only,
    "k_then_epoch": k_then_epoch,
    "stages_then_k": stages_then_k,
    "components_then_levels": components_then_levels,
}
"""The studies that are built in, by name."""


def grid(detector: Detector, name: str, grids: Grids) -> Values:
    """The values of a parameter; errors as ``values_of``.

    LafitE's grid over K begins at 1: K = 0, no editing, is a variant and no value to choose.

    Raises:
        UserError: the detector has no such parameter.
    """
    chosen = (detector.name, name) == ("lafite", "k")
    return values_of(_parameter(detector, name), grids.get(name), 1 if chosen else None)


def _over(detector: Detector, names: Sequence[str], grids: Grids, *, name: str) -> Stage:
    """A stage over some parameters."""
    known = [_parameter(detector, own) for own in names]
    return Stage(
        name=name,
        grid={own.name: grid(detector, own.name, grids) for own in known},
        codes=tuple(own.name for own in known if own.kind == "categorical"),
    )


def _parameters(detector: Detector) -> Sequence[Parameter]:
    if not detector.parameters:
        raise UserError(f"The detector {detector.name} has no parameters, so nothing to tune.")
    return detector.parameters


def _parameter(detector: Detector, name: str) -> Parameter:
    for parameter in detector.parameters:
        if parameter.name == name:
            return parameter
    raise UserError(
        f"The detector {detector.name} has no parameter {name}; it has "
        f"{', '.join(p.name for p in detector.parameters)}. Choose its own study."
    )
