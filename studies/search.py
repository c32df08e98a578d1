"""Searching: score a stage, choose by a named rule, go on to the next; all of it resumable."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pseudoval.bootstrap import averaged, bootstrap_auroc
from pseudoval.dataset import ImageItem
from pseudoval.errors import UserError
from pseudoval.examples import write_examples
from pseudoval.files import atomic_path, write_json
from pseudoval.metrics import auroc_by_category, macro_auroc
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scores import Config, ScoreMatrix, config_name
from pseudoval.selection import Choice, select
from pseudoval.sweep import forget_blocks
from studies.seeds import (
    Member,
    finish_member_runs,
    joint_sha256,
    listed,
    mean_over_members,
    number,
    score_members,
)
from studies.spec import Stage, Study
from studies.storage import finished, open_stage, record

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


def search(
    plan: Study,
    members: Sequence[Member],
    items: list[ImageItem],
    out: Path,
    *,
    rule: str,
    seed: int,
    report: ProgressCallback,
) -> Outcome:
    """Stage after stage, then everything that RUN keeps; ``best.json`` last.

    A configuration with a score that is not a number has no value: its trial is recorded as
    failed, it never wins, and the search goes on with the others.

    Raises:
        UserError: no configuration of a stage has a value.
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
        by_member = {
            member.name: macro_auroc(matrix.scores, matrix.categories, matrix.labels)
            for member, matrix in zip(members, matrices, strict=True)
        }
        values = mean_over_members(list(by_member.values()))
        tables.append(_trials(out, plan, stage, matrices, values, by_member, seconds, seed))
        chosen = choose(rule, stage, configs, values, matrices)
        selected[stage.param] = stage.values[chosen.row]
        parts.append(matrices)
        stages.append(
            {
                "name": stage.name,
                "param": stage.param,
                "values": list(stage.values),
                "pseudo_auroc": listed(values),
                "selected": stage.values[chosen.row],
                "leader": stage.values[chosen.leader],
                "within": [stage.values[row] for row in chosen.within],
                "configs": matrices[0].configs,
            }
        )
        if members[0].name:
            stages[-1]["pseudo_auroc_by_seed"] = {n: listed(v) for n, v in by_member.items()}
    last = stages[-1]
    params = dict(last["configs"][last["values"].index(last["selected"])])
    best = {
        "study": plan.name,
        "objective": OBJECTIVE,
        "rule": rule,
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


def choose(
    rule: str,
    stage: Stage,
    configs: Sequence[Config],
    values: np.ndarray,
    matrices: Sequence[ScoreMatrix],
) -> Choice:
    """The choice of a stage on the mean over members, by a named rule.

    Raises:
        UserError: no configuration has a value.
    """
    if np.isnan(values).all():
        raise UserError(
            f"Stage {stage.name} has no configuration whose scores are all numbers; the model is "
            "not usable. Train it again, with a lower learning rate."
        )
    return select(
        rule,
        configs,
        values,
        lambda: averaged(
            [bootstrap_auroc(m.scores, m.categories, m.labels, m.groups) for m in matrices]
        ),
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
                f"auroc/{name}": number(by_category[row, column])
                for column, name in enumerate(matrix.category_names)
            },
            **{f"by_seed/{name}": number(own[row]) for name, own in by_member.items() if name},
        }
        for row, point in enumerate(stage.values)
    }
    optuna_study = open_stage(out, plan.name, stage, seed)
    by_point = {p: float(v) for p, v in zip(stage.values, values, strict=True)}
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
            for trial in finished(optuna_study, stage)
        ]
    )
