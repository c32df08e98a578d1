"""Section 3.2: the memory bank, its nearest neighbours, and feature editing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lafite_core.config import EditConfig
from lafite_core.coreset import first_equal, greedy_coreset
from lafite_core.errors import LafiteError
from lafite_core.nearest import Search, checked_search, fast_search


def kept(count: int, config: EditConfig) -> int:
    """How many of ``count`` patches the core set has."""
    return max(1, round(config.keep_rate * count))


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest core-set members of each patch of one image, nearest first.

    Attributes:
        index: ``[patches, K]`` int64 rows of the bank.
        distance: ``[patches, K]`` float32 Euclidean distances.
    """

    index: Tensor
    distance: Tensor

    def first(self, k: int) -> "Neighbours":
        """The nearest k of them."""
        return Neighbours(index=self.index[:, :k], distance=self.distance[:, :k])


class MemoryBank:
    """Standardised normal patch features ``[M, C]``, cut to a core set, on the CPU.

    Args:
        device: where neighbours are searched (``cpu``, ``cuda``, ``cuda:1``).
    """

    def __init__(self, vectors: Tensor, device: str = "cpu") -> None:
        self.vectors = vectors.contiguous()
        self.device = device

    @classmethod
    def build(
        cls,
        patches: Tensor,
        config: EditConfig,
        *,
        seed: int,
        device: str = "cpu",
        advance: Callable[[int], None] | None = None,
    ) -> "MemoryBank":
        """Greedy core set of ``[N, C]`` patches, ``keep_rate * N`` of them (at least one).

        Patches that are equal are in it once; a rate of 1 keeps all others without more ado.
        """
        keep = kept(len(patches), config)
        if keep == len(patches):
            picks = (first_equal(patches) == torch.arange(keep)).nonzero()[:, 0]
        else:
            picks = greedy_coreset(patches, keep, seed=seed, device=device, advance=advance)
        return cls(patches[picks.sort().values], device)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, patches: Tensor, k: int) -> Neighbours:
        """The k nearest members of each of ``[P, C]`` patches, as float64 brute force finds them.

        Many patches at once are searched fastest; what is found of one does not depend on the
        others. Of members at equal distances the earlier row of the bank comes first, so that those
        found for a smaller k are a prefix of those for a larger one.

        Raises:
            LafiteError: k is larger than the bank.
        """
        if not 1 <= k <= len(self):
            raise LafiteError(
                f"K = {k} neighbours were asked of a memory bank of {len(self)} patches; "
                f"use K between 1 and {len(self)}."
            )
        distance, index = checked_search(self.vectors, self._fast_search, patches, k)
        return Neighbours(index=index, distance=distance.float())

    @cached_property
    def _fast_search(self) -> Search:
        return fast_search(self.vectors, self.device)

    def edit(self, neighbours: Neighbours, config: EditConfig) -> Tensor:
        """Feature editing: each patch becomes a weighted mean of its neighbours, ``[P, C]``."""
        weights = neighbour_weights(neighbours.distance, config)
        return torch.nn.functional.embedding_bag(
            neighbours.index, self.vectors, per_sample_weights=weights, mode="sum"
        )


def neighbour_weights(distance: Tensor, config: EditConfig) -> Tensor:
    """Weights ``[P, K]`` that sum to 1 for distances ``[P, K]``.

    ``inverse_distance`` gives all weight to members at distance 0 where there are any.
    """
    if config.weights == "uniform":
        return torch.full_like(distance, 1 / distance.shape[1])
    if config.weights == "softmax":
        scale = distance.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
        return torch.softmax(-distance / (scale * config.temperature), dim=1)
    exact = (distance == 0).float()
    inverse = torch.where(
        exact.any(1, keepdim=True), exact, 1 / distance.clamp_min(torch.finfo(torch.float32).tiny)
    )
    inverse = inverse / inverse.amax(1, keepdim=True)
    return inverse / inverse.sum(1, keepdim=True)
