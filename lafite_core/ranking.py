"""Exact ranking of the few members that a fast search leaves of a bank.

Tables ``[P, W]`` hold the columns of members that belong to each of P patches, filled up with the
number of all members.
"""

import numpy as np
import torch
from torch import Tensor

RANK_PAIRS = 320
"""Pairs of patch and member whose distances are taken at once: with 272 channels 0.7 MB, which
stays in the cache of a core."""


def table(patches: np.ndarray, columns: np.ndarray, count: int, fill: int) -> np.ndarray:
    """Pairs as a table ``[count, W]`` of columns, filled up with ``fill``."""
    order = np.argsort(patches, kind="stable")
    patches = patches[order]
    amount = np.bincount(patches, minlength=count)
    table = np.full((count, amount.max()), fill)
    table[patches, np.arange(len(order)) - (amount.cumsum() - amount)[patches]] = columns[order]
    return table


def distances(
    vectors: Tensor, patches: Tensor, columns: np.ndarray, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    """Distances ``[P, W]`` to the vectors in a table, infinite where it is filled up."""
    count, channels = vectors.shape
    widths = (columns < count).sum(1)
    order = np.argsort(widths, kind="stable")  # patches with about as many members go together
    rows = torch.from_numpy(columns[order]).clamp_max_(count - 1)
    own = patches.to(dtype)[torch.from_numpy(order)]
    found = torch.full(columns.shape, torch.inf, dtype=dtype)
    # Memory that is asked for anew for every piece takes longer than the arithmetic.
    pairs = max(RANK_PAIRS, columns.shape[1])
    away = torch.empty(pairs, channels, dtype=dtype)
    taken = away if dtype == vectors.dtype else torch.empty(pairs, channels)
    at = int((widths == 0).sum())
    while at < len(order):
        end = min(at + max(1, RANK_PAIRS // int(widths[order[at]])), len(order))
        here = rows[at:end, : int(widths[order[end - 1]])]
        if here.numel() > pairs:
            end = at + max(1, pairs // here.shape[1])
            here = here[: end - at]
        size = here.numel()
        torch.index_select(vectors, 0, here.flatten(), out=taken[:size])
        if taken is not away:
            away[:size] = taken[:size]
        part = away[:size].view(*here.shape, channels)
        part -= own[at:end, None, :]
        torch.linalg.vector_norm(part, dim=2, out=found[at:end, : here.shape[1]])
        at = end
    distance = np.empty(columns.shape)
    distance[order] = found.numpy()
    distance[columns == count] = np.inf
    return distance


def kth(distance: np.ndarray, k: int) -> np.ndarray:
    """The k-th smallest of each row ``[P]``, infinite where there are fewer."""
    if distance.shape[1] < k:
        return np.full(len(distance), np.inf)
    return np.partition(distance, k - 1, axis=1)[:, k - 1]


def nearest(distance: np.ndarray, columns: np.ndarray, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest distances of each row and their columns; of equal ones the earlier column."""
    order = np.argsort(distance, axis=1)
    first = np.take_along_axis(distance, order, axis=1)[:, : k + 1]
    tied = (first[:, 1:] == first[:, :-1]).any(1)
    order[tied] = np.lexsort((columns[tied], distance[tied]), axis=1)
    return (
        torch.from_numpy(first[:, :k]),
        torch.from_numpy(np.take_along_axis(columns, order[:, :k], axis=1)),
    )
