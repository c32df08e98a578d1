"""Running a study: one call that begins it, goes on with it or finds it finished."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from optuna.samplers import BaseSampler

from pseudoval.data.files import claimed, clear_folder
from pseudoval.data.locks import locked
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics import runs
from pseudoval.metrics.score_matrix import ScoreMatrix, config_name
from pseudoval.progress import ProgressCallback, silent
from pseudoval.tasks import Workers
from studies.design.built_in import Maker
from studies.design.ranges import Given
from studies.request import StudyRequest, prepare
from studies.search.members import start_member_runs
from studies.search.off_path import score_off_path, share_of
from studies.search.prepared import MAY_DIFFER, PreparedStudy
from studies.search.search import search
from studies.search.storage import StudyStorage, answering, connect, open_journal, settle_name


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a study found.

    Attributes:
        best: the content of ``best.json``.
        trials: the content of ``trials.csv``.
        matrix: pseudo scores of every configuration that was tried; those of the first seed where
            there are several.
        fresh: False if the run was already finished and nothing was done.

    Example:
        With a ``model`` and a ``pseudo`` folder at hand:

        >>> from studies import run_study
        >>> outcome = run_study(
        ...     "t_then_k", model="model", pseudo="pseudo", out="found", t=[25, 300], k=[1, 4]
        ... )
        >>> outcome.curves[["stage", "value"]].values.tolist()
        [['t', 25], ['t', 300], ['k', 1], ['k', 4]]
        >>> outcome.curves.groupby("stage")["selected"].sum().to_dict()
        {'k': 1, 't': 1}
        >>> sorted(outcome.trials["state"].unique())
        ['COMPLETE']
    """

    best: runs.Best
    trials: pd.DataFrame
    matrix: ScoreMatrix
    fresh: bool

    @property
    def curves(self) -> pd.DataFrame:
        """A row for every configuration of every stage, values ascending: what to plot.

        Columns: ``stage``, ``value``, ``params``, ``pseudo_auroc``, ``objective_value`` with its
        95 % interval ``low`` and ``high``, and ``selected``. NaN where there is no value.
        """
        rows = []
        for stage in self.best["stages"]:
            for row, value in enumerate(stage["values"]):
                low, high = stage["objective_interval"][row] or (None, None)
                rows.append(
                    {
                        "stage": stage["name"],
                        "value": value,
                        "params": config_name(stage["configs"][row]),
                        "pseudo_auroc": stage["pseudo_auroc"][row],
                        "objective_value": stage["objective_value"][row],
                        "low": low,
                        "high": high,
                        "selected": value == stage["selected"],
                    }
                )
        columns = ["pseudo_auroc", "objective_value", "low", "high"]
        return pd.DataFrame(rows).astype(dict.fromkeys(columns, "float64"))


