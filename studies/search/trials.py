"""The trials of a study as ``trials.csv`` lists them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.trial import TrialState

from pseudoval.data.files import atomic_path
from pseudoval.metrics.runs import Params
from pseudoval.metrics.score_matrix import Config, config_name
from studies.search.judging import Judged
from studies.search.members import number
from studies.search.stage_trials import StageTrials

AUDIT = "audit"
"""The stage of cells off the path in ``trials.csv``, and their key in ``best.json``."""


def list_trials(trials: StageTrials, configs: Sequence[Params], judged: Judged) -> pd.DataFrame:
    """The trials of some configurations of a stage, as ``trials.csv`` lists them.

    Args:
        configs: the rows of ``judged``.
    """
    listed = []
    for trial, config in trials.finished(configs):
        failed = trial.state == TrialState.FAIL
        listed.append(
            {
                "stage": trials.stage.name,
                "number": trial.number,
                "params": config_name(config),
                "state": trial.state.name,
                "pseudo_auroc": number(judged.auroc[configs.index(dict(config))]),
                "seconds": round(float(trial.user_attrs["seconds"]), 3),
                "objective_value": trial.value,
                "reason": "a score is not a number" if failed else "",
            }
        )
    return pd.DataFrame(listed)


def add_off_path_trials(
    out: Path, cells: Sequence[Config], values: np.ndarray, seconds: float
) -> None:
    """Add cells off the path to ``trials.csv``; those that are in it keep their seconds."""
    table = pd.read_csv(out / "trials.csv")
    names = [config_name(cell) for cell in cells]
    earlier = table[table["stage"] == AUDIT].set_index("params")["seconds"].to_dict()
    rows = pd.DataFrame(
        {
            "stage": AUDIT,
            "number": range(len(names)),
            "params": names,
            "state": np.where(np.isnan(values), "FAIL", "COMPLETE"),
            "pseudo_auroc": values,
            "seconds": [earlier.get(name, round(seconds, 3)) for name in names],
        }
    )
    write_trials(out, [table[table["stage"] != AUDIT], rows])


def write_trials(out: Path, tables: Sequence[pd.DataFrame]) -> None:
    """Write ``trials.csv`` of a RUN, one table below the other."""
    with atomic_path(out / "trials.csv") as path:
        pd.concat(tables, ignore_index=True).to_csv(path, index=False, lineterminator="\n")
