"""The typed form of ``correlation.json``, as ``docs/design.md`` describes it.

AUROCs and differences of them are in [0, 1]; intervals are ``[low, high]``; None is what cannot be
computed.
"""

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from pseudoval.data.files import read_json, write_json

CORRELATION = "correlation.json"
Params = dict[str, float | str]
Interval = list[float] | None
Which = Literal["pseudo", "test"]


class Labelled(TypedDict):
    """The regret of choosing on half of the labelled test set."""

    regret: float | None
    interval: Interval
    splits: int
    reason: str | None


class Power(TypedDict):
    """What a set can tell apart; ``leader`` and ``runner_up`` are values or configurations."""

    leader: Any
    runner_up: Any
    gap: float
    gap_interval: Interval
    standard_error: float
    resolvable_gap: float
    resolvable_gap_median: float
    images: int
    images_needed: int | None


class SetResult(TypedDict):
    """One configuration on one set."""

    auroc: float | None
    interval: Interval
    p_best: float | None
    in_leading_set: bool
    gap: float | None
    gap_interval: Interval


class Configuration(TypedDict):
    """One configuration of the stages, what it is and how it fared on both sets."""

    pseudo: SetResult | None
    test: SetResult | None
    params: Params
    stages: list[str]
    chosen: bool
    default: bool


class Judged(TypedDict):
    """How a choice fared, in a stage or among all configurations."""

    regret: float | None
    regret_interval: Interval
    random_regret: float | None
    correlations: dict[str, dict[str, Any]]
    labelled: Labelled | None
    power: dict[Which, Power | None]
    pseudo_leading_set: list[Any]
    test_leading_set: list[Any] | None


class StageFindings(Judged):
    """One stage; lists are by value."""

    name: str
    param: str
    values: list[float | str]
    pseudo_auroc: list[float | None]
    pseudo_interval: list[Interval]
    pseudo_p_best: list[float | None]
    test_auroc: list[float | None] | None
    test_interval: list[Interval] | None
    test_p_best: list[float | None] | None
    selected: float | str
    oracle: float | str | None
    spearman: float | None
    kendall: float | None
    pearson: float | None
    default: float | str | None
    default_regret: float | None
    default_regret_interval: Interval
    at_edge: Literal["low", "high"] | None
    flat: bool


class Results(TypedDict):
    """Every metric of one configuration; of the mean over categories ``std`` and ``pooled`` too."""

    params: Params
    pseudo_auroc: float | None
    test_auroc: float | None
    test_auroc_pooled: NotRequired[float | None]
    pixel_auroc: float | None
    image_ap: float | None
    pixel_ap: float | None
    pixel_aupro: float | None


class FinalFindings(Judged, Results):
    """The chosen configuration against all that were scored.

    ``default`` is that of the detector: ``{"params", "test_auroc", "regret", "regret_interval",
    "reason"}``.
    """

    pseudo_interval: Interval
    test_interval: Interval
    test_rank: int | None
    configurations: int | None
    best: Results | None
    without_editing: Results | None
    default: dict[str, Any] | None
    leader: Params | None
    runner_up: Params | None


class Part(TypedDict):
    """Everything about one category, or about the mean over all."""

    stages: list[StageFindings]
    final: FinalFindings
    configurations: list[Configuration]


class LeftOut(TypedDict):
    """The choice without a part of the pseudo set, by stage."""

    left_out: str
    name: str
    selected: Params
    same: bool


class Row(TypedDict):
    """One of several RUNs; ``alone`` is what it would have chosen by itself, by stage."""

    run: str
    params: Params
    pseudo_auroc: float | None
    test_auroc: float | None
    regret: float | None
    selected: Params
    alone: Params
    same: bool


class Together(TypedDict):
    """Several RUNs side by side; ``mean`` and ``std`` over them are by metric.

    ``choices`` are what RUNs would have chosen by themselves, as ``{"params", "runs"}``.
    """

    kind: Literal["seeds", "runs"]
    noun: str
    rows: list[Row]
    mean: dict[str, float | None]
    std: dict[str, float | None]
    per_category: dict[str, Any]
    choices: list[dict[str, Any]]
    aggregation: dict[str, Any]


class Correlation(Part):
    """The whole; of several RUNs the first, with ``runs`` and ``together``."""

    run: str
    per_category: dict[str, Part]
    stability: list[LeftOut]
    audit: dict[str, Any] | None
    defaults: Params | None
    sets: dict[Which, Any]
    bootstrap: dict[str, Any]
    warnings: list[dict[str, Any]]
    runs: NotRequired[list["Correlation"]]
    together: NotRequired[Together]


def write_correlation(folder: Path, correlation: Correlation) -> None:
    """Write ``correlation.json`` into a report's folder."""
    write_json(folder / CORRELATION, dict(correlation))


def read_correlation(folder: Path) -> Correlation:
    """Read ``correlation.json`` of a report.

    Raises:
        UserError: the file is missing or damaged.
    """
    return cast(Correlation, read_json(folder / CORRELATION, "The report"))
