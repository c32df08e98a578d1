"""Running a study: one call that begins it, goes on with it or finds it finished."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.storages import BaseStorage

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
from pseudoval.members import recorded_sha256
from pseudoval.objectives import MACRO
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scores import ScoreMatrix
from pseudoval.selection import BEST, check_rule
from pseudoval.versions import versions
from studies.audit import AUDIT, add_audit, check_share, is_open
from studies.audit import BEST as BEST_FILE
from studies.blocks import Finished
from studies.checks import (
    check_configs,
    check_fit,
    check_masks,
    check_objective,
    check_paired,
    check_sets,
    check_stages,
)
from studies.crew import SEARCH, Crew, Part, agree
from studies.search import Outcome, search
from studies.seeds import Member, joint_sha256, members_are, open_members, start_member_runs
from studies.spec import STUDIES, Maker, Study
from studies.storage import JOURNAL, Home, answering, connect, open_journal, shown
from studies.study_files import read_study

UNSAID: dict[str, Any] = {
    "rule": BEST, "repeats": 1, "scoring": {}, "refine": 0, "race": False,
}  # fmt: skip
"""What a RUN was made with that was made before there was a choice."""

TOLD = ("model", "pseudo", "study_file", "members_are", "versions", "defaults", "ranges",
        "trained_sha256")  # fmt: skip
"""Keys of the header that may differ from one call to the next; all others make it this study."""

HERE = ("storage", "study_name")
"""Of those, the ones that may differ from machine to machine, or are the same by themselves."""


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
    settings: Mapping[str, str] | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    audit_share: float | None = None,
    cache: str | Path | bool = True,
    refine: int = 0,
    race: bool = False,
    storage: str | None = None,
    study_name: str | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: ProgressCallback | None = None,
    notice: Callable[[str], None] | None = None,
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
        settings: options of scoring to use instead of the model's own, as ``section.name``: text,
            such as ``{"diffusion.solver": "dpmpp_2m"}``; evaluate, refit and predict follow them.
        overwrite: start anew in a RUN of another study, model, set, grid or seed.
        audit_share: score this share of the grid's cells off the path of the stages when they
            are done, also in a finished RUN; the choice does not look at them.
        cache: folder that features of images are kept in and taken from; True is ``cache`` in the
            MODEL, False is none.
        refine: after each grid, so many rounds of values around its leader; see
            ``studies.refining``.
        race: score each grid on shares of the images, and drop what is worse than the leader; see
            ``studies.racing``.
        storage: URL of the database that keeps the study and carries the scores from machine to
            machine; None is a journal in ``out``.
        study_name: what the study is called in the storage, the same on every machine; None is the
            study's own name, with a ``storage`` after that of ``out``: ``run/t_then_k``.
        workers: score with so many processes of this machine, and with those of the same call
            elsewhere; None is this process alone, unless a ``storage`` is given. More than one are
            spawned, so a script that asks for them needs ``if __name__ == "__main__":``.
        retry_failed: run the points again that failed.
        notice: is told what a person should know beside the progress.

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
    folders = [Path(pseudo)] if isinstance(pseudo, str | Path) else [Path(one) for one in pseudo]
    order = Order(
        study=study, model=Path(model) if isinstance(model, str) else model,
        folders=folders, out=Path(out), t=t, k=k,
        objective=objective, rule=rule, seed=seed, repeats=repeats, device=device,
        audit_share=audit_share, refine=refine, race=race, storage=storage,
        study_name=study_name, workers=workers, settings=settings,
        cache=Path(cache) if isinstance(cache, str) else cache,
    )  # fmt: skip
    with answering(storage):
        return _run(order, overwrite, retry_failed, progress or silent, notice or (lambda _: None))


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
    refine: int
    race: bool
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
        """``studies.search.search`` as ordered."""
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
    check_rule(order.rule or BEST)
    if order.refine < 0:
        raise UserError(f"{order.refine} rounds of refining cannot be made; give 0 or more.")
    check_objective(order.objective or MACRO, order.rule or BEST, order.race)
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
    plan = replace(
        plan,
        stages=tuple(
            replace(stage, refine=order.refine or stage.refine, race=order.race or stage.race)
            for stage in plan.stages
        ),
    )
    race = any(stage.race for stage in plan.stages)
    objective, rule = order.objective or plan.objective or MACRO, order.rule or plan.rule or BEST
    check_objective(objective, rule, race)
    check_paired(members, rule, race)
    check_stages(plan)
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
        "repeats": order.repeats,
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


def _run(
    order: Order,
    overwrite: bool,
    retry_failed: bool,
    report: ProgressCallback,
    notice: Callable[[str], None],
) -> Outcome:
    asked = ask(order)
    out, members = order.out, asked.members
    with claimed(out, "run"):
        best = _standing(out, asked, overwrite)
        audited = (best or {}).get(AUDIT, {"share": 0.0})["share"]  # kept when points run again
        share = max(order.audit_share or 0.0, audited)
        if best is not None and not (retry_failed and _failures(best)) and not is_open(best, share):
            return _finished(out, members)
        storage = _storage(asked, overwrite)
        if best is None:
            _begin(asked, overwrite)
        crew = asked.crew(storage)

        def scoring(part: Part) -> AbstractContextManager[list[Member]]:
            return crew.at_work(members, out, part, assist, order, notice)

        if best is None:
            with scoring(Part(kind=SEARCH)) as team, suppress(Finished):
                asked.search(crew.home, team, report)
            best = read_json(out / BEST_FILE, "The run's choice")
        if retry_failed and _failures(best):
            retries = best.get("retries", 0) + 1
            with scoring(Part(kind=SEARCH, retries=retries)) as team, suppress(Finished):
                asked.search(crew.home, team, report, retries)
            best = read_json(out / BEST_FILE, "The run's choice")
        if is_open(best, share):
            with scoring(Part(kind=AUDIT, share=share)) as team, suppress(Finished):
                add_audit(asked.plan, team, out, share, asked.header["seed"], report)
        return replace(_finished(out, members), fresh=True)


def assist(order: Order, part: Part) -> None:
    """Help another process of this machine with a part of its order."""
    asked = ask(order)
    with answering(order.storage), suppress(Finished):
        crew = asked.crew(connect(order.storage) if order.storage else None)
        with crew.scoring(asked.members, order.out, part, helper=True) as members:
            if part.kind == SEARCH:
                asked.search(crew.home, members, silent, part.retries)
            else:
                add_audit(asked.plan, members, order.out, part.share, asked.header["seed"], silent)


def _storage(asked: Asked, overwrite: bool) -> BaseStorage | None:
    """The database of an order, where the study's name is settled; None if it is RUN's journal."""
    url = asked.order.storage
    if url is None:
        return None
    storage = connect(url, several=(asked.order.workers or 1) > 1)
    identity = {key: asked.header[key] for key in asked.identity() if key not in HERE}
    agree(storage, asked.header["study_name"], identity, overwrite, shown(url))
    return storage


def _begin(asked: Asked, overwrite: bool) -> None:
    """Write the headers of RUN and of its members', unless RUN has them."""
    path = asked.order.out / "run.json"
    if overwrite:
        # What says that it is finished goes first, and the header is there at every moment, so
        # that a kill in between leaves a RUN that is refused or gone on with.
        clear_folder(asked.order.out, first=BEST_FILE, keep=path.name)
    if overwrite or not path.exists():
        write_json(path, asked.header)
    start_member_runs(asked.members, asked.order.out, asked.header)


