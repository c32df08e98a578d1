"""Searching: score a stage, choose by a named rule, go on to the next; all of it resumable."""

from collections.abc import Sequence

import pandas as pd

from pseudoval.detectors import Value
from pseudoval.metrics.runs import Best, StageResult, write_best
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scoring.examples import write_examples
from studies.search.judging import as_member, choose, judge
from studies.search.members import Member, joint_sha256
from studies.search.prepared import PreparedStudy
from studies.search.scoring import forget_scored, with_pixels
from studies.search.stage import score_stage
from studies.search.storage import StudyStorage
from studies.search.trials import write_trials


def search(
    study: PreparedStudy, storage: StudyStorage, progress: ProgressCallback, retries: int = 0
) -> None:
    """Stage after stage, then everything that RUN keeps; ``best.json`` last.

    A configuration with a score that is not a number has no value: its trial is recorded as
    failed, it never wins, and the search goes on with the others.

    Args:
        storage: where Optuna keeps the trials.
        retries: how often points that failed were run again, this time included.

    Raises:
        UserError: no configuration of a stage has a value, or the objective is not available.
    """
    selected: dict[str, Value] = {}
    parts: list[list[ScoreMatrix]] = []
    results: list[StageResult] = []
    tables: list[pd.DataFrame] = []
    for stage in study.plan.stages:
        scored = score_stage(study, storage, stage, selected, progress)
        tables.append(scored.trials)
        result = choose(study.header["rule"], stage, scored.configs, scored.judged)
        selected |= stage.point(scored.configs[_row(result)]) | dict(stage.fixed)
        parts.append(scored.matrices)
        results.append(result)
    best = _best(study, results, retries)
    wholes = [_once(ScoreMatrix.joined(of_member)) for of_member in zip(*parts, strict=True)]
    _write(study, best, wholes, tables, progress)


def _row(result: StageResult) -> int:
    """The place of what a stage selected."""
    return result["values"].index(result["selected"])


def _best(study: PreparedStudy, results: list[StageResult], retries: int) -> Best:
    last, row = results[-1], _row(results[-1])
    best: Best = {
        "study": study.plan.name,
        "objective": study.header["objective"],
        "rule": study.header["rule"],
        "params": last["configs"][row],
        "pseudo_auroc": last["pseudo_auroc"][row],
        "objective_value": last["objective_value"][row],
        "objective_interval": last["objective_interval"][row],
        "stages": results,
        "split_sha256": study.members[0].detector.split_sha256,
        "model_sha256": joint_sha256(study.members),
        "seed": study.header["seed"],
    }
    if retries:
        best["retries"] = retries
    return best


def _once(matrix: ScoreMatrix) -> ScoreMatrix:
    """Without the configurations that an earlier stage has scored already."""
    firsts = [row for row, config in enumerate(matrix.configs) if matrix.row(config) == row]
    return matrix.select(firsts)


def _write(
    study: PreparedStudy,
    best: Best,
    matrices: Sequence[ScoreMatrix],
    tables: Sequence[pd.DataFrame],
    progress: ProgressCallback,
) -> None:
    """Write what RUN and its members keep, the choice last; then the blocks may go."""
    matrices = with_pixels(study, matrices, progress)
    for member, matrix in zip(study.members, matrices, strict=True):
        write_examples(
            member.folder / "examples", "pseudo", member.detector, member.items, matrix,
            best["params"], labelled(progress, member.name), study.workers,
        )  # fmt: skip
        matrix.save(member.scores_path)
        if member.name:
            write_best(member.folder, _best_of_member(best, member, matrix))
    write_trials(study.out, tables)
    write_best(study.out, best)
    forget_scored(study)


def _best_of_member(best: Best, member: Member, matrix: ScoreMatrix) -> Best:
    """A member's ``best.json``: its own figures, and the choice that was made for all."""
    stages = []
    for result in best["stages"]:
        part = matrix.select([matrix.row(config) for config in result["configs"]])
        stages.append(as_member(result, judge(best["objective"], [member], [part])))
    last, row = stages[-1], _row(stages[-1])
    return {
        **best,
        "pseudo_auroc": last["pseudo_auroc"][row],
        "objective_value": last["objective_value"][row],
        "objective_interval": last["objective_interval"][row],
        "stages": stages,
        "model_sha256": member.detector.model_sha256,
        "seed": member.detector.seed,
    }
