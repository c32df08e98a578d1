"""Fast searches for nearest neighbours in Euclidean distance, and the exact ranking of them."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

SEARCH_ROWS = 1024
"""Patches of one matrix product; with all of a bank of 100,000 that is 400 MB."""
RANK_PAIRS = 256
"""Pairs of patch and member that are ranked at once: with 272 channels half a megabyte, which
stays in the cache of a core."""
TILE = 4096
"""Members of one matrix product on a CPU: with 196 patches 3 MB, which stay in its cache."""
FOLD = 16
"""Members of which the nearest alone is looked at first; see ``_smallest``."""
MOST = 8
"""Times as many members as asked for, at which another form of the search takes over."""
CODE = 127
"""Largest number of 8 bits that has a negative."""
LARGEST = 2**31 - 1
"""Of the numbers of 32 bits that products of codes are summed in."""
SPARE = 4
"""Members that searches in float32 find beyond those asked for; rarely are any of them needed."""
SLACK = 1.05
"""How much farther than the k-th in codes members are looked at, in errors of the codes; with 1
the k-th itself would be in doubt for half of the patches."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to int64 rows ``[P, W]`` of members, about k or more of each patch
and filled up with the number of all members, and float64 squared distances ``[P]`` that no other
member is nearer than, up to the rounding of float32 (``search_error``)."""


def product_search(vectors: Tensor, device: str) -> Search:
    """Search in ``[M, C]`` float32 vectors with matrix products and a selection."""
    there = vectors.to(device)
    norms = there.double().square().sum(1).float()
    count = len(there)

    def tiles(own: Tensor) -> Iterator[tuple[int, Tensor]]:
        whole = own.new_empty(len(own), TILE)
        for at in range(0, count, TILE):
            part = there[at : at + TILE]
            squared = whole[:, : FOLD * -(-len(part) // FOLD)]
            squared[:, len(part) :] = torch.inf
            out = squared[:, : len(part)]
            torch.addmm(norms[None, at : at + TILE], own, part.T, alpha=-2, out=out)
            yield at, squared

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        k = min(k + SPARE, count)
        found, outside = [], []
        for part in patches.split(SEARCH_ROWS):
            own = part.to(device)
            best = None
            if device == "cpu" and k <= _most_by_folds(count):
                best = _smallest(tiles(own), len(own), k, lambda limit: limit)
            if best is None:
                squared = torch.addmm(norms[None, :], own, there.T, alpha=-2)
                values, rows = squared.topk(k, dim=1, largest=False)
                best = rows.cpu(), values[:, -1]
            # The patch's own norm is the same for all members, and need not take part in this.
            found.append(best[0])
            outside.append((best[1] + own.square().sum(1)).cpu().double())
        return _joined(found, count), torch.cat(outside)

    return search


def integer_search(vectors: Tensor, otherwise: Search) -> Search | None:
    """Search with matrix products of integers, or None where these are not exact or of no use.

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
    step = float(max((p - centre).abs().max() for p in vectors.split(TILE))) / CODE
    if not (0 < step < np.inf and _integers_are_exact()):
        return None

    def coded(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes ``[P, C]``, their squared norms, and each vector's distance from its code."""
        away = part.double() - centre.double()
        codes = (away / step).round_().clamp_(-CODE, CODE)
        error = torch.linalg.vector_norm(away.sub_(codes, alpha=step), dim=1)
        return codes.to(torch.int8), codes.square_().sum(1), error

    codes, norms, errors = (
        torch.cat(parts) for parts in zip(*map(coded, vectors.split(TILE)), strict=True)
    )
    error = float(errors.max())
    half = norms.long() // 2
    least = int(half.min())
    half -= least
    digits = 2 + int(half.max()) // CODE**2
    # Rows beyond the members have the largest norm there is.
    members = torch.full((FOLD * -(-count // FOLD), channels + digits), CODE, dtype=torch.int8)
    members[:, :channels] = 0
    members[:count, :channels] = codes
    members[:count, channels] = half % CODE
    for digit in range(1, digits):
        members[:count, channels + digit] = (half // CODE - CODE * (digit - 1)).clamp_(0, CODE)
    del codes, norms, errors, half

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if k > _most_by_folds(count):
            return otherwise(patches, k)
        found, outside = [], []
        for part in patches.split(SEARCH_ROWS):
            codes, norms, own_error = coded(part)
            own = torch.full((len(part), channels + digits), CODE, dtype=torch.int8)
            own[:, :channels] = -codes
            own[:, channels] = 1
            base, unsure = norms + 2 * least, own_error + error

            def reach(limit: Tensor, base: Tensor = base, unsure: Tensor = unsure) -> Tensor:
                nearest = (base + 2 * limit).clamp_min_(0).sqrt_() + SLACK / step * unsure
                return ((nearest.square() - base) / 2).floor().clamp_max_(LARGEST).int()

            tiles = (
                (at, torch._int_mm(own, members[at : at + TILE].T)) for at in range(0, count, TILE)
            )
            best = _smallest(tiles, len(part), k, reach)
            if best is None:
                return otherwise(patches, k)
            found.append(best[0])
            # The next number of the codes' distances is 1 farther.
            apart = (base + 2 * (best[1].double() + 1)).clamp_min_(0).sqrt_() * step
            outside.append((apart - unsure).clamp_min_(0).square())
        return _joined(found, count), torch.cat(outside)

    return search


def _integers_are_exact() -> bool:
    """Whether torch multiplies matrices of 8 bits here, without overflow on the way."""
    if not hasattr(torch, "_int_mm"):
        return False
    signs = torch.tensor([[1] * 64, [-1] * 64, [1, -1] * 32, [-1, 1] * 32]).repeat(8, 1)
    codes = (CODE * signs).to(torch.int8)
    return torch.equal(torch._int_mm(codes, codes.T).long(), CODE**2 * (signs @ signs.T))


def _most_by_folds(count: int) -> int:
    """The largest k that ``_smallest`` finds without looking into most of the folds."""
    return min(TILE, count) // FOLD // 2


def _smallest(
    tiles: Iterable[tuple[int, Tensor]], count: int, k: int, reach: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Columns of the smallest values of each row, found without sorting the rows.

    A tile ``[P, FOLD * n]`` is folded into the n minima of its columns j, j + n, j + 2 n and so on,
    which takes one pass. The k-th smallest of the minima of all tiles so far is no less than the
    k-th smallest of their values, and few more than k values are no greater. Only folds whose
    minimum is no greater have any.

    Args:
        tiles: the first column of each, and its values.
        count: rows.
        reach: from that k-th smallest ``[P]`` to the greatest value that is wanted, ``[P]``.

    Returns:
        Columns ``[P, W]`` int64, filled up with one beyond the last, and the greatest value wanted
        ``[P]``; None if far more than k are wanted.
    """
    best: np.ndarray | None = None
    rows, columns, near = np.empty(0, int), np.empty(0, int), np.empty(0, np.int32)
    wanted, end = np.empty(0), 0
    for at, values in tiles:
        folded = values.reshape(count, FOLD, -1)
        minima, inner = folded.amin(1).numpy(), folded.numpy()
        end, n = at + values.shape[1], minima.shape[1]
        best = minima if best is None else np.concatenate([best, minima], axis=1)
        best = np.partition(best, k - 1, axis=1)[:, :k]
        wanted = reach(torch.from_numpy(best[:, -1])).numpy()
        row, fold = np.divmod(np.flatnonzero(minima <= wanted[:, None]), n)
        if len(row) > MOST * k * count:
            return None
        inside = inner[row, :, fold]
        which, place = np.divmod(np.flatnonzero(inside <= wanted[row, None]), FOLD)
        rows = np.concatenate([rows, row[which]])
        columns = np.concatenate([columns, at + fold[which] + place * n])
        near = np.concatenate([near, inside[which, place]], dtype=minima.dtype)
        still = near <= wanted[rows]
        rows, columns, near = rows[still], columns[still], near[still]
        if len(rows) > MOST * k * count:
            return None
    order = np.argsort(rows, kind="stable")
    rows, columns = rows[order], columns[order]
    amount = np.bincount(rows, minlength=count)
    padded = np.full((count, amount.max()), end)
    padded[rows, np.arange(len(rows)) - (amount.cumsum() - amount)[rows]] = columns
    return torch.from_numpy(padded), torch.from_numpy(wanted)


def _joined(parts: list[Tensor], fill: int) -> Tensor:
    """``[P, W]`` of parts ``[p, w]``, filled up on the right; ``fill`` is the largest number."""
    width = max(part.shape[1] for part in parts)
    parts = [
        torch.nn.functional.pad(part, (0, width - part.shape[1]), value=fill) for part in parts
    ]
    return torch.cat(parts).clamp_max_(fill)


def ranked(vectors: Tensor, patches: Tensor, found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the rows that were found: float64 distances and rows, ``[P, k]`` each.

    Of rows at equal distances the earlier one comes first. Where fewer than k were found the last
    distances are infinite.

    Args:
        found: ``[P, W]`` rows of ``vectors``, filled up with their number.
    """
    count = len(vectors)
    rows = np.sort(found.numpy(), axis=1)
    rows = np.pad(rows, ((0, 0), (0, max(0, k - rows.shape[1]))), constant_values=count)
    distance = np.full(rows.shape, np.inf)
    widths = (rows < count).sum(1)
    order = np.argsort(widths, kind="stable")
    at, wide = 0, patches.double()
    while at < len(order):
        # Patches with about as many rows as each other go together.
        here = order[at : at + max(1, RANK_PAIRS // max(1, widths[order[at]]))]
        at += len(here)
        width = widths[here[-1]]
        own = torch.from_numpy(rows[here, :width]).clamp_max_(count - 1)
        away = vectors.index_select(0, own.flatten()).double().view(*own.shape, wide.shape[1])
        away -= wide[here, None, :]
        distance[here, :width] = torch.linalg.vector_norm(away, dim=2).numpy()
    distance[rows == count] = np.inf
    order = np.argsort(distance, axis=1)
    near = np.take_along_axis(distance, order, axis=1)
    tied = (near[:, : k + 1][:, 1:] == near[:, : k + 1][:, :-1]).any(1)
    order[tied] = np.argsort(distance[tied], axis=1, kind="stable")
    order = order[:, :k]
    return torch.from_numpy(near[:, :k]), torch.from_numpy(np.take_along_axis(rows, order, axis=1))


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
        k = min(k + SPARE, len(vectors))
        rough, found = index.search(np.ascontiguousarray(patches.numpy()), k)
        return torch.from_numpy(found), torch.from_numpy(rough[:, -1]).double()

    return search
