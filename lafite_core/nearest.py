"""Fast searches for nearest neighbours in Euclidean distance, and the exact ranking of them."""

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
"""Members of which the nearest alone is looked at first; see ``_Folded``."""
CODE = 127
"""Largest number of 8 bits that has a negative."""
LARGEST = 2**31 - 1
"""Of the numbers of 32 bits that products of codes are summed in."""
SLACK = 1.1
"""How much farther than the k-th in codes members are looked at, in errors of the codes; with 1
the k-th itself would be in doubt for half of the patches."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to int64 rows ``[P, W]`` of members, about k or more of each patch
and filled up with the number of all members, and float64 squared distances ``[P]`` that no other
member is nearer than, up to the rounding of float32 (``search_error``)."""


def product_search(vectors: Tensor, device: str) -> Search:
    """Search in ``[M, C]`` float32 vectors with one matrix product and a selection."""
    there = vectors.to(device)
    norms = there.double().square().sum(1).float()
    count, folds = len(there), -(-len(there) // FOLD)

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        found, outside = [], []
        for part in patches.split(SEARCH_ROWS):
            own = part.to(device)
            rows: Tensor | None = None
            if device == "cpu" and k <= folds // 2:
                whole = own.new_empty(len(own), FOLD * folds)
                whole[:, count:] = torch.inf
                squared = whole[:, :count]
                torch.addmm(norms[None, :], own, there.T, alpha=-2, out=squared)
                folded = _Folded(whole)
                last = folded.limit(k)
                rows = folded.within(last, count, most=4 * k * len(own))
            else:
                squared = torch.addmm(norms[None, :], own, there.T, alpha=-2)
            if rows is None:
                best = squared.topk(k, dim=1, largest=False)
                rows, last = best.indices, best.values[:, -1]
            # The patch's own norm is the same for all members, and need not take part in this.
            found.append(rows.cpu())
            outside.append((last + own.square().sum(1)).cpu().double())
        return _joined(found, count), torch.cat(outside)

    return search


def integer_search(vectors: Tensor, otherwise: Search) -> Search | None:
    """Search with a matrix product of integers, or None where it is not exact or of no use.

    Members and patches are rounded to multiples of one step, codes of 8 bits, which processors
    multiply up to four times as fast as float32, and without error. By the triangle inequality
    two vectors are at least as far apart as their codes, less the distances of both from their
    codes. That leaves about twice the members that are asked for.

    Half the squared norm of a member's code is written into further columns, to the base of
    ``CODE``, so that the product is half the squared distance, up to the norm of the patch.

    Args:
        otherwise: answers where codes leave too many members in question.
    """
    count, channels = vectors.shape
    centre = vectors.mean(0)
    step = float(max((p - centre).abs().max() for p in vectors.split(SEARCH_ROWS))) / CODE
    if not (0 < step < np.inf and _integers_are_exact()):
        return None

    def coded(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes ``[P, C]``, their squared norms, and each vector's distance from its code."""
        away = part.double() - centre.double()
        codes = (away / step).round_().clamp_(-CODE, CODE)
        error = torch.linalg.vector_norm(away.sub_(codes, alpha=step), dim=1)
        return codes.to(torch.int8), codes.square_().sum(1), error

    codes, norms, errors = (
        torch.cat(parts) for parts in zip(*map(coded, vectors.split(SEARCH_ROWS)), strict=True)
    )
    error = float(errors.max())
    half = norms.long() // 2
    least = int(half.min())
    half -= least
    digits = 2 + int(half.max()) // CODE**2
    folds = -(-count // FOLD)
    # Rows beyond the members have the largest norm there is.
    members = torch.full((FOLD * folds, channels + digits), CODE, dtype=torch.int8)
    members[:, :channels] = 0
    members[:count, :channels] = codes
    members[:count, channels] = half % CODE
    for digit in range(1, digits):
        members[:count, channels + digit] = (half // CODE - CODE * (digit - 1)).clamp_(0, CODE)
    del codes, norms, errors, half

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k > folds // 2:
            return otherwise(patches, k)
        found, outside = [], []
        for part in patches.split(SEARCH_ROWS):
            codes, norms, own_error = coded(part)
            own = torch.full((len(part), channels + digits), CODE, dtype=torch.int8)
            own[:, :channels] = -codes
            own[:, channels] = 1
            folded = _Folded(torch._int_mm(own, members.T))
            base = norms + 2 * least
            nearest = (base + 2 * folded.limit(k)).clamp_min_(0).sqrt_() * step
            reach = nearest + SLACK * (own_error + error)
            limit = (((reach / step).square() - base) / 2).floor().clamp_max_(LARGEST)
            rows = folded.within(limit.int(), count, most=(4 * k + FOLD) * len(part))
            if rows is None:
                return otherwise(patches, k)
            found.append(rows)
            outside.append((reach - own_error - error).square())
        return _joined(found, count), torch.cat(outside)

    return search


def _integers_are_exact() -> bool:
    """Whether torch multiplies matrices of 8 bits here, without overflow on the way."""
    if not hasattr(torch, "_int_mm"):
        return False
    signs = torch.tensor([[1] * 64, [-1] * 64, [1, -1] * 32, [-1, 1] * 32]).repeat(8, 1)
    codes = (CODE * signs).to(torch.int8)
    return torch.equal(torch._int_mm(codes, codes.T).long(), CODE**2 * (signs @ signs.T))


class _Folded:
    """The smallest of each row of ``[P, FOLD * n]`` values, found without sorting the rows.

    Every row is folded into the n minima of its columns j, j + n, j + 2 n and so on, which takes
    one pass. The k-th smallest of the minima is no less than the k-th smallest of the row, few
    more than k values are no greater, and only folds whose minimum is no greater have any.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values.view(len(values), FOLD, -1)
        self.minima = self.values.amin(1)

    def limit(self, k: int) -> Tensor:
        """The k-th smallest of the minima of each row, ``[P]``."""
        return torch.from_numpy(np.partition(self.minima.numpy(), k - 1, axis=1)[:, k - 1])

    def within(self, limit: Tensor, count: int, most: int) -> Tensor | None:
        """The first ``count`` columns that are no greater than ``limit`` ``[P]``.

        Returns:
            ``[P, W]`` int64, filled up with ``count``; None if there are more than ``most``.
        """
        row, fold = np.nonzero((self.minima <= limit[:, None]).numpy())
        if len(row) > most:
            return None
        inside = self.values.numpy()[row, :, fold] <= limit.numpy()[row, None]
        which, place = np.nonzero(inside)
        row, column = row[which], fold[which] + place * self.minima.shape[1]
        row, column = row[column < count], column[column < count]
        if len(row) > most:
            return None
        amount = np.bincount(row, minlength=len(self.values))
        columns = np.full((len(amount), amount.max()), count)
        columns[row, np.arange(len(row)) - (amount.cumsum() - amount)[row]] = column
        return torch.from_numpy(columns)


def _joined(parts: list[Tensor], fill: int) -> Tensor:
    """``[P, W]`` of parts ``[p, w]``, filled up on the right."""
    width = max(part.shape[1] for part in parts)
    return torch.cat(
        [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=fill) for part in parts]
    )


def ranked(vectors: Tensor, patches: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the rows that were found: float64 distances and rows, ``[P, k]`` each.

    Of rows at equal distances the earlier one comes first. Where fewer than k were found the last
    distances are infinite.

    Args:
        found: ``[P, W]`` rows of ``vectors``, filled up with their number.
    """
    count = len(vectors)
    rows = torch.from_numpy(np.sort(found.numpy(), axis=1))
    rows = torch.nn.functional.pad(rows, (0, max(0, k - rows.shape[1])), value=count)
    distance = torch.full(rows.shape, torch.inf, dtype=torch.float64)
    at_once = max(1, RANK_PAIRS // rows.shape[1])
    widths = (rows < count).sum(1)
    for part in torch.arange(len(rows)).split(at_once):
        here = slice(int(part[0]), int(part[-1]) + 1)
        width = int(widths[here].max())
        own = rows[here, :width].clamp_max(count - 1)
        away = vectors.index_select(0, own.flatten()).double().view(*own.shape, vectors.shape[1])
        away -= patches[here].double()[:, None, :]
        distance[here, :width] = torch.linalg.vector_norm(away, dim=2)
    distance[rows == count] = torch.inf
    distance, place = distance.sort(dim=1, stable=True)
    return distance[:, :k], rows.gather(1, place[:, :k])


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
        return torch.from_numpy(found), torch.from_numpy(rough[:, -1]).double()

    return search