def run_study(
    study: str | Path | Maker,
    *,
    model: str | Path | Detector,
    pseudo: str | Path | Sequence[str | Path],
    out: str | Path,
    t: Given | None = None,
    k: Given | None = None,
    grids: Mapping[str, Given] | None = None,
    trials: int | None = None,
    sampler: str | BaseSampler | None = None,
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
    retry_failed: bool = False,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    notice: Callable[[str], None] | None = None,
) -> Outcome:
    """Choose a configuration on a pseudo set alone.

    Interrupted, the same call goes on; finished, it returns what is there.

    Args:
        study: a name in ``studies.STUDIES``, one of those functions, or a TOML file.
        model: a MODEL folder, trained on the split of the pseudo set; or any object that keeps the
            protocol ``pseudoval.detectors.Detector``, whose noise has the seed of its own.
        pseudo: a PSEUDO folder, or several on one split; the choice is made on their mean.
        out: the RUN folder.
        t, k: values to try, a list or a range such as ``{"from": 25, "to": 900}``, to which
            ``"step": 25`` or ``"log": True`` may be added; None is the detector's own grid.
        grids: the same of any parameter, by its name.
        trials: how many configurations a sampler tries in each stage.
        sampler: searches the stages instead of what the study says: ``grid``, or a sampler of
            Optuna's, by name (``tpe``, ``random``, ``qmc``, ``gp``, ...), seeded with ``seed``, or
            as an object, which is asked as it is. None with ``trials`` is ``tpe`` over ranges.
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
        storage: URL of the database that keeps the study; None is a journal in ``out``.
        study_name: what the study is called in the storage; None is the study's own name, with a
            ``storage`` after that of ``out``: ``run/t_then_k``.
        retry_failed: run the points again that failed.
        executor: who scores: anything with the interface of ``concurrent.futures.Executor``, such
            as a process pool or ``Client.get_executor()`` of Dask; None is this process alone.
            ``docs/cluster.md`` has examples.
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
    given = {"t": t, "k": k, **(grids or {})}
    sets = [pseudo] if isinstance(pseudo, str | Path) else pseudo
    request = StudyRequest(
        study=study, model=Path(model) if isinstance(model, str) else model,
        pseudo=tuple(Path(folder) for folder in sets), out=Path(out),
        grids={name: one for name, one in given.items() if one is not None},
        trials=trials, sampler=sampler,
        objective=objective, rule=rule, seed=seed, repeats=repeats, settings=settings,
        device=device, overwrite=overwrite, audit_share=audit_share,
        cache=Path(cache) if isinstance(cache, str) else cache, storage=storage,
        study_name=study_name, retry_failed=retry_failed,
    )  # fmt: skip
    with answering(storage):
        workers = Workers(executor=executor)
        return _run(request, workers, progress or silent, notice or (lambda _: None))


def _run(
    request: StudyRequest,
    workers: Workers,
    progress: ProgressCallback,
    notice: Callable[[str], None],
) -> Outcome:
    """Do the parts of a study that RUN lacks."""
    study, out = prepare(request, workers), request.out
    with claimed(out, "run"), locked(out, "tune"):
        best = _finished_before(study, request.overwrite)
        share = max(request.audit_share or 0.0, share_of(best))  # kept when points run again
        retry = request.retry_failed and best is not None and _has_failed(best)
        if best is not None and not retry and share_of(best) == share:
            return _outcome(study, fresh=False)
        database = _open_database(request, study, notice)
        if best is None:
            _begin(study, request.overwrite)
        name = study.header["study_name"]
        storage = database or StudyStorage(storage=open_journal(out), name=name)
        if best is None:
            search(study, storage, progress)
            best = runs.read_best(out)
        if request.retry_failed and _has_failed(best):
            known = [replace(m, known=ScoreMatrix.load(m.scores_path)) for m in study.members]
            again = replace(study, members=known)
            search(again, storage, progress, retries=best.get("retries", 0) + 1)
            best = runs.read_best(out)
        if share_of(best) < share:
            score_off_path(study, share, progress)
        _warn_of_falling(best, study.header["detector"], notice)
        if difference := workers.difference():
            notice(difference)
            runs.write_header(out, {**runs.read_header(out), "workers": sorted(workers.kinds)})
        return _outcome(study, fresh=True)


def _open_database(
    request: StudyRequest, study: PreparedStudy, notice: Callable[[str], None]
) -> StudyStorage | None:
    """The database of a request, where the study's name is settled; None if it is a journal."""
    if request.storage is None:
        return None
    storage = StudyStorage(
        storage=connect(request.storage), name=study.header["study_name"], url=request.storage,
        notice=notice,
    )  # fmt: skip
    overwrite = request.overwrite
    storage.patiently(lambda: settle_name(storage, study.identity, overwrite=overwrite))
    return storage


def _begin(study: PreparedStudy, overwrite: bool) -> None:
    """Write the headers of RUN and of its members', unless RUN has them."""
    if overwrite:
        # What says that it is finished goes first, and the header is there at every moment, so
        # that a kill in between leaves a RUN that is refused or gone on with.
        clear_folder(study.out, first=runs.BEST, keep=runs.HEADER)
    if overwrite or not (study.out / runs.HEADER).exists():
        runs.write_header(study.out, study.header)
    start_member_runs(study.members, study.header)


def _warn_of_falling(best: runs.Best, detector: str, notice: Callable[[str], None]) -> None:
    """Say so where even the best configuration of a study is worse than chance."""
    known = [v for stage in best["stages"] for v in stage["pseudo_auroc"] if v is not None]
    if known and max(known) < 0.5:
        notice(
            f"Scores of {detector} may fall with anomaly: the highest pseudo AUROC is "
            f"{max(known):.3f}. Higher must be more anomalous; nothing was turned round."
        )


def _has_failed(best: runs.Best) -> bool:
    """Whether a configuration of a stage has no value."""
    return any(None in stage["objective_value"] for stage in best["stages"])


def _finished_before(study: PreparedStudy, overwrite: bool) -> runs.Best | None:
    """``best.json`` of RUN, if this very study is already finished in it.

    Raises:
        UserError: the RUN belongs to something else, and ``overwrite`` is not set.
    """
    if overwrite or not (study.out / runs.HEADER).exists():
        return None
    there: Mapping[str, object] = runs.read_header(study.out)
    for key, value in study.header.items():
        if key not in MAY_DIFFER and there.get(key) != value:
            raise UserError(
                f"{study.out} holds a study with another {key} ({there.get(key)!s:.40} there, "
                f"{value!s:.40} now); choose another --out, or pass --overwrite."
            )
    return runs.read_best(study.out) if runs.is_finished(study.out) else None


def _outcome(study: PreparedStudy, *, fresh: bool) -> Outcome:
    """What RUN holds."""
    return Outcome(
        best=runs.read_best(study.out),
        trials=pd.read_csv(study.out / "trials.csv"),
        matrix=ScoreMatrix.load(study.members[0].scores_path),
        fresh=fresh,
    )
