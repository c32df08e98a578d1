"""Configurations and numbers in words."""

from collections.abc import Callable, Mapping, Sequence

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.rules import TIE_ORDER


def describe(params: Config) -> str:
    """``{"t": 200, "k": 3}`` as ``t = 200, K = 3``."""
    if set(params) == {"name"}:
        return str(params["name"])
    return ", ".join(
        f"{'K' if name == 'k' else name} = {digits(value)}"
        for name, value in ordered(params).items()
    )


def digits(value: float | str) -> str:
    """A value of a parameter; four digits do for a number that is not whole."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def ordered(config: Config) -> dict[str, float | str]:
    """t and K first, whatever order a file had."""
    first = [name for name in TIE_ORDER if name in config]
    return {name: config[name] for name in [*first, *sorted(set(config) - set(first))]}


def auroc(value: float | None) -> str:
    """An AUROC with three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def points(value: float | None) -> str:
    """A difference of AUROCs in percentage points, as in ``0.3``, or a dash."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}".replace("-0.0", "0.0")


def share(value: float | None) -> str:
    """A share in [0, 1] in whole percent: ``41 %``, ``< 1 %``, or a dash."""
    if value is None:
        return "–"
    if 0 < value < 0.005:
        return "< 1 %"
    return f"{100 * value:.0f} %"


def between(
    interval: Sequence[float] | None,
    form: Callable[[float], str] = auroc,
    frame: str = "{}",
) -> str:
    """``0.921 to 0.948`` within a frame such as ``95 % interval {}``, or nothing."""
    return "" if interval is None else frame.format(f"{form(interval[0])} to {form(interval[1])}")


def with_spread(
    mean: Mapping[str, float | None],
    std: Mapping[str, float | None],
    metric: str,
    form: Callable[[float | None], str] = auroc,
) -> str:
    """``0.912 ± 0.004``, or the mean alone where there is no deviation."""
    return form(mean[metric]) + ("" if std[metric] is None else f" ± {form(std[metric])}")
