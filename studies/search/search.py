"""Searching: score a stage, choose by a named rule, go on to the next; all of it resumable."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import TrialState

from pseudoval.data.files import atomic_path, sha256_json, write_json
from pseudoval.metrics.score_matrix import ScoreMatrix, config_name
from pseudoval.progress import ProgressCallback, labelled
from pseudoval.scoring.blocks import forget_blocks
from pseudoval.scoring.examples import write_examples
from studies.design.stages import Stage, Study
from studies.search.judging import Judged, choose, finish_member_runs, judge, of_choice
from studies.search.members import Member, joint_sha256, number
from studies.search.stage import Scored, score_stage
from studies.sharing.blocks import Team
from studies.sharing.storage import Home, finished, open_stage, record


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

    best: dict[str, Any]
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
            nothing = [None] * len(stage["values"])  # in RUNs from before there were objectives
            judged = stage.get("objective_value", stage["pseudo_auroc"])
            for value, config, auroc, figure, bounds in zip(
                stage["values"],
                stage["configs"],
                stage["pseudo_auroc"],
                judged,
                stage.get("objective_interval", nothing),
                strict=True,
            ):
                low, high = bounds or (None, None)
                rows.append(
                    {
                        "stage": stage["name"],
                        "value": value,
                        "params": config_name(config),
                        "pseudo_auroc": auroc,
                        "objective_value": figure,
                        "low": low,
                        "high": high,
                        "selected": value == stage["selected"],
                    }
                )
        figures = ["pseudo_auroc", "objective_value", "low", "high"]
        return pd.DataFrame(rows).astype(dict.fromkeys(figures, "float64"))


def search(
    plan: Study,
    members: Sequence[Member],
    out: Path,
    *,
    home: Home,
    objective: str,
    rule: str,
    seed: int,
    report: ProgressCallback,
    retries: int = 0,
) -> Outcome | None:
    """Stage after stage, then everything that RUN keeps; ``best.json`` last.

    A configuration with a score that is not a number has no value: its trial is recorded as
    failed, it never wins, and the search goes on with the others.

    Args:
        home: where Optuna keeps the trials.
        retries: how often points that failed were run again, this time included.

    Returns:
        None for a process that only helps another: it records and writes nothing.

    Raises:
        UserError: no configuration of a stage has a value, or the objective is not available.
        Finished: another process has finished the study meanwhile.
    """
    team = members[0].team
    helper = team is not None and team.helper
    selected: dict[str, int] = {}
    parts: list[list[ScoreMatrix]] = []
    stages: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    for stage in plan.stages:
        started = time.monotonic()
        scored = score_stage(stage, selected, members, objective, seed, report)
        seconds = (time.monotonic() - started) / len(scored.order)
        configs = scored.configs
        told = stage.values(configs)
        judged = judge(objective, members, scored.matrices)
        if not helper:
            tables.append(_trials(home, team, stage, judged, scored, seconds, seed))
        chosen = choose(rule, stage.name, configs, judged)
        selected |= stage.point(configs[chosen.row]) | dict(stage.fixed)
        parts.append(scored.matrices)
        stages.append(
            {
                "name": stage.name,
                "param": stage.param,
                "values": told,
                **judged.entry(),
                "selected": told[chosen.row],
                "leader": told[chosen.leader],
                "within": [told[row] for row in chosen.within],
                "configs": configs,
            }
        )
    if helper:
        return None
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
        **({"retries": retries} if retries else {}),
    }
    wholes = [_once(ScoreMatrix.joined(of_member)) for of_member in zip(*parts, strict=True)]
    for member, whole in zip(members, wholes, strict=True):
        write_examples(
            member.folder / "examples",
            "pseudo",
            member.detector,
            member.items,
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


def _once(matrix: ScoreMatrix) -> ScoreMatrix:
    """Without the configurations that an earlier stage has scored already."""
    firsts = [row for row, config in enumerate(matrix.configs) if matrix.row(config) == row]
    return matrix.select(firsts)


def _trials(
    home: Home,
    team: Team | None,
    stage: Stage,
    judged: Judged,
    scored: Scored,
    seconds: float,
    seed: int,
) -> pd.DataFrame:
    """Tell Optuna the stage's values and list its trials as ``trials.csv`` does."""
    configs = scored.configs
    rows = [scored.matrices[0].row(config) for config in scored.order]
    attributes = [{"seconds": seconds, **judged.attributes(row)} for row in rows]
    optuna_study = open_stage(home, stage, seed)
    order, values = scored.order, judged.value[rows]
    if team is None:
        record(optuna_study, stage, order, values, attributes)
    else:
        names = [config_name(config) for config in order]
        told = [names, [number(value) for value in values]]
        team.claims.settle(
            f"record {stage.name} {sha256_json(told)}",
            lambda: record(optuna_study, stage, order, values, attributes, alone=False),
        )
    found = []
    for trial, config in finished(optuna_study, stage, configs):
        row = scored.matrices[0].row(config)
        failed = "a score is not a number" if trial.state == TrialState.FAIL else ""
        found.append(
            {
                "stage": stage.name,
                "number": trial.number,
                "params": config_name(configs[row]),
                "state": trial.state.name,
                "pseudo_auroc": number(judged.auroc[row]),
                "seconds": round(float(trial.user_attrs["seconds"]), 3),
                "objective_value": trial.value,
                "reason": failed,
            }
        )
    return pd.DataFrame(found)