def _failures(best: Mapping[str, Any]) -> bool:
    """Whether a configuration of a stage has no value."""
    for stage in best["stages"]:
        pruned = [one["value"] for one in stage.get("race", {}).get("pruned", [])]
        for value, figure in zip(stage["values"], stage["objective_value"], strict=True):
            if figure is None and value not in pruned:
                return True
    return False


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


def _standing(out: Path, asked: Asked, overwrite: bool) -> dict[str, Any] | None:
    """``best.json`` of RUN, if this very study is already finished in it.

    Raises:
        UserError: the RUN belongs to something else, and ``overwrite`` is not set.
    """
    path, header = out / "run.json", asked.header
    if overwrite or not path.exists():
        return None
    found = {**UNSAID, **read_json(path, "The run's header")}
    found.setdefault("study_name", found.get("study"))
    identity = asked.identity()
    if "stages" not in found:  # the grids of an older RUN say as much
        identity.remove("stages")
    differing = [name for name in identity if found.get(name) != header[name]]
    if differing:
        name = differing[0]
        raise UserError(
            f"{out} holds a study with another {name} ({_brief(found.get(name))} there, "
            f"{_brief(header[name])} now); choose another --out, or pass --overwrite."
        )
    if not (out / BEST_FILE).exists():
        return None
    return dict(read_json(out / BEST_FILE, "The run's choice"))


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _finished(out: Path, members: Sequence[Member]) -> Outcome:
    return Outcome(
        best=read_json(out / BEST_FILE, "The run's choice"),
        trials=pd.read_csv(out / "trials.csv"),
        matrix=ScoreMatrix.load(members[0].folder / "pseudo_scores.npz"),
        fresh=False,
    )
