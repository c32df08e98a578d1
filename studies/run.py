"""Running a study: score a stage, choose, go on to the next; all of it resumable."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pseudoval.dataset import ImageItem
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.examples import write_examples
from pseudoval.files import (
    atomic_path,
    claimed,
    clear_folder,
    read_json,
    require_folder,
    sha256_file,
    write_json,
)
from pseudoval.manifest import load_manifest, pseudo_items
from pseudoval.metrics import auroc_by_category, macro_auroc
from pseudoval.progress import ProgressCallback, labelled, silent
from pseudoval.scores import ScoreMatrix, config_name
from pseudoval.statistics import select_best
from pseudoval.sweep import forget_blocks
from pseudoval.versions import versions
from studies.audit import add_audit, check_share
from studies.seeds import (
    Member,
    finish_member_runs,
    joint_sha256,
    mean_over_members,
    open_members,
    score_members,
    start_member_runs,
)
from studies.spec import STUDIES, Stage, Study
from studies.storage import completed, open_stage, record

OBJECTIVE = "macro_image_auroc"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a study found.

    Attributes:
        best: the content of ``best.json``.
        trials: the content of ``trials.csv``.
        matrix: pseudo scores of every configuration that was tried; those of the first seed where
            there are several.
        fresh: False if the run was already finished and nothing was done.
    """

    best: dict[str, Any]
    trials: pd.DataFrame
    matrix: ScoreMatrix
    fresh: bool


