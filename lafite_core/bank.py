"""Section 3.2: the memory bank, its nearest neighbours, and feature editing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import EditConfig
from lafite_core.coreset import greedy_coreset
from lafite_core.errors import LafiteError


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
    """Standardised normal patch features ``[M, C]``, cut to a core set."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors.contiguous()
        self._index: Any = None

    @classmethod
    def build(
        cls,
        patches: Tensor,
        config: EditConfig,
        *,
        seed: int,
        advance: Callable[[int], None] | None = None,
    ) -> "MemoryBank":
        """Greedy core set of ``[N, C]`` patches, ``keep_rate * N`` of them (at least one)."""
        keep = max(1, round(config.keep_rate * len(patches)))
        picks = greedy_coreset(patches, keep, seed=seed, advance=advance)
        return cls(patches[picks.sort().values])

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, patches: Tensor, k: int) -> Neighbours:
        """The k nearest members of each of ``[P, C]`` patches.

        faiss finds the members by an exact search; the distances are then computed from the
        vectors themselves, because the expanded form that the search uses loses half of the
        digits near 0. Members found for a smaller k are a prefix of those for a larger one.

        Raises:
            LafiteError: k is larger than the bank.
        """
        if not 1 <= k <= len(self):
            raise LafiteError(
                f"K = {k} neighbours were asked of a memory bank of {len(self)} patches; "
                f"use K between 1 and {len(self)}."
            )
        if self._index is None:
            # Imported here so that the package works where only torch is installed.
            import faiss

            self._index = faiss.IndexFlatL2(self.vectors.shape[1])
            self._index.add(self.vectors.numpy())
        rough, found = self._index.search(np.ascontiguousarray(patches.numpy()), k)
        # Equal distances in the order of the bank, whatever order the search met them in.
        order = np.lexsort((found, rough), axis=1)
        index = torch.from_numpy(np.take_along_axis(found, order, axis=1))
        distance = (patches[:, None, :] - self.vectors[index]).double().square().sum(2).sqrt()
        return Neighbours(index=index, distance=distance.float())

    def edit(self, neighbours: Neighbours, config: EditConfig) -> Tensor:
        """Feature editing: each patch becomes a weighted mean of its neighbours, ``[P, C]``."""
        weights = neighbour_weights(neighbours.distance, config)
        return (self.vectors[neighbours.index] * weights[:, :, None]).sum(1)


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
