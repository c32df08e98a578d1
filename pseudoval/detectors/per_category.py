"""One model per category behind the same protocol as one model for all."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from pseudoval.data.files import sha256_json
from pseudoval.detectors.protocol import Block, Detector, Parameter, limited
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config


class PerCategoryDetector:
    """The members judge the images of their own category; ``of`` finds them.

    Args:
        members: detector by category, of one kind, one size of maps, one split and one seed.

    Raises:
        UserError: they do not belong together.
    """

    of_all = False

    def __init__(self, members: Mapping[str, Detector]) -> None:
        self.members = dict(members)
        self._first = first = next(iter(self.members.values()))
        for name, value in _identity(first).items():
            found = {c: _identity(member)[name] for c, member in self.members.items()}
            odd = [category for category, other in found.items() if other != value]
            if odd:
                raise UserError(
                    f"The models of {next(iter(found))} and {odd[0]} differ in their {name} "
                    f"({value} and {found[odd[0]]}); train them with one command."
                )
        self.name = first.name
        self.seed = first.seed
        self.refit = first.refit
        self.has_maps = first.has_maps
        self.scores_in_maps = first.scores_in_maps
        self.split_sha256 = first.split_sha256
        self.categories = sorted(c for member in self.members.values() for c in member.categories)
        self.model_sha256 = sha256_json({c: m.model_sha256 for c, m in self.members.items()})
        same = zip(*(member.parameters for member in self.members.values()), strict=True)
        self.parameters = tuple(reduce(_tighter, parameters) for parameters in same)

    def of(self, category: str) -> Detector:
        """See ``Detector``."""
        if category not in self.members:
            raise UserError(
                f"There is no model for the category {category!r}; there is one for "
                f"{', '.join(self.members)}."
            )
        return self.members[category]

    def check(self, config: Config) -> None:
        """See ``Detector``; a configuration must suit every member."""
        for member in self.members.values():
            member.check(config)

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """Refused, for pixels alone do not say which category they are of."""
        raise self._undecided()

    def explain(self, image: np.ndarray, config: Config) -> dict[str, np.ndarray]:
        """Refused as ``score_block`` is."""
        raise self._undecided()

    def render(self, coarse: np.ndarray) -> np.ndarray:
        """See ``Detector``; the same for every member."""
        return self._first.render(coarse)

    def provenance(self) -> dict[str, Any]:
        """See ``Detector``."""
        facts = self._first.provenance()
        return {**facts, "model_sha256": self.model_sha256, "per_category": True}

    def _undecided(self) -> UserError:
        return UserError(
            f"There is one model for each of {', '.join(self.members)}; name the category."
        )


def _identity(member: Detector) -> dict[str, Any]:
    """What members must have in common."""
    return {
        "detector": member.name,
        "parameters": [parameter.name for parameter in member.parameters],
        "map size": member.provenance().get("map_side"),
        "noise seed": member.seed,
        "split": member.split_sha256,
        "refitted choice": member.refit and member.refit["params"],
    }


def _tighter(a: Parameter, b: Parameter) -> Parameter:
    """The parameter within the limits of both, with the values of both grids."""
    if a.kind != "categorical":
        a = dataclasses.replace(limited(a, b.high), low=max(a.low, b.low))
    return dataclasses.replace(a, grid=tuple(value for value in a.grid if value in b.grid))
