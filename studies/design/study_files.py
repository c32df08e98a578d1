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

``values.t = "default"`` is the detector's own grid; ``fixed.t = 200`` holds a parameter;
``sampler = "tpe"`` with ``trials = 20`` tries some of a stage's combinations.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.statistics.objectives import parts_of
from pseudoval.statistics.rules import find_rule
from studies.design.stages import GRID, SAMPLERS, Stage, Study, grid

STUDY_KEYS = {"name": str, "summary": str, "detector": str, "objective": str, "rule": str,
              "stage": list}  # fmt: skip
STAGE_KEYS = {"name": str, "values": dict, "fixed": dict, "editing": bool, "sampler": str,
              "trials": int}  # fmt: skip
RANGE_KEYS = {"from", "to", "step"}


def read_study(path: Path, detector: Detector) -> Study:
    """Read a study file for a detector.

    Raises:
        UserError: the file, the line, what is wrong in it and how to mend it.

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
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"There is no study file at {path}.") from None
    except (OSError, ValueError) as error:  # of TOML it names line and column
        raise UserError(f"{path} is not a TOML file: {error}.") from None
    return _Reader(path, text, detector).study(content)


class _Reader:
    """One file on its way to a study; knows the file for its errors."""

    def __init__(self, path: Path, text: str, detector: Detector) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.detector = detector
        self.names = [parameter.name for parameter in detector.parameters]
        self.optional = [p.name for p in detector.parameters if p.needs_fit]
        self.codes = [p.name for p in detector.parameters if not p.ordered]

    def study(self, content: dict[str, Any]) -> Study:
        self._check_keys(content, STUDY_KEYS, None)
        if not content.get("stage"):
            raise self._wrong("there is no stage; add one that begins with [[stage]]", "stage")
        try:
            parts_of(content.get("objective", "image_ap"))
            find_rule(content.get("rule", "best"))
        except UserError as error:
            key = "rule" if "rule" in str(error) else "objective"
            raise self._wrong(str(error).rstrip("."), key) from None
        stages: list[Stage] = []
        known: set[str] = set()
        for number, entry in enumerate(content["stage"]):
            stage = self._stage(entry, number, known)
            if stage.name in [other.name for other in stages]:
                raise self._wrong(
                    f"two stages are named {stage.name!r}; rename one", "name", number
                )
            stages.append(stage)
            known |= {*stage.grid, *stage.fixed}
        return Study(
            name=content.get("name", self.path.stem),
            detector=content.get("detector", self.detector.name),
            summary=content.get("summary", "a study of the user's"),
            stages=tuple(stages),
            objective=content.get("objective"),
            rule=content.get("rule"),
            file=self.path,
        )

    def _stage(self, entry: Any, number: int, known: set[str]) -> Stage:
        if not isinstance(entry, dict):
            raise self._wrong("a stage is not a table; begin it with [[stage]]", "stage")
        self._check_keys(entry, STAGE_KEYS, number)
        varied = entry.get("values", {})
        fixed = dict(entry.get("fixed", {}))
        if not entry.get("editing", True):
            if "k" not in self.names:
                raise self._wrong(
                    f"the detector {self.detector.name} has no feature editing; leave editing out",
                    "editing", number,
                )  # fmt: skip
            if "k" in varied or "k" in fixed:
                raise self._wrong(
                    "editing = false fixes k at 0, and k is given too; leave one of them out",
                    "editing", number,
                )  # fmt: skip
            fixed["k"] = 0
        for name in [*varied, *fixed]:
            if name not in self.names:
                raise self._wrong(
                    f"the detector {self.detector.name} has no parameter {name!r}; it has "
                    f"{' and '.join(self.names)}", name, number,
                )  # fmt: skip
        both = sorted(set(varied) & set(fixed))
        if both:
            raise self._wrong(f"{both[0]} has values and is fixed; keep one", both[0], number)
        if not varied:
            raise self._wrong("the stage varies nothing; give it values", "values", number)
        for name, value in fixed.items():
            self._check_whole(value, name, number)
        # What needs a fit is the model's own value until a stage says otherwise.
        open_ones = [
            n
            for n in self.names
            if n not in varied and n not in fixed and (n in known or n not in self.optional)
        ]
        for name in open_ones:
            if name not in known:
                raise self._wrong(
                    f"no stage before this one selects {name}; give it values, or fix it "
                    f"(fixed.{name} = 5)", "values", number,
                )  # fmt: skip
        sampler, trials = entry.get("sampler", GRID), entry.get("trials")
        if sampler not in SAMPLERS:
            raise self._wrong(
                f"there is no sampler {sampler!r}; the samplers are {', '.join(SAMPLERS)}",
                "sampler", number,
            )  # fmt: skip
        if trials is not None and (sampler == GRID or trials < 1):
            raise self._wrong(
                "trials is for the sampler tpe and at least 1; mend it or leave it out",
                "trials", number,
            )  # fmt: skip
        return Stage(
            name=entry.get("name", "-".join(varied)),
            grid={name: self._values(name, told, number) for name, told in varied.items()},
            fixed=fixed,
            inherits=tuple(open_ones),
            sampler=sampler,
            trials=trials,
            codes=tuple(name for name in varied if name in self.codes),
        )

    def _values(self, name: str, told: Any, number: int) -> tuple[int, ...]:
        if told == "default":
            return grid(self.detector, name, None, 0)
        if isinstance(told, dict):
            if set(told) - RANGE_KEYS or not {"from", "to"} <= set(told):
                raise self._wrong(
                    f"a range of {name} is {{from = 100, to = 300, step = 50}}", name, number
                )
            for value in told.values():
                self._check_whole(value, name, number)
            step = told.get("step", 1)
            if step < 1 or told["to"] < told["from"]:
                raise self._wrong(
                    f"the range of {name} is empty; let it rise, with a step of at least 1",
                    name, number,
                )  # fmt: skip
            told = list(range(told["from"], told["to"] + 1, step))
        if not isinstance(told, list) or not told:
            raise self._wrong(
                f"the values of {name} are neither a list, nor a range, nor \"default\"; write "
                f"values.{name} = [1, 2, 5]", name, number,
            )  # fmt: skip
        for value in told:
            self._check_whole(value, name, number)
        return grid(self.detector, name, told, 0)

    def _check_whole(self, value: Any, name: str, number: int) -> None:
        bounds = next((p.low, p.high) for p in self.detector.parameters if p.name == name)
        if type(value) is not int or value < 0:
            raise self._wrong(
                f"{value!r} is no value of {name}; give a whole number from {bounds[0]} to "
                f"{bounds[1]}", name, number,
            )  # fmt: skip

    def _check_keys(
        self, table: Mapping[str, Any], kinds: Mapping[str, type], number: int | None
    ) -> None:
        for key, value in table.items():
            if key not in kinds:
                raise self._wrong(f"there is no {key!r}; known are {', '.join(kinds)}", key, number)
            if type(value) is not kinds[key]:
                kind = {str: "text in quotes", dict: "a table", list: "a [[stage]]", int: "a whole "
                        "number", bool: "true or false"}[kinds[key]]  # fmt: skip
                raise self._wrong(f"{key} is not {kind}; mend it", key, number)

    def _wrong(self, what: str, key: str, number: int | None = None) -> UserError:
        return UserError(f"{self.path}, line {self._line(key, number)}: {what}.")

    def _line(self, key: str, number: int | None) -> int:
        """The line that a key is on, in the stage of that number; else that of its header."""
        headers = [
            row for row, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*stage\s*\]\]", line)
        ]
        first, last = 0, len(self.lines)
        if number is not None and number < len(headers):
            first = headers[number]
            last = headers[number + 1] if number + 1 < len(headers) else last
        told = re.compile(rf"(\w+\.)?[\"']?{re.escape(key)}[\"']?\s*[.=\]]")
        for row in range(first, last):
            if told.match(self.lines[row].strip().lstrip("[")):
                return row + 1
        return first + 1
