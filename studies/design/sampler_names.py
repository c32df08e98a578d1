"""Optuna's samplers by name."""

import inspect
import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from pseudoval.errors import UserError

GRID, TPE = "grid", "tpe"
"""Every combination of the values; and Optuna's default."""


def sampler_name(name: str) -> str:
    """The name of a sampler as it is kept: ``CmaEsSampler`` and ``cma-es`` are ``cmaes``.

    Raises:
        UserError: there is none of that name.
    """
    plain = name.lower().replace("-", "").replace("_", "").removesuffix("sampler")
    if plain not in sampler_names():
        known = ", ".join(sampler_names())
        raise UserError(f"There is no sampler {name!r}; the samplers are {known}.")
    return plain


def sampler_names() -> list[str]:
    """The names of all of them, ``grid`` first."""
    return [GRID, *sorted(_classes())]


def sampler_of(given: str | BaseSampler | None) -> tuple[str | None, BaseSampler | None]:
    """The name of what a caller gives, and the sampler if it is one itself; errors as above."""
    if isinstance(given, BaseSampler):
        return type(given).__name__, given
    return None if given is None else sampler_name(given), None


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler of Optuna's.

    Args:
        name: as ``sampler_name`` gives it, but not ``grid``.
    """
    made, option = _classes()[name], "warn_independent_sampling"
    known = inspect.signature(made).parameters
    # The first configurations, which are suggested before one has a value, can only be random.
    options = {option: False} if option in known and known[option].default is True else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: BaseSampler = made(seed=seed, **options)
        return sampler


def _classes() -> dict[str, Any]:
    """The samplers that need nothing but a seed, by name."""
    found = {}
    for name in dir(optuna.samplers):
        known = getattr(optuna.samplers, name)
        if inspect.isclass(known) and issubclass(known, BaseSampler):
            parameters = inspect.signature(known).parameters.values()
            needed = [p for p in parameters if p.default is p.empty]
            if "seed" in [p.name for p in parameters] and not needed:
                found[name.lower().removesuffix("sampler")] = known
    return found
