"""RUN folders: the forms of ``run.json`` and ``best.json``, their readers and their writers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from pseudoval.data.files import read_json, require_folder, write_json
from pseudoval.errors import UserError

HEADER, BEST = "run.json", "best.json"

Params = dict[str, float | str]
"""One configuration, as JSON holds it."""

# Keys that are no Python names.
RangeForm = TypedDict("RangeForm", {"from": float, "to": float, "step": float | None, "log": bool})
"""A range of values in ``run.json``."""

ValuesForm = list[float | str] | RangeForm
"""What a stage tries of a parameter, in ``run.json``."""


class StageHeader(TypedDict):
    """A stage of a study in ``run.json``: what it varies, holds and takes over, and how."""

    name: str
    grid: dict[str, ValuesForm]
    fixed: Params
    inherits: list[str]
    sampler: str
    trials: int
    codes: list[str]


class RunHeader(TypedDict):
    """``run.json``: what a study was asked for; ``docs/design.md`` says what each key is."""

    study: str
    objective: str
    rule: str
    detector: str
    model: str
    pseudo: list[str]
    categories: list[str]
    grids: dict[str, ValuesForm]
    stages: list[StageHeader]
    defaults: Params
    ranges: dict[str, list[float | None]]
    seed: int
    repeats: int
    device: str
    scoring: dict[str, str]
    trained_sha256: str
    model_sha256: str
    split_sha256: str | None
    pseudo_sha256: list[str]
    storage: str
    study_name: str
    versions: dict[str, str]
    study_file: NotRequired[str]
    sampler: NotRequired[str]
    trials: NotRequired[int]
    workers: NotRequired[list[str]]
    members: NotRequired[list[str]]
    members_are: NotRequired[str]


class StageResult(TypedDict):
    """A stage in ``best.json``; lists have one entry for each of ``values``."""

    name: str
    param: str
    values: list[float | str]
    pseudo_auroc: list[float | None]
    objective_value: list[float | None]
    objective_interval: list[list[float] | None]
    separation: list[float | None]
    selected: float | str
    leader: float | str
    within: list[float | str]
    configs: list[Params]
    pseudo_auroc_by_seed: NotRequired[dict[str, list[float | None]]]
    pseudo_auroc_std: NotRequired[list[float | None]]


class OffPathCells(TypedDict):
    """``audit`` in ``best.json``: cells off the path of the stages, scored afterwards."""

    share: float
    seed: int
    cells: int
    configs: list[Params]
    pseudo_auroc: list[float | None]


class Best(TypedDict):
    """``best.json``: the choice, and what it was made on."""

    study: str
    objective: str
    rule: str
    params: Params
    pseudo_auroc: float | None
    objective_value: float | None
    objective_interval: list[float] | None
    stages: list[StageResult]
    split_sha256: str | None
    model_sha256: str
    seed: int
    retries: NotRequired[int]
    audit: NotRequired[OffPathCells]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a RUN folder says of itself.

    Attributes:
        header: ``run.json``.
        best: ``best.json``.
    """

    folder: Path
    header: RunHeader
    best: Best

    @property
    def model(self) -> Path:
        """The MODEL folder that was tuned."""
        return Path(os.path.normpath(self.folder / self.header["model"]))

    @property
    def seed(self) -> int:
        """Of the noise that scoring drew."""
        return int(self.header["seed"])

    @property
    def scoring(self) -> dict[str, str]:
        """Options that the model was scored with instead of its own, as ``tune --set`` has them."""
        return self.header["scoring"]

    @property
    def members(self) -> dict[str, "Run"]:
        """The RUN of every member by name, such as ``seed-0``; of a single one itself, as ``""``.

        Only these hold score matrices.
        """
        names = self.header.get("members")
        return {name: load_run(self.folder / name) for name in names} if names else {"": self}


def load_run(folder: Path) -> Run:
    """Read a finished RUN.

    Raises:
        UserError: not a RUN, or tune has not finished there.
    """
    require_folder(folder, "run", "pseudoval tune")
    if not is_finished(folder):
        raise UserError(
            f"The study in {folder} is not finished; run the same 'pseudoval tune' again to go on."
        )
    return Run(folder=folder, header=read_header(folder), best=read_best(folder))


def is_finished(folder: Path) -> bool:
    """Whether a RUN has its choice, which is written last."""
    return (folder / BEST).exists()


def read_header(folder: Path) -> RunHeader:
    """``run.json`` of a RUN.

    Raises:
        UserError: it is missing or damaged.
    """
    return cast(RunHeader, read_json(folder / HEADER, "The header of the run"))


def read_best(folder: Path) -> Best:
    """``best.json`` of a finished RUN; errors as ``read_header``."""
    return cast(Best, read_json(folder / BEST, "The choice of the run"))


def write_header(folder: Path, header: RunHeader) -> None:
    """Write ``run.json`` of a RUN, atomically."""
    write_json(folder / HEADER, header)


def write_best(folder: Path, best: Best) -> None:
    """Write ``best.json`` of a RUN, atomically."""
    write_json(folder / BEST, best)
