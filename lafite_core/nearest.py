"""Nearest neighbours in Euclidean distance, as brute force in float64 finds them.

A fast search in float32 finds a few members more than were asked for. They are ranked by their
distances in float64, and where the error of the fast search leaves open whether another member
belongs among the nearest, it is asked for more. Of members at equal distances the earlier one comes
first. So neither the kind of search nor other patches searched beside one change what is found.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lafite_core.parallel import on_each_core

ROWS = 1024
"""Patches of one matrix product."""
TILE = 32768
"""Members of one matrix product: with ``ROWS`` patches 134 MB."""
SPARE = 8
"""Members that the fast search finds beyond those asked for; rarely are any of them needed."""
PAIRS = 1024
"""Pairs of patch and member whose distances a core takes at once: with 272 channels 2 MB, which
stays in its cache."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to float32 squared distances and int64 rows ``[P, k]``, nearest
first up to rounding, on the device of the patches."""


def fast_search(vectors: Tensor, device: str) -> Search:
    """On a CPU a flat faiss index, where faiss is installed; else matrix products."""
    if device == "cpu":
        with suppress(ImportError):
            import faiss

            return faiss_search(vectors, faiss)
    return product_search(vectors, device)


def faiss_search(vectors: Tensor, faiss: Any) -> Search:
    """A flat index over ``[M, C]`` vectors, searched with as many threads as torch has."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors.numpy())

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        faiss.omp_set_num_threads(torch.get_num_threads())
        squared, rows = index.search(np.ascontiguousarray(patches.numpy()), k)
        return torch.from_numpy(squared), torch.from_numpy(rows)

    return search


def product_search(vectors: Tensor, device: str) -> Search:
    """Matrix products with ``[M, C]`` vectors, tile by tile, which keep the k nearest so far.

    Beside the vectors, which may be on the CPU where the device has no room for them, it takes the
    memory of one tile, however many vectors there are.
    """
    norms = torch.cat([part.double().square().sum(1).float() for part in vectors.split(ROWS)])

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        found = [nearest_of(part, k) for part in patches.split(ROWS)]
        squared, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
        return squared, rows

    def nearest_of(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        best = patches.new_empty(len(patches), 0)
        rows = torch.empty(len(patches), 0, dtype=torch.int64, device=patches.device)
        for first in range(0, len(vectors), TILE):
            members, own = (part[first : first + TILE].to(device) for part in (vectors, norms))
            squared = torch.addmm(own[None, :], patches, members.T, alpha=-2)
            squared, near = squared.topk(min(k, len(members)), dim=1, largest=False)
            best, rows = torch.cat([best, squared], 1), torch.cat([rows, first + near], 1)
            best, order = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            rows = rows.gather(1, order)
        # The patch's own norm is the same for all members, and need not take part before.
        return best + patches.square().sum(1, keepdim=True), rows

    return search


def checked_search(
    vectors: Tensor, search: Search, patches: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """The k nearest of ``[M, C]`` vectors to each of ``[P, C]`` patches, by a search made exact.

    Returns:
        Distances float64 and rows int64, ``[P, k]`` each, nearest first.
    """
    near = torch.empty(len(patches), k, dtype=torch.float64)
    rows = torch.empty(len(patches), k, dtype=torch.int64)
    unsure, width = torch.arange(len(patches)), min(k + SPARE, len(vectors))
    while len(unsure):
        near[unsure], rows[unsure], sure = ranked(vectors, search, patches[unsure], k, width)
        unsure = unsure[~sure]
        width = min(4 * width, len(vectors))
    return near, rows


def ranked(
    vectors: Tensor, search: Search, patches: Tensor, k: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k nearest among the ``width`` members that a search finds.

    Returns:
        Distances float64 and rows int64, ``[P, k]`` each, nearest first; and for each patch whether
        no other member can be one of them, ``[P]``.
    """
    squared, found = search(patches, width)
    found = found.sort(1).values  # the earlier of two members at one distance comes first
    distance, order = distances(vectors, patches, found).sort(dim=1, stable=True)
    near, rows = distance[:, :k].contiguous(), found.gather(1, order[:, :k])
    if width == len(vectors):
        return near, rows, torch.ones_like(squared[:, 0], dtype=torch.bool)
    last = near[:, k - 1]
    outside = squared[:, -1].double() - search_error(patches, last)
    return near, rows, last.square() < outside


def distances(vectors: Tensor, patches: Tensor, rows: Tensor) -> Tensor:
    """Distances float64 ``[P, W]`` of each patch to the vectors in its ``[P, W]`` rows."""

    def part(at: slice) -> Tensor:
        members = vectors[rows[at].to(vectors.device)].to(rows.device)
        return torch.linalg.vector_norm(members.double().sub_(patches[at, None]), dim=2)

    if rows.is_cuda:
        return part(slice(None))
    step = max(1, PAIRS // rows.shape[1])
    parts = [slice(first, first + step) for first in range(0, len(patches), step)]
    return torch.cat(list(on_each_core(part, parts)))


def search_error(patches: Tensor, distance: Tensor) -> Tensor:
    """How far off a squared distance of a search in float32 can be, ``[P]`` float64.

    It is a sum of C products in float32 (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1), for members that are no farther than ``distance``.
    """
    norm = patches.double().square().sum(1).sqrt()
    rounding = (patches.shape[1] + 3) * torch.finfo(torch.float32).eps
    return rounding * (2 * norm + distance).square()
