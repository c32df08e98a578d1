"""Studies that a user writes as a TOML file.

    name = "fine"
    summary = "t around the paper's, then K up to 8"
    objective = "image_ap"           # optional, as is rule

    [[stage]]
    name = "t"
    editing = false                  # the variant: K fixed at 0
    values.t = {from = 100, to = 300, step = 50}

    [[stage]]
    name = "k"                       # takes over the t that the stage before it selected
    values.k = [1, 2, 3, 5, 8]

``values.t = "default"`` is the detector's own grid; ``fixed.t = 200`` holds a parameter.

    trials = 20
    values.t = {from = 25, to = 900}

tries 20 values of that range, which TPE suggests, even in t or in its logarithm as the detector
declares it; ``log = true`` says otherwise. ``sampler = "random"`` names another of Optuna's
samplers. Of lists a sampler suggests some combinations; without ``trials`` a third of them.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pseudoval.detectors import Detector, Parameter, Value
from pseudoval.errors import UserError
from pseudoval.statistics.objectives import MACRO, parts_of
from pseudoval.statistics.rules import BEST, find_rule
from studies.design.ranges import Values, listed, values_of
from studies.design.sampler_names import GRID, sampler_name
from studies.design.stages import Stage, Study

STUDY_KEYS = {"name": str, "summary": str, "detector": str, "objective": str, "rule": str,
              "stage": list}  # fmt: skip
STAGE_KEYS = {"name": str, "values": dict, "fixed": dict, "editing": bool, "sampler": str,
              "trials": int}  # fmt: skip
KINDS = {str: "text in quotes", dict: "a table", list: "a list of [[stage]]",
         int: "a whole number", bool: "true or false"}  # fmt: skip


def read_study(path: Path, detector: Detector) -> Study:
    """Read a study file for a detector.

    Raises:
        UserError: the file, the stage, what is wrong in it and how to mend it.

    Example:
        >>> from pathlib import Path
        >>> from studies import read_study
        >>> path = Path("fine.toml")
        >>> _ = path.write_text(
        ...     "[[stage]]\\n"
        ...     "values.t = {from = 100, to = 300, step = 100}\\n"
        ...     "editing = false\\n"
        ... )
        >>> read_study(path, detector).stages[0].configs({})
        [{'t': 100, 'k': 0}, {'t': 200, 'k': 0}, {'t': 300, 'k': 0}]
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no study file at {path}.") from None
    except (OSError, ValueError) as error:  # of TOML it names line and column
        raise UserError(f"{path} is not a TOML file: {error}.") from None
    where = str(path)
    try:
        _check_keys(content, STUDY_KEYS)
        parts_of(content.get("objective", MACRO))
        find_rule(content.get("rule", BEST))
        stages: list[Stage] = []
        for number, entry in enumerate(content.get("stage", []), start=1):
            where = f"{path}, stage {number}"
            stages.append(_stage(entry, stages, detector))
        if not stages:
            raise UserError("There is no stage; add one that begins with [[stage]].")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return Study(
        name=content.get("name", path.stem),
        detector=content.get("detector", detector.name),
        summary=content.get("summary", "a study of the user's"),
        stages=tuple(stages),
        objective=content.get("objective"),
        rule=content.get("rule"),
        file=path,
    )


def _stage(entry: Any, before: list[Stage], detector: Detector) -> Stage:
    """A stage from its table, after the stages ``before`` it."""
    _check_keys(entry, STAGE_KEYS)
    varied, fixed = _parameters(entry, detector)
    name = entry.get("name", "-".join(varied))
    if name in [stage.name for stage in before]:
        raise UserError(f"Two stages are named {name!r}; rename one.")
    sampler, trials = sampler_name(entry.get("sampler", GRID)), entry.get("trials")
    known = {parameter.name: parameter for parameter in detector.parameters}
    stage = Stage(
        name=name,
        grid={own: _values(known[own], values) for own, values in varied.items()},
        fixed=fixed,
        inherits=_inherited({*varied, *fixed}, before, detector),
        sampler=sampler,
        trials=trials,
        codes=tuple(own for own in known if own in varied and known[own].kind == "categorical"),
    )
    useless = sampler == GRID and ("sampler" in entry or not stage.ranges)
    if trials is not None and (useless or trials < 1):
        raise UserError(
            f"trials = {trials} is not possible; it is for a range, or a sampler such as tpe, and "
            "at least 1."
        )
    return stage


def _parameters(
    entry: Mapping[str, Any], detector: Detector
) -> tuple[dict[str, Any], dict[str, Value]]:
    """What a stage varies, and what it holds; ``editing = false`` holds K at 0."""
    varied, fixed = dict(entry.get("values", {})), dict(entry.get("fixed", {}))
    names = [parameter.name for parameter in detector.parameters]
    if not entry.get("editing", True):
        if "k" in varied or "k" in fixed:
            raise UserError("editing = false fixes k at 0, and k is given too; keep one of them.")
        fixed["k"] = 0
    for name in [*varied, *fixed]:
        if name not in names:
            raise UserError(
                f"The detector {detector.name} has no parameter {name!r}; it has "
                f"{' and '.join(names)}."
            )
        if name in varied and name in fixed:
            raise UserError(f"{name} has values and is fixed; keep one.")
    if not varied:
        raise UserError("The stage varies nothing; give it values.")
    for parameter in detector.parameters:
        if parameter.name in fixed:
            (fixed[parameter.name],) = listed(parameter, [fixed[parameter.name]])
    return varied, fixed


def _inherited(own: set[str], before: list[Stage], detector: Detector) -> tuple[str, ...]:
    """The parameters that a stage takes over from those before it."""
    known = {name for stage in before for name in (*stage.grid, *stage.fixed)}
    inherited = []
    for parameter in detector.parameters:
        if parameter.name in own:
            continue
        if parameter.name in known:
            inherited.append(parameter.name)
        elif not parameter.needs_fit:  # else it is the model's own until a stage says otherwise
            raise UserError(
                f"No stage before this one selects {parameter.name}; give it values, or fix it "
                f"(fixed.{parameter.name} = 5)."
            )
    return tuple(inherited)


def _values(parameter: Parameter, given: Any) -> Values:
    """The values of a parameter: a list, a range, or the detector's own grid."""
    if given != "default" and not isinstance(given, list | dict):
        raise UserError(
            f"The values of {parameter.name} are {given!r}; give a list, a range or "
            f'"default", such as values.{parameter.name} = {list(parameter.grid[:3])!r}.'
        )
    return values_of(parameter, None if given == "default" else given)


def _check_keys(table: Any, kinds: Mapping[str, type]) -> None:
    """Refuse a table with a key that is not known, or a value of another kind."""
    if not isinstance(table, dict):
        raise UserError(f"{table!r} is not a table; begin a stage with [[stage]].")
    for key, value in table.items():
        if key not in kinds:
            raise UserError(f"There is no {key!r}; known are {', '.join(kinds)}.")
        if type(value) is not kinds[key]:
            raise UserError(f"{key} = {value!r} is not {KINDS[kinds[key]]}.")