def run_study(
    study: str,
    *,
    model: Path,
    pseudo: Path,
    out: Path,
    t: Sequence[int] | None = None,
    k: Sequence[int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    audit_share: float | None = None,
    progress: ProgressCallback | None = None,
) -> Outcome:
    """Choose a configuration on a pseudo set alone.

    Interrupted, the same call goes on; finished, it returns what is there.

    Args:
        study: a name in ``studies.STUDIES``.
        model: a MODEL folder, trained on the split of the pseudo set.
        pseudo: a PSEUDO folder.
        out: the RUN folder.
        t, k: grids; None is the detector's own.
        seed: of the noise that scoring draws.
        overwrite: start anew in a RUN of another study, model, set, grid or seed.
        audit_share: score this share of the grid's cells off the path of the stages when they
            are done, also in a finished RUN; the choice does not look at them.

    Raises:
        UserError: see the sentence.
    """
    if study not in STUDIES:
        raise UserError(f"There is no study {study!r}; the studies are {', '.join(STUDIES)}.")
    require_folder(model, "model", "pseudoval train DATA")
    require_folder(pseudo, "pseudo", "pseudoval build DATA")
    report = progress or silent
    manifest = load_manifest(pseudo)
    members = open_members(model, out, seed=seed, device=device)
    detector = members[0].detector
    plan = STUDIES[study](detector, t, k)
    if audit_share is not None:
        check_share(plan, audit_share)
    for member in members:
        check_fit(plan, member.detector, manifest, member.model, pseudo)
    header = {
        "study": plan.name,
        "objective": OBJECTIVE,
        "detector": detector.name,
        "model": os.path.relpath(model, out),
        "pseudo": [os.path.relpath(pseudo, out)],
        "categories": list(manifest["categories"]),
        "grids": {stage.name: list(stage.values) for stage in plan.stages},
        "defaults": {p.name: p.default for p in detector.parameters},
        "ranges": {p.name: [p.low, p.high] for p in detector.parameters},
        "seed": seed,
        "model_sha256": joint_sha256(members),
        "split_sha256": detector.split_sha256,
        "pseudo_sha256": [sha256_file(pseudo / "manifest.json")],
        "storage": "optuna.journal",
        "versions": versions("torch", "timm", "faiss-cpu", "optuna", "numpy"),
    }
    if members[0].name:
        header["members"] = [member.name for member in members]
    items = pseudo_items(pseudo, manifest)
    for member in members:
        check_configs(plan, member.detector)
    with claimed(out, "run"):
        if _claim(out, header, overwrite):
            outcome = _finished(out, members)
        else:
            start_member_runs(members, out, header)
            outcome = _search(plan, members, items, out, seed, report)
        if audit_share is not None and add_audit(
            plan, members, items, out, audit_share, seed, report
        ):
            outcome = replace(_finished(out, members), fresh=True)
        return outcome


def _search(
    plan: Study,
    members: Sequence[Member],
    items: list[ImageItem],
    out: Path,
    seed: int,
    report: ProgressCallback,
) -> Outcome:
    """Stage after stage, then everything that RUN keeps; ``best.json`` last."""
    selected: dict[str, int] = {}
    parts: list[list[ScoreMatrix]] = []
    stages: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    for stage in plan.stages:
        started = time.monotonic()
        configs = stage.configs(selected)
        matrices = score_members(members, items, configs, f"stage-{stage.name}", report)
        seconds = (time.monotonic() - started) / len(stage.values)
        by_member = {
            member.name: macro_auroc(matrix.scores, matrix.categories, matrix.labels)
            for member, matrix in zip(members, matrices, strict=True)
        }
        values = mean_over_members(list(by_member.values()))
        tables.append(_trials(out, plan, stage, matrices, values, by_member, seconds, seed))
        row = select_best(configs, values)
        selected[stage.param] = stage.values[row]
        parts.append(matrices)
        stages.append(
            {
                "name": stage.name,
                "param": stage.param,
                "values": list(stage.values),
                "pseudo_auroc": [float(value) for value in values],
                "selected": stage.values[row],
                "configs": matrices[0].configs,
            }
        )
        if members[0].name:
            stages[-1]["pseudo_auroc_by_seed"] = {n: v.tolist() for n, v in by_member.items()}
    last = stages[-1]
    params = dict(last["configs"][last["values"].index(last["selected"])])
    best = {
        "study": plan.name,
        "objective": OBJECTIVE,
        "params": params,
        "pseudo_auroc": last["pseudo_auroc"][last["values"].index(last["selected"])],
        "stages": stages,
        "split_sha256": members[0].detector.split_sha256,
        "model_sha256": joint_sha256(members),
        "seed": seed,
    }
    wholes = [ScoreMatrix.joined(of_member) for of_member in zip(*parts, strict=True)]
    for member, whole in zip(members, wholes, strict=True):
        write_examples(
            member.folder / "examples",
            "pseudo",
            member.detector,
            items,
            whole,
            params,
            labelled(report, member.name),
        )
        whole.save(member.folder / "pseudo_scores.npz")
    finish_member_runs(members, wholes, best)
    trials = pd.concat(tables, ignore_index=True)
    with atomic_path(out / "trials.csv") as path:
        trials.to_csv(path, index=False, lineterminator="\n")
    write_json(out / "best.json", best)
    for member in members:
        forget_blocks(member.folder / "blocks")
    return Outcome(best=best, trials=trials, matrix=wholes[0], fresh=True)


def check_fit(
    plan: Study, detector: Detector, manifest: dict[str, Any], model: Path, pseudo: Path
) -> None:
    """Refuse a model and a pseudo set that do not belong together.

    Raises:
        UserError: another detector's study, another split, or other categories.
    """
    if plan.detector != detector.name:
        raise UserError(
            f"The study {plan.name} is for the detector {plan.detector}, but {model} holds "
            f"{detector.name}; 'pseudoval studies' lists which study is for which."
        )
    if detector.split_sha256 is None:
        raise UserError(
            f"The model in {model} was refitted on all normals; nothing was held out that it "
            "could be tuned on. Tune the model it was refitted from, or train one with --pseudo "
            f"{pseudo}."
        )
    if detector.split_sha256 != manifest["split_sha256"]:
        raise UserError(
            f"The model in {model} was trained on another split than that of {pseudo}: images "
            "held out for the one may be in the memory bank of the other. Train again with "
            f"--pseudo {pseudo}."
        )
    if sorted(detector.categories) != sorted(manifest["categories"]):
        raise UserError(
            f"The model in {model} knows {', '.join(detector.categories)}, the set in {pseudo} "
            f"has {', '.join(manifest['categories'])}. Train again with --pseudo {pseudo}."
        )


def check_configs(plan: Study, detector: Detector) -> None:
    """Refuse grids that cannot be scored, before anything is.

    Raises:
        UserError: naming the parameter, its value and its range.
    """
    lowest = {stage.param: stage.values[0] for stage in plan.stages}
    for stage in plan.stages:
        for config in stage.configs(lowest):
            detector.check(config)


def _claim(out: Path, header: dict[str, Any], overwrite: bool) -> bool:
    """Write the RUN's header; True if this very study is already finished in it.

    Raises:
        UserError: the RUN belongs to something else, and ``overwrite`` is not set.
    """
    path = out / "run.json"
    if path.exists() and not overwrite:
        found = read_json(path, "The run's header")
        told = ("model", "pseudo", "versions", "defaults", "ranges")
        identity = [name for name in header if name not in told]
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


def _trials(
    out: Path,
    plan: Study,
    stage: Stage,
    matrices: Sequence[ScoreMatrix],
    values: np.ndarray,
    by_member: Mapping[str, np.ndarray],
    seconds: float,
    seed: int,
) -> pd.DataFrame:
    """Tell Optuna the stage's values and list its trials as ``trials.csv`` does."""
    matrix = matrices[0]
    by_category = np.mean(
        [auroc_by_category(each.scores, each.categories, each.labels) for each in matrices], axis=0
    )
    attributes = {
        point: {
            "seconds": seconds,
            **{
                f"auroc/{name}": float(by_category[row, column])
                for column, name in enumerate(matrix.category_names)
            },
            **{f"by_seed/{name}": float(own[row]) for name, own in by_member.items() if name},
        }
        for row, point in enumerate(stage.values)
    }
    optuna_study = open_stage(out, plan.name, stage, seed)
    by_point = {p: float(v) for p, v in zip(stage.values, values, strict=True)}
    if any(math.isnan(value) for value in by_point.values()):
        raise UserError(
            f"Stage {stage.name} has scores that are not numbers; the model is not usable. Train "
            "it again, with a lower learning rate."
        )
    record(optuna_study, stage, by_point, attributes)
    return pd.DataFrame(
        [
            {
                "stage": stage.name,
                "number": trial.number,
                "params": config_name(
                    matrix.configs[stage.values.index(trial.params[stage.param])]
                ),
                "state": trial.state.name,
                "pseudo_auroc": trial.value,
                "seconds": round(float(trial.user_attrs["seconds"]), 3),
            }
            for trial in completed(optuna_study, stage)
        ]
    )
