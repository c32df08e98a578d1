"""Running a study: one call that begins it, goes on with it or finds it finished."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.files import (
    claimed,
    clear_folder,
    read_json,
    require_folder,
    sha256_file,
    write_json,
)
from pseudoval.manifest import load_manifest, pseudo_items
from pseudoval.objectives import MACRO
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scores import ScoreMatrix
from pseudoval.selection import BEST, check_rule
from pseudoval.versions import versions
from studies.audit import add_audit, check_share
from studies.checks import (
    check_configs,
    check_fit,
    check_masks,
    check_objective,
    check_paired,
    check_sets,
    check_stages,
)
from studies.search import Outcome, search
from studies.seeds import Member, joint_sha256, members_are, open_members, start_member_runs
from studies.spec import STUDIES, Maker, Study
from studies.study_files import read_study

UNSAID = {"rule": BEST, "repeats": 1, "refine": 0, "race": False}
"""What a RUN was made with that was made before there was a choice."""


def run_study(
    study: str | Path | Maker,
    *,
    model: str | Path | Detector,
    pseudo: str | Path | Sequence[str | Path],
    out: str | Path,
    t: Sequence[int] | None = None,
    k: Sequence[int] | None = None,
    objective: str | None = None,
    rule: str | None = None,
    seed: int = 0,
    repeats: int = 1,
    device: str = "cpu",
    overwrite: bool = False,
    audit_share: float | None = None,
    cache: str | Path | bool = True,
    refine: int = 0,
    race: bool = False,
    progress: ProgressCallback | None = None,
) -> Outcome:
    """Choose a configuration on a pseudo set alone.

    Interrupted, the same call goes on; finished, it returns what is there.

    Args:
        study: a name in ``studies.STUDIES``, one of those functions, or a TOML file.
        model: a MODEL folder, trained on the split of the pseudo set; or any object that keeps the
            protocol ``pseudoval.detectors.Detector`` (``docs/own_detector.py`` is one), whose
            noise has the seed of its own.
        pseudo: a PSEUDO folder, or several on one split; the choice is made on their mean.
        out: the RUN folder.
        t, k: grids; None is the detector's own.
        objective: what is maximised, a name in ``pseudoval.objectives.OBJECTIVES`` or the mean
            of two, ``A+B``; None is the study file's, or the macro image AUROC.
        rule: which configuration wins, a name in ``pseudoval.selection.RULES``; None is the study
            file's, or ``best``.
        seed: of the noise that scoring draws.
        repeats: score with so many seeds of the noise, from ``seed`` on; the choice is made on
            their mean.
        overwrite: start anew in a RUN of another study, model, set, grid or seed.
        audit_share: score this share of the grid's cells off the path of the stages when they
            are done, also in a finished RUN; the choice does not look at them.
        cache: folder that features of images are kept in and taken from; True is ``cache`` in the
            MODEL, False is none.
        refine: after each grid, so many rounds of values around its leader; see
            ``studies.refining``.
        race: score each grid on shares of the images, and drop what is worse than the leader; see
            ``studies.racing``.

    Raises:
        UserError: see the sentence.

    Example:
        With a ``model`` and a ``pseudo`` folder at hand:

        >>> from studies import run_study, t_then_k
        >>> outcome = run_study(
        ...     t_then_k, model="model", pseudo="pseudo", out="quick", t=[25, 300], k=[1, 4]
        ... )
        >>> outcome.trials["stage"].tolist()
        ['t', 't', 'k', 'k']
        >>> sorted(outcome.best["params"])
        ['k', 't']
    """
    out = Path(out)
    model = Path(model) if isinstance(model, str | Path) else model
    folders = [Path(pseudo)] if isinstance(pseudo, str | Path) else [Path(one) for one in pseudo]
    if repeats < 1:
        raise UserError(f"{repeats} repeats cannot be scored; give at least 1.")
    if refine < 0:
        raise UserError(f"{refine} rounds of refining cannot be made; give 0 or more.")
    check_rule(rule or BEST)
    check_objective(objective or MACRO, rule or BEST, race)
    make = _maker(study)
    if isinstance(model, Path):
        require_folder(model, "model", "pseudoval train DATA")
    else:
        seed = model.seed
    named = model if isinstance(model, Path) else Path(model.name)
    for folder in folders:
        require_folder(folder, "pseudo", "pseudoval build DATA")
    report = progress or silent
    manifests = [(folder, load_manifest(folder)) for folder in folders]
    check_sets(manifests)
    sets = [(folder, pseudo_items(folder, manifest)) for folder, manifest in manifests]
    place = Path(cache) if isinstance(cache, str) else cache
    members = open_members(model, sets, out, seed=seed, repeats=repeats, device=device, cache=place)
    detector = members[0].detector
    plan = make(detector, t, k)
    plan = replace(
        plan,
        stages=tuple(
            replace(stage, refine=refine or stage.refine, race=race or stage.race)
            for stage in plan.stages
        ),
    )
    race = any(stage.race for stage in plan.stages)
    objective, rule = objective or plan.objective or MACRO, rule or plan.rule or BEST
    check_objective(objective, rule, race)
    check_paired(members, rule, race)
    check_stages(plan)
    if audit_share is not None:
        check_share(plan, audit_share)
    for member in members:
        check_fit(plan, member.detector, manifests[0][1], member.model, folders[0])
        check_masks(objective, member.items, member.pseudo)
        check_configs(plan, member.detector)
    names = {name for config in plan.cells() for name in config}
    tuned = [parameter for parameter in detector.parameters if parameter.name in names]
    header = {
        "study": plan.name,
        "objective": objective,
        "rule": rule,
        "race": race,
        "refine": max(stage.refine for stage in plan.stages),
        "detector": detector.name,
        "model": os.path.relpath(named, out),
        "pseudo": [os.path.relpath(folder, out) for folder in folders],
        "categories": list(manifests[0][1]["categories"]),
        "grids": plan.grids(),
        "stages": [stage.described() for stage in plan.stages],
        "defaults": {p.name: p.default for p in tuned},
        "ranges": {p.name: [p.low, p.high] for p in tuned},
        "seed": seed,
        "repeats": repeats,
        "model_sha256": joint_sha256(members),
        "split_sha256": detector.split_sha256,
        "pseudo_sha256": [sha256_file(folder / "manifest.json") for folder in folders],
        "storage": "optuna.journal",
        "versions": versions("torch", "timm", "faiss-cpu", "optuna", "numpy"),
    }
    if plan.file is not None:
        header["study_file"] = os.path.relpath(plan.file, out)
    if members[0].name:
        header["members"] = [member.name for member in members]
        header["members_are"] = members_are(members)
    with claimed(out, "run"):
        if _claim(out, header, overwrite):
            outcome = _finished(out, members)
        else:
            start_member_runs(members, out, header)
            outcome = search(
                plan, members, out, objective=objective, rule=rule, seed=seed, report=report
            )
        if audit_share is not None and add_audit(plan, members, out, audit_share, seed, report):
            outcome = replace(_finished(out, members), fresh=True)
        return outcome


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


def _claim(out: Path, header: dict[str, Any], overwrite: bool) -> bool:
    """Write the RUN's header; True if this very study is already finished in it.

    Raises:
        UserError: the RUN belongs to something else, and ``overwrite`` is not set.
    """
    path = out / "run.json"
    if path.exists() and not overwrite:
        found = {**UNSAID, **read_json(path, "The run's header")}
        told = ("model", "pseudo", "study_file", "members_are", "versions", "defaults", "ranges")
        identity = [name for name in header if name not in told]
        if "stages" not in found:  # the grids of an older RUN say as much
            identity.remove("stages")
        differing = [name for name in identity if found.get(name) != header[name]]
        if differing:
            name = differing[0]
            raise UserError(
                f"{out} holds a study with another {name} ({_brief(found.get(name))} there, "
                f"{_brief(header[name])} now); choose another --out, or pass --overwrite."
            )
        return (out / "best.json").exists()
    clear_folder(out)
    write_json(path, header)
    return False


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _finished(out: Path, members: Sequence[Member]) -> Outcome:
    return Outcome(
        best=read_json(out / "best.json", "The run's choice"),
        trials=pd.read_csv(out / "trials.csv"),
        matrix=ScoreMatrix.load(members[0].folder / "pseudo_scores.npz"),
        fresh=False,
    )
