"""Reading RUN folders: what was tuned, on which model, and what was chosen."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pseudoval.data.files import read_json, require_folder
from pseudoval.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a RUN folder says of itself.

    Attributes:
        header: ``run.json``.
        best: ``best.json``.
    """

    folder: Path
    header: dict[str, Any]
    best: dict[str, Any]

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
        return dict(self.header.get("scoring", {}))

    @property
    def members(self) -> dict[str, "Run"]:
        """The RUN of every seed by name, such as ``seed-0``; of a single model itself, as ``""``.

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
    if not (folder / "best.json").exists():
        raise UserError(
            f"The study in {folder} is not finished; run the same 'pseudoval tune' again to go on."
        )
    return Run(
        folder=folder,
        header=read_json(folder / "run.json", "The run's header"),
        best=read_json(folder / "best.json", "The run's choice"),
    )
