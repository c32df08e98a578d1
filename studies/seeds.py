"""One study over the models of several seeds: scored one by one, chosen on their mean."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.dataset import ImageItem
from pseudoval.detectors import Detector
from pseudoval.detectors.feature_models import open_detectors
from pseudoval.files import claim_folder, write_json
from pseudoval.members import members_sha256
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scores import Config, ScoreMatrix
from pseudoval.sweep import score_images


@dataclass(frozen=True, kw_only=True)
class Member:
    """One seed of a study.

    Attributes:
        name: such as ``seed-0``; "" where there is one model only.
        model: its MODEL folder.
        folder: its RUN folder; that of the study itself where there is one model only.
    """

    name: str
    detector: Detector
    model: Path
    folder: Path


def open_members(model: Path, out: Path, *, seed: int, device: str) -> list[Member]:
    """The members of a study on a MODEL folder; ``seed`` is of the noise, the same for all.

    Raises:
        UserError: see ``open_detectors``.
    """
    detectors = open_detectors(model, seed=seed, device=device)
    return [
        Member(name=name, detector=detector, model=model / name, folder=out / name)
        for name, detector in detectors.items()
    ]


def joint_sha256(members: Sequence[Member]) -> str:
    """The hash of the one model, or of all of them."""
    if not members[0].name:
        return members[0].detector.model_sha256
    return members_sha256({member.name: member.detector.model_sha256 for member in members})


def score_members(
    members: Sequence[Member],
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    name: str,
    progress: ProgressCallback,
) -> list[ScoreMatrix]:
    """The score matrix of every member over the same images and configurations."""
    return [
        score_images(
            member.detector,
            items,
            configs,
            name=name,
            store=member.folder / "blocks",
            progress=labelled(progress, member.name),
        )
        for member in members
    ]


def mean_over_members(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean ``[configs]`` of one array per member, rounded once so that equal sets tie exactly."""
    return np.array([math.fsum(column) / len(values) for column in zip(*values, strict=True)])


def number(value: float) -> float | None:
    """For strict JSON: NaN is None."""
    return None if math.isnan(value) else float(value)


def listed(values: np.ndarray) -> list[float | None]:
    """``number`` of each."""
    return [number(value) for value in values]


def start_member_runs(members: Sequence[Member], out: Path, header: Mapping[str, Any]) -> None:
    """Make each seed's folder a RUN of its own, before anything is written into it."""
    for member in members:
        if member.name:
            claim_folder(member.folder, "run")
            own = {
                **header,
                "model": os.path.relpath(member.model, member.folder),
                "pseudo": [os.path.relpath(out / path, member.folder) for path in header["pseudo"]],
                "model_sha256": member.detector.model_sha256,
            }
            del own["members"]
            write_json(member.folder / "run.json", own)
