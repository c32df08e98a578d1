"""Running a study: one call that begins it, goes on with it or finds it finished."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.storages import BaseStorage

from pseudoval.data.files import claimed, clear_folder, read_json, write_json
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.progress import ProgressCallback, silent
from pseudoval.statistics.rules import BEST
from studies.crew import SEARCH, Part, agree
from studies.design.stages import Maker
from studies.request import Asked, Order, ask
from studies.search.members import Member, start_member_runs
from studies.search.off_path import AUDIT, add_audit, is_open
from studies.search.off_path import BEST as BEST_FILE
from studies.search.search import Outcome
from studies.sharing.blocks import Finished
from studies.sharing.storage import answering, connect, shown

UNSAID: dict[str, Any] = {
    "rule": BEST, "repeats": 1, "scoring": {},
}  # fmt: skip
"""What a RUN was made with that was made before there was a choice."""

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
        objective: what is maximised, a name in ``pseudoval.statistics.objectives.OBJECTIVES`` or
            the mean of two, ``A+B``; None is the study file's, or the macro image AUROC.
        rule: which configuration wins, a name in ``pseudoval.statistics.rules.RULES``; None is the
            study file's, or ``best``.
        seed: of the noise that scoring draws.
        repeats: score with so many seeds of the noise, from ``seed`` on; the choice is made on
            their mean.
        settings: options of scoring to use instead of the model's own, as ``section.name``: text,
            such as ``{"diffusion.evaluations": "5"}``; evaluate, refit and predict follow them.
        overwrite: start anew in a RUN of another study, model, set, grid or seed.
        audit_share: score this share of the grid's cells off the path of the stages when they
            are done, also in a finished RUN; the choice does not look at them.
        cache: folder that features of images are kept in and taken from; True is ``cache`` in the
            MODEL, False is none.
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
        audit_share=audit_share, storage=storage,
        study_name=study_name, workers=workers, settings=settings,
        cache=Path(cache) if isinstance(cache, str) else cache,
    )  # fmt: skip
    with answering(storage):
        return _run(order, overwrite, retry_failed, progress or silent, notice or (lambda _: None))


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
    return any(None in stage["objective_value"] for stage in best["stages"])


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
