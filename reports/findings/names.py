"""Configurations in words."""

from pseudoval.metrics.score_matrix import Config
from pseudoval.statistics.rules import TIE_ORDER


def describe(params: Config) -> str:
    """``{"t": 200, "k": 3}`` as ``t = 200, K = 3``."""
    if set(params) == {"name"}:
        return str(params["name"])
    return ", ".join(
        f"{'K' if name == 'k' else name} = {value}" for name, value in ordered(params).items()
    )


def ordered(config: Config) -> dict[str, float | str]:
    """t and K first, whatever order a file had."""
    first = [name for name in TIE_ORDER if name in config]
    return {name: config[name] for name in [*first, *sorted(set(config) - set(first))]}
