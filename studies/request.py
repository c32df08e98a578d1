"""What is asked of a study: an order, and the same looked through, with its header."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from pseudoval.data.files import require_folder, sha256_file
from pseudoval.data.versions import versions
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.models.members import recorded_sha256
from pseudoval.progress import ProgressCallback
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from pseudoval.statistics.objectives import MACRO
from pseudoval.statistics.rules import BEST, find_rule
from studies.checks import (
    check_configs,
    check_fit,
    check_masks,
    check_objective,
    check_paired,
    check_sets,
)
from studies.crew import Crew
from studies.design.stages import STUDIES, Maker, Study
from studies.design.study_files import read_study
from studies.search.members import Member, joint_sha256, members_are, open_members
from studies.search.off_path import check_share
from studies.search.search import Outcome, search
from studies.sharing.storage import JOURNAL, Home, open_journal, shown

TOLD = ("model", "pseudo", "study_file", "members_are", "versions", "device", "defaults",
        "ranges", "trained_sha256")  # fmt: skip
"""Keys of the header that may differ from one call to the next; all others make it this study."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of ``run_study``, for this process and those that help it."""

    study: str | Path | Maker
    model: Path | Detector
    folders: list[Path]
    out: Path
    t: Sequence[int] | None
    k: Sequence[int] | None
    objective: str | None
    rule: str | None
    seed: int
    repeats: int
    device: str
    audit_share: float | None
    storage: str | None
    study_name: str | None
    workers: int | None
    settings: Mapping[str, str] | None
    cache: Path | bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An order that was looked through: what is searched, on what, under which header."""

    order: Order
    plan: Study
    members: list[Member]
    header: dict[str, Any]

    def search(
        self, home: Home, members: Sequence[Member], report: ProgressCallback, retries: int = 0
    ) -> Outcome | None:
        """``studies.search.search.search`` as ordered."""
        return search(
            self.plan,
            members,
            self.order.out,
            home=home,
            objective=self.header["objective"],
            rule=self.header["rule"],
            seed=self.header["seed"],
            report=report,
            retries=retries,
        )

    def crew(self, storage: BaseStorage | None) -> Crew:
        """Those who score, with this storage or with RUN's journal."""
        home = Home(storage=storage or open_journal(self.order.out), name=self.header["study_name"])
        return Crew(home=home, workers=self.order.workers, remote=storage is not None)

    def identity(self) -> list[str]:
        """The keys of the header that make it the same study."""
        return [name for name in self.header if name not in TOLD]


def ask(order: Order) -> Asked:
    """Read all that an order names, and refuse what cannot be run; nothing is written.

    Raises:
        UserError: see the sentence.
    """
    model, out, folders = order.model, order.out, order.folders
    if order.repeats < 1:
        raise UserError(f"{order.repeats} repeats cannot be scored; give at least 1.")
    if order.workers is not None and order.workers < 1:
        raise UserError(f"{order.workers} workers cannot score anything; give at least 1.")
    find_rule(order.rule or BEST)
    check_objective(order.objective or MACRO, order.rule or BEST)
    make = _maker(order.study)
    if isinstance(model, Path):
        require_folder(model, "model", "pseudoval train DATA")
    seed = order.seed if isinstance(model, Path) else model.seed
    named = model if isinstance(model, Path) else Path(model.name)
    for folder in folders:
        require_folder(folder, "pseudo", "pseudoval build DATA")
    manifests = [(folder, load_manifest(folder)) for folder in folders]
    check_sets(manifests)
    sets = [(folder, pseudo_items(folder, manifest)) for folder, manifest in manifests]
    members = open_members(
        model, sets, out, seed=seed, repeats=order.repeats, device=order.device, cache=order.cache,
        settings=order.settings,
    )  # fmt: skip
    detector = members[0].detector
    plan = make(detector, order.t, order.k)
    objective, rule = order.objective or plan.objective or MACRO, order.rule or plan.rule or BEST
    check_objective(objective, rule)
    check_paired(members, rule)
    if order.audit_share is not None:
        check_share(plan, order.audit_share)
    for member in members:
        check_fit(plan, member.detector, manifests[0][1], member.model, folders[0])
        check_masks(objective, member.items, member.pseudo)
        check_configs(plan, member.detector)
    names = {name for config in plan.cells() for name in config}
    tuned = [parameter for parameter in detector.parameters if parameter.name in names]
    name = order.study_name or plan.name
    if order.storage is not None and order.study_name is None:
        name = f"{out.resolve().name}/{plan.name}"
    header = {
        "study": plan.name,
        "objective": objective,
        "rule": rule,
        "detector": detector.name,
        "model": os.path.relpath(named, out),
        "pseudo": [os.path.relpath(folder, out) for folder in folders],
        "categories": list(manifests[0][1]["categories"]),
        "grids": plan.grids(),
        "stages": [stage.described() for stage in plan.stages],
        "defaults": {p.name: p.default for p in tuned},
        "ranges": {p.name: [p.low, p.high] for p in tuned},
        "seed": seed,
        "repeats": order.repeats,
        "device": order.device,
        "scoring": dict(order.settings or {}),
        "trained_sha256": recorded_sha256(named) if order.settings else joint_sha256(members),
        "model_sha256": joint_sha256(members),
        "split_sha256": detector.split_sha256,
        "pseudo_sha256": [sha256_file(folder / "manifest.json") for folder in folders],
        "storage": JOURNAL if order.storage is None else shown(order.storage),
        "study_name": name,
        "versions": versions("torch", "timm", "faiss-cpu", "optuna", "numpy"),
    }
    if plan.file is not None:
        header["study_file"] = os.path.relpath(plan.file, out)
    if members[0].name:
        header["members"] = [member.name for member in members]
        header["members_are"] = members_are(members)
    return Asked(order=order, plan=plan, members=members, header=header)


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

    def read(detector: Detector, t: Sequence[int] | None, k: Sequence[int] | None) -> Study:
        if t is not None or k is not None:
            raise UserError(f"{path} has grids of its own; leave --t and --k out.")
        return read_study(path, detector)

    return read
