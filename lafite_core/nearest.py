"""Nearest neighbours in Euclidean distance: fast searches in float32, and their exact ranking."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SEARCH_ROWS = 1024
"""Patches of one matrix product; with a bank of 100,000 that is 400 MB."""
RANK_PAIRS = 256
"""Pairs of patch and member that are ranked at once: with 272 channels half a megabyte, which
stays in the cache of a core."""
FOLD = 16
"""Members of which the nearest alone is looked at first; see ``smallest``."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to float32 squared distances and rows ``[P, k]``, nearest first
up to rounding."""


def product_search(vectors: Tensor, device: str) -> Search:
    """Search in ``[M, C]`` float32 vectors with one matrix product and a selection."""
    there = vectors.to(device)
    norms = there.double().square().sum(1).float()
    folds = -(-len(there) // FOLD)

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        rough, found = [], []
        for part in patches.split(SEARCH_ROWS):
            own = part.to(device)
            if device == "cpu" and k <= folds // 2:
                squared = own.new_empty(len(own), FOLD * folds)
                squared[:, len(there) :] = torch.inf
                torch.addmm(norms[None, :], own, there.T, alpha=-2, out=squared[:, : len(there)])
                values, rows = smallest(squared, k)
            else:
                squared = torch.addmm(norms[None, :], own, there.T, alpha=-2)
                values, rows = squared.topk(k, dim=1, largest=False)
            # The patch's own norm is the same for all members, and need not take part in this.
            rough.append((values + own.square().sum(1, keepdim=True)).cpu())
            found.append(rows.cpu())
        return torch.cat(rough), torch.cat(found)

    return search


def smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row of ``[P, FOLD * n]`` and their columns, as ``topk`` finds them.

    Every row is folded into n minima, of the columns j, j + n, j + 2 n and so on, which takes one
    pass. The k-th smallest of the minima is no less than the k-th smallest of the row: columns
    that are no greater are few more than k, and lie in folds whose minimum is no greater.
    """
    count, width = values.shape
    folded = values.numpy().reshape(count, FOLD, width // FOLD)
    minima = values.view(folded.shape).amin(1).numpy()
    limit = np.partition(minima, k - 1, axis=1)[:, k - 1, None]
    row, fold = np.nonzero(minima <= limit)
    inside = folded[row, :, fold]
    which, place = np.nonzero(inside <= limit[row])
    row, column, near = row[which], fold[which] + place * folded.shape[2], inside[which, place]

    amount = np.bincount(row, minlength=count)
    rank = np.arange(len(row)) - (amount.cumsum() - amount)[row]
    padded = np.full((count, max(k, amount.max())), np.inf, np.float32)
    columns = np.zeros(padded.shape, np.int64)
    padded[row, rank], columns[row, rank] = near, column
    best = torch.from_numpy(padded).topk(k, dim=1, largest=False)
    return best.values, torch.from_numpy(columns).gather(1, best.indices)


def ranked(vectors: Tensor, patches: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Distances in float64 of ``[P, width]`` rows of vectors, and the rows, nearest first.

    Of rows at equal distances the earlier one comes first.
    """
    rows = found.sort(dim=1).values
    width = rows.shape[1]
    at_once = max(1, RANK_PAIRS // width)
    near = []
    for part, own in zip(patches.split(at_once), rows.split(at_once), strict=True):
        away = vectors.index_select(0, own.flatten()).double().view(len(own), width, -1)
        away -= part.double()[:, None, :]
        near.append(torch.linalg.vector_norm(away, dim=2))
    distance, place = torch.cat(near).sort(dim=1, stable=True)
    return distance, rows.gather(1, place)


def search_error(patches: Tensor, distance: Tensor) -> Tensor:
    """How far off a squared distance of a search in float32 can be, ``[P]`` float64.

    It is a sum of C products in float32 (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1), for members that are no farther than ``distance``.
    """
    norm = patches.double().square().sum(1).sqrt()
    rounding = (patches.shape[1] + 3) * torch.finfo(torch.float32).eps
    return rounding * (2 * norm + distance).square()


def faiss_search(vectors: Tensor) -> Search | None:
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
