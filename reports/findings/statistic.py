"""What a statistic of the report is: a value of every stage, and what the page calls it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ScoredStage:
    """Some configurations with their AUROCs in one category, or over all, and the one chosen.

    It is a stage of the study, or all configurations that were scored.

    Attributes:
        configs: V configurations.
        pseudo: ``[V]`` AUROC in [0, 1] on the pseudo set, NaN where it was not scored.
        test: ``[V]`` the same on the real test set; None without one.
        selected: place of the chosen one.
    """

    configs: list[dict[str, float | str]]
    pseudo: np.ndarray
    test: np.ndarray | None
    selected: int


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One entry of ``correlation.json`` under each stage and ``final``, and a row of the page.

    Attributes:
        key: of the entry.
        heading: of its row.
        meaning: a sentence under the table.
        compute: its value; None where it cannot be computed.
    """

    key: str
    heading: str
    meaning: str
    compute: Callable[[ScoredStage], float | str | bool | None]
