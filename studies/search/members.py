"""One study over several models, pseudo sets and seeds: scored one by one, chosen on the mean."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pseudoval.data.dataset import ImageItem
from pseudoval.data.files import claim_folder, sha256_file, sha256_json
from pseudoval.detectors import Detector
from pseudoval.metrics.runs import RunHeader, write_header
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.members import recorded_sha256
from pseudoval.models.open import open_detectors
from pseudoval.scoring.blocks import Scoring


@dataclass(frozen=True, kw_only=True)
class Member:
    """One scoring of a study: a model, a pseudo set, the noise of a seed.

    Attributes:
        name: what sets it apart, such as ``seed-0`` (of the model), ``pseudo-1`` (the second set),
            ``noise-1`` (the second repeat) or several of them joined; "" where there is one only.
        model: its MODEL folder.
        pseudo: its PSEUDO folder.
        pseudo_sha256: of that set's manifest.
        items: the images of that set.
        folder: its RUN folder; that of the study itself where there is one member only.
        known: what was scored before, for points that failed to be run again; None knows nothing.
        scored: what was scored so far without pixel figures; its blocks are there.
    """

    name: str
    detector: Detector
    model: Path
    pseudo: Path
    pseudo_sha256: str
    items: list[ImageItem]
    folder: Path
    known: ScoreMatrix | None = None
    scored: list[Scoring] = field(default_factory=list)

    @property
    def scores_path(self) -> Path:
        """Its score matrix."""
        return self.folder / "pseudo_scores.npz"

    @property
    def blocks_path(self) -> Path:
        """The folder of its scored blocks, while the study is unfinished."""
        return self.folder / "blocks"


def open_members(
    model: Path | Detector,
    pseudos: Sequence[tuple[Path, list[ImageItem]]],
    out: Path,
    *,
    seed: int,
    repeats: int,
    device: str,
    cache: Path | bool = True,
    settings: Mapping[str, str] | None = None,
    on_workers: bool = False,
) -> list[Member]:
    """Every model of a MODEL folder on every pseudo set, with the noise of every seed.

    Args:
        model: a MODEL folder, or a detector, which has its own seed.
        pseudos: PSEUDO folders with their images.
        seed: of the noise, the same for all models; ``repeats`` of them, from this one on.
        cache, settings, on_workers: see ``open_detectors``.

    Raises:
        UserError: see ``open_detectors``.
    """
    members = []
    hashes = [sha256_file(folder / "manifest.json") for folder, _ in pseudos]
    for repeat in range(repeats):
        detectors: Mapping[str, Detector] = (
            open_detectors(
                model,
                seed=seed + repeat,
                device=device,
                cache=cache,
                settings=settings,
                on_workers=on_workers,
            )
            if isinstance(model, Path)
            else {"": model}
        )
        for of_model, detector in detectors.items():
            for number, (folder, items) in enumerate(pseudos):
                of_set = f"pseudo-{number}" if len(pseudos) > 1 else ""
                of_noise = f"noise-{repeat}" if repeats > 1 else ""
                name = "-".join(part for part in (of_model, of_set, of_noise) if part)
                members.append(
                    Member(
                        name=name,
                        detector=detector,
                        model=model / of_model if isinstance(model, Path) else Path(model.name),
                        pseudo=folder,
                        pseudo_sha256=hashes[number],
                        items=items,
                        folder=out / name,
                    )
                )
    return members


def members_are(members: Sequence[Member]) -> str:
    """What a mean over the members is a mean over, for a person."""
    sets = len({member.pseudo for member in members}) > 1
    seeds = len({(member.model, member.detector.seed) for member in members}) > 1
    if sets and seeds:
        return "combinations of pseudo set and seed"
    return "pseudo sets" if sets else "seeds"


def paired(members: Sequence[Member]) -> bool:
    """Whether a resample of the groups means the same normals for all members."""
    held = [{(i.category, i.group, i.label) for i in member.items} for member in members]
    return all(one == held[0] for one in held)


def joint_sha256(members: Sequence[Member]) -> str:
    """The hash of the one model, or of all of them."""
    by_model = {member.model: member.detector.model_sha256 for member in members}
    if len(by_model) == 1:
        return members[0].detector.model_sha256
    return sha256_json({folder.name: sha256 for folder, sha256 in by_model.items()})


def mean_over_members(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean ``[configs]`` of one array per member, rounded once so that equal sets tie exactly."""
    return np.array([math.fsum(column) / len(values) for column in zip(*values, strict=True)])


def number(value: float) -> float | None:
    """For strict JSON: None where there is no finite number."""
    return float(value) if math.isfinite(value) else None


def listed(values: np.ndarray) -> list[float | None]:
    """``number`` of each."""
    return [number(value) for value in values]


def start_member_runs(members: Sequence[Member], header: RunHeader) -> None:
    """Make each member's folder a RUN of its own, before anything is written into it."""
    for member in members:
        if member.name:
            claim_folder(member.folder, "run")
            sha256 = member.detector.model_sha256
            trained = recorded_sha256(member.model) if header["scoring"] else sha256
            own: RunHeader = {
                **header,
                "model": os.path.relpath(member.model, member.folder),
                "pseudo": [os.path.relpath(member.pseudo, member.folder)],
                "pseudo_sha256": [member.pseudo_sha256],
                "seed": member.detector.seed,
                "repeats": 1,
                "model_sha256": sha256,
                "trained_sha256": trained,
            }
            del own["members"]
            write_header(member.folder, own)
