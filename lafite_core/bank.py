"""Section 3.2: the memory bank, its nearest neighbours, and feature editing."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import EditConfig
from lafite_core.coreset import first_equal, greedy_coreset
from lafite_core.errors import LafiteError

SEARCH_ROWS = 1024
"""Patches of one matrix product; with a bank of 100,000 that is 400 MB."""
RANK_ROWS = 16
"""Patches whose neighbours are ranked at once; with 58 members of 272 channels 2 MB."""
SPARE = 8
"""Members that the fast search finds beyond those asked for; rarely are any of them needed."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to float32 squared distances and rows ``[P, k]``, nearest first
up to rounding."""


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

    Searched with matrix products, or on a CPU with faiss where that is faster.
    """

    def __init__(self, vectors: Tensor, device: str = "cpu") -> None:
        self.vectors = vectors.contiguous()
        self.device = device
        self._index: Search | None = None

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

        A fast search in float32 finds somewhat more members than are asked for; these are ranked
        by their distances in float64, which the expanded form of the fast search would lose half
        the digits of near 0. Where its error leaves open whether another member belongs among
        them, such as one at the same distance as the last, it is asked for more. Of members at
        equal distances the earlier row of the bank comes first, so that those found for a smaller
        k are a prefix of those for a larger one.

        Raises:
            LafiteError: k is larger than the bank.
        """
        if not 1 <= k <= len(self):
            raise LafiteError(
                f"K = {k} neighbours were asked of a memory bank of {len(self)} patches; "
                f"use K between 1 and {len(self)}."
            )
        search = self._index = self._index or self._fastest(patches, min(k + SPARE, len(self)))
        index = torch.empty(len(patches), k, dtype=torch.int64)
        squared = torch.empty(len(patches), k, dtype=torch.float64)
        open_rows, width = torch.arange(len(patches)), min(k + SPARE, len(self))
        while len(open_rows):
            own = patches[open_rows]
            rough, found = search(own, width)
            near, order = self._ranked(own, found)
            index[open_rows], squared[open_rows] = order[:, :k], near[:, :k]
            if width == len(self):
                break
            error = _search_error(own, near[:, k - 1])
            open_rows = open_rows[near[:, k - 1] >= rough[:, -1].double() - error]
            width = min(4 * width, len(self))
        return Neighbours(index=index, distance=squared.sqrt().float())

    def _fastest(self, patches: Tensor, k: int) -> Search:
        """The form of the search that answers sooner here; the members found are the same.

        faiss comes with linear algebra of its own, which does not know every processor: it was
        five times slower than torch's on one, and may be the faster one elsewhere.
        """
        product = _product_search(self.vectors, self.device)
        flat = _faiss_search(self.vectors) if self.device == "cpu" else None
        if flat is None:
            return product
        seconds = []
        for form in (product, flat):
            form(patches[:4], k)  # the first call pays for waking up
            started = time.perf_counter()
            form(patches, k)
            seconds.append(time.perf_counter() - started)
        return product if seconds[0] <= seconds[1] else flat

    def _ranked(self, patches: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances in float64 and rows, ``[P, width]`` each, nearest first."""
        near, order = [], []
        for part, rows in zip(patches.split(RANK_ROWS), found.split(RANK_ROWS), strict=True):
            rows = rows.sort(dim=1).values
            away = part.double()[:, None, :] - self.vectors[rows].double()
            distance, place = away.square_().sum(2).sort(dim=1, stable=True)
            near.append(distance)
            order.append(rows.gather(1, place))
        return torch.cat(near), torch.cat(order)

    def edit(self, neighbours: Neighbours, config: EditConfig) -> Tensor:
        """Feature editing: each patch becomes a weighted mean of its neighbours, ``[P, C]``."""
        weights = neighbour_weights(neighbours.distance, config)
        return torch.nn.functional.embedding_bag(
            neighbours.index, self.vectors, per_sample_weights=weights, mode="sum"
        )


def _search_error(patches: Tensor, squared: Tensor) -> Tensor:
    """How far off a squared distance of the fast search can be, ``[P]`` float64.

    It is a sum of C products in float32 (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1), for members that are no farther than ``squared``.
    """
    norm = patches.double().square().sum(1).sqrt()
    rounding = (patches.shape[1] + 3) * torch.finfo(torch.float32).eps
    return rounding * (2 * norm + squared.sqrt()).square()


def _faiss_search(vectors: Tensor) -> Search | None:
    """Search with a flat faiss index, or None where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors.numpy())

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # Images are searched side by side, each on one thread, which faiss counts by itself.
        faiss.omp_set_num_threads(1)
        rough, found = index.search(np.ascontiguousarray(patches.numpy()), k)
        return torch.from_numpy(rough), torch.from_numpy(found)

    return search


def _product_search(vectors: Tensor, device: str) -> Search:
    """Search with one matrix product and a selection."""
    there = vectors.to(device)
    norms = there.double().square().sum(1).float()

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rough, found = [], []
        for part in patches.split(SEARCH_ROWS):
            own = part.to(device)
            squared = torch.addmm(norms[None, :], own, there.T, alpha=-2)
            best = squared.topk(k, dim=1, largest=False)
            # The patch's own norm is the same for all members, and need not take part in this.
            rough.append((best.values + own.square().sum(1, keepdim=True)).cpu())
            found.append(best.indices.cpu())
        return torch.cat(rough), torch.cat(found)

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
