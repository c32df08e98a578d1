"""A request for a study, and the same looked through: what is searched, on what."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.samplers import BaseSampler

from pseudoval.data.files import require_folder, sha256_file
from pseudoval.data.versions import versions
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.runs import RunHeader
from pseudoval.models.members import recorded_sha256
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.statistics.objectives import MACRO
from pseudoval.statistics.rules import BEST
from pseudoval.tasks import Workers
from studies.checks import (
    check_grids,
    check_images,
    check_objective,
    check_repeats,
    check_sets,
    check_study,
    option_of,
)
from studies.design.built_in import STUDIES, Grids, Maker
from studies.design.ranges import Given
from studies.design.sampler_names import sampler_of
from studies.design.stages import Study, searched
from studies.design.study_files import read_study
from studies.search.members import Member, joint_sha256, members_are, number, open_members
from studies.search.prepared import PreparedStudy
from studies.search.storage import JOURNAL, shown


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What ``run_study`` is asked for: its arguments.

    Attributes:
        pseudo: the PSEUDO folders.
    """

    study: str | Path | Maker
    model: Path | Detector
    pseudo: tuple[Path, ...]
    out: Path
    grids: Mapping[str, Given]
    trials: int | None
    sampler: str | BaseSampler | None
    objective: str | None
    rule: str | None
    seed: int
    repeats: int
    settings: Mapping[str, str] | None
    device: str
    overwrite: bool
    audit_share: float | None
    cache: Path | bool
    storage: str | None
    study_name: str | None
    retry_failed: bool

    @property
    def noise_seed(self) -> int:
        """The seed of the noise: that of a detector that is not in a folder is its own."""
        return self.seed if isinstance(self.model, Path) else self.model.seed

    @property
    def model_path(self) -> Path:
        """The MODEL folder; of a detector that is not in one, its name."""
        return self.model if isinstance(self.model, Path) else Path(self.model.name)


def prepare(request: StudyRequest, workers: Workers) -> PreparedStudy:
    """Read all that a request names, and refuse what cannot be run; nothing is written.

    Raises:
        UserError: see the sentence.
    """
    check_repeats(request.repeats)
    check_objective(request.objective or MACRO, request.rule or BEST)
    make = _maker(request.study)
    if isinstance(request.model, Path):
        require_folder(request.model, "model", "pseudoval train DATA")
    elif request.settings or request.repeats > 1:
        raise UserError(
            f"Repeats and options of scoring need a MODEL folder to open with them; the detector "
            f"{request.model.name} was given itself. Leave them out, and set it up as it is to be."
        )
    for folder in request.pseudo:
        require_folder(folder, "pseudo", "pseudoval build DATA")
    manifests = [(folder, load_manifest(folder)) for folder in request.pseudo]
    check_sets(manifests)
    sets = [(folder, pseudo_items(folder, manifest)) for folder, manifest in manifests]
    for (_, manifest), (_, items) in zip(manifests, sets, strict=True):
        check_images(items, manifest)
    members = open_members(
        request.model, sets, request.out, seed=request.noise_seed, repeats=request.repeats,
        device=request.device, cache=request.cache, settings=request.settings,
        on_workers=workers.executor is not None,
    )  # fmt: skip
    name, own = sampler_of(request.sampler)
    plan = make(members[0].detector, request.grids)
    check_grids(plan, request.grids)
    plan = searched(plan, name, request.trials)
    header = _header(request, plan, members, manifests[0][1]["categories"])
    study = PreparedStudy(
        plan=plan, members=members, out=request.out, header=header, workers=workers, sampler=own
    )
    check_study(study, manifests[0][1], request.audit_share)
    return study


def _header(
    request: StudyRequest, plan: Study, members: Sequence[Member], categories: Sequence[str]
) -> RunHeader:
    """``run.json`` of a study."""
    out, detector = request.out, members[0].detector
    names = {name for config in plan.cells() for name in config}
    tuned = [parameter for parameter in detector.parameters if parameter.name in names]
    model_sha256 = joint_sha256(members)
    # A database may hold the studies of many RUNs.
    in_storage = f"{out.resolve().name}/{plan.name}" if request.storage else plan.name
    trained = recorded_sha256(request.model_path) if request.settings else model_sha256
    header: RunHeader = {
        "study": plan.name,
        "objective": request.objective or plan.objective or MACRO,
        "rule": request.rule or plan.rule or BEST,
        "detector": detector.name,
        "model": os.path.relpath(request.model_path, out),
        "pseudo": [os.path.relpath(folder, out) for folder in request.pseudo],
        "categories": list(categories),
        "grids": plan.grids(),
        "stages": [stage.described() for stage in plan.stages],
        "defaults": {p.name: p.default for p in tuned},
        "ranges": {
            p.name: [number(p.low), number(p.high)] for p in tuned if p.kind != "categorical"
        },
        "seed": request.noise_seed,
        "repeats": request.repeats,
        "device": request.device,
        "scoring": dict(request.settings or {}),
        "trained_sha256": trained,
        "model_sha256": model_sha256,
        "split_sha256": detector.split_sha256,
        "pseudo_sha256": [sha256_file(folder / "manifest.json") for folder in request.pseudo],
        "storage": JOURNAL if request.storage is None else shown(request.storage),
        "study_name": request.study_name or in_storage,
        "versions": versions("torch", "timm", "faiss-cpu", "optuna", "numpy"),
    }
    if request.trials is not None:
        header["trials"] = request.trials
    name, _ = sampler_of(request.sampler)
    if name is not None:
        header["sampler"] = name
    if plan.file is not None:
        header["study_file"] = os.path.relpath(plan.file, out)
    if members[0].name:
        header["members"] = [member.name for member in members]
        header["members_are"] = members_are(members)
    return header


def _maker(study: str | Path | Maker) -> Maker:
    """What makes the study for a detector.

    Raises:
        UserError: a name that is neither in ``STUDIES`` nor a TOML file.
    """
    if callable(study):
        return study
    if str(study) in STUDIES:
        return STUDIES[str(study)]
    path = Path(study)
    if path.suffix != ".toml":
        raise UserError(
            f"There is no study {str(study)!r}; the studies are {', '.join(STUDIES)}, and any file "
            "that ends in .toml."
        )

    def read(detector: Detector, grids: Grids) -> Study:
        if grids:
            raise UserError(
                f"{path} has grids of its own; leave --{option_of(next(iter(grids)))} out."
            )
        return read_study(path, detector)

    return read
