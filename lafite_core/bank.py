"""Section 3.2: the memory bank, its nearest neighbours, and feature editing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import EditConfig
from lafite_core.coreset import greedy_coreset
from lafite_core.errors import LafiteError

SEARCH_ROWS = 1024
"""Patches of one matrix product; with a bank of 100,000 that is 400 MB."""


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

    Searched with faiss on a CPU, and with matrix products on a GPU or where faiss is missing.
    """

    def __init__(self, vectors: Tensor, device: str = "cpu") -> None:
        self.vectors = vectors.contiguous()
        self.device = device
        self._index: Callable[[Tensor, int], Tensor] | None = None

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
        """Greedy core set of ``[N, C]`` patches, ``keep_rate * N`` of them (at least one)."""
        keep = max(1, round(config.keep_rate * len(patches)))
        picks = greedy_coreset(patches.to(device), keep, seed=seed, advance=advance)
        return cls(patches[picks.sort().values], device)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, patches: Tensor, k: int) -> Neighbours:
        """The k nearest members of each of ``[P, C]`` patches.

        The members are found by an exact search; their distances are then computed from the
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
            self._index = _product_search(self.vectors, self.device)
            if self.device == "cpu":
                self._index = _faiss_search(self.vectors) or self._index
        index = self._index(patches, k)
        distance = (patches[:, None, :] - self.vectors[index]).double().square().sum(2).sqrt()
        return Neighbours(index=index, distance=distance.float())

    def edit(self, neighbours: Neighbours, config: EditConfig) -> Tensor:
        """Feature editing: each patch becomes a weighted mean of its neighbours, ``[P, C]``."""
        weights = neighbour_weights(neighbours.distance, config)
        return torch.nn.functional.embedding_bag(
            neighbours.index, self.vectors, per_sample_weights=weights, mode="sum"
        )


def _faiss_search(vectors: Tensor) -> Callable[[Tensor, int], Tensor] | None:
    """Search with a flat faiss index, or None where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors.numpy())

    def search(patches: Tensor, k: int) -> Tensor:
        rough, found = index.search(np.ascontiguousarray(patches.numpy()), k)
        # Equal distances in the order of the bank, whatever order the search met them in.
        order = np.lexsort((found, rough), axis=1)
        return torch.from_numpy(np.take_along_axis(found, order, axis=1))

    return search


def _product_search(vectors: Tensor, device: str) -> Callable[[Tensor, int], Tensor]:
    """Search with one matrix product and a selection; the same members up to rounding of ties."""
    there = vectors.to(device)
    norms = there.double().square().sum(1).float()

    def search(patches: Tensor, k: int) -> Tensor:
        rows = []
        for part in patches.split(SEARCH_ROWS):
            # The patch's own norm is the same for all members and left out.
            squared = norms[None, :] - 2 * (part.to(device) @ there.T)
            found = squared.topk(k, dim=1, largest=False)
            order = torch.from_numpy(
                np.lexsort((found.indices.cpu().numpy(), found.values.cpu().numpy()), axis=1)
            )
            rows.append(found.indices.cpu().gather(1, order))
        return torch.cat(rows)

    return search


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
