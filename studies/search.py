"""Searching: score a stage, choose by a named rule, go on to the next; all of it resumable."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pseudoval.dataset import ImageItem
from pseudoval.examples import write_examples
from pseudoval.files import atomic_path, write_json
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scores import Config, ScoreMatrix, config_name
from pseudoval.sweep import forget_blocks
from studies.judging import Judged, choose, finish_member_runs, judge, of_choice
from studies.seeds import (
    Member,
    joint_sha256,
    number,
    score_members,
)
from studies.spec import Stage, Study
from studies.storage import finished, open_stage, record


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


def search(
    plan: Study,
    members: Sequence[Member],
    items: list[ImageItem],
    out: Path,
    *,
    objective: str,
    rule: str,
    seed: int,
    report: ProgressCallback,
) -> Outcome:
    """Stage after stage, then everything that RUN keeps; ``best.json`` last.

    A configuration with a score that is not a number has no value: its trial is recorded as
    failed, it never wins, and the search goes on with the others.

    Raises:
        UserError: no configuration of a stage has a value, or the objective is not available.
    """
    selected: dict[str, int] = {}
    parts: list[list[ScoreMatrix]] = []
    stages: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    for stage in plan.stages:
        started = time.monotonic()
        configs = stage.configs(selected)
        matrices = score_members(members, items, configs, f"stage-{stage.name}", report)
        seconds = (time.monotonic() - started) / len(stage.values)
        judged = judge(objective, members, matrices)
        tables.append(_trials(out, plan, stage, judged, configs, seconds, seed))
        chosen = choose(rule, stage.name, configs, judged)
        selected[stage.param] = stage.values[chosen.row]
        parts.append(matrices)
        stages.append(
            {
                "name": stage.name,
                "param": stage.param,
                "values": list(stage.values),
                **judged.entry(),
                "selected": stage.values[chosen.row],
                "leader": stage.values[chosen.leader],
                "within": [stage.values[row] for row in chosen.within],
                "configs": matrices[0].configs,
            }
        )
    last = stages[-1]
    params = dict(last["configs"][last["values"].index(last["selected"])])
    best = {
        "study": plan.name,
        "objective": objective,
        "rule": rule,
        "params": params,
        **of_choice(last),
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


def _trials(
    out: Path,
    plan: Study,
    stage: Stage,
    judged: Judged,
    configs: Sequence[Config],
    seconds: float,
    seed: int,
) -> pd.DataFrame:
    """Tell Optuna the stage's values and list its trials as ``trials.csv`` does."""
    points = list(stage.values)
    attributes = {
        point: {"seconds": seconds, **judged.attributes(row)} for row, point in enumerate(points)
    }
    optuna_study = open_stage(out, plan.name, stage, seed)
    by_point = dict(zip(points, judged.value.tolist(), strict=True))
    record(optuna_study, stage, by_point, attributes)
    rows = []
    for trial in finished(optuna_study, stage):
        row = points.index(trial.params[stage.param])
        rows.append(
            {
                "stage": stage.name,
                "number": trial.number,
                "params": config_name(configs[row]),
                "state": trial.state.name,
                "pseudo_auroc": number(judged.auroc[row]),
                "seconds": round(float(trial.user_attrs["seconds"]), 3),
                "objective_value": trial.value,
            }
        )
    return pd.DataFrame(rows)
