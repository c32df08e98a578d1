"""Searches for nearest neighbours in Euclidean distance, fast ones, exact to float64.

Every search finds the members that brute force in float64 finds, and their distances. Of members
at equal distances the earlier one comes first.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from lafite_core.ranking import distances, kth, nearest, table

SEARCH_ROWS = 1024
"""Patches of one matrix product; with a bank of 100,000 that is 400 MB."""
SCAN_ROWS = 256
"""Patches whose values are held by ``_Scan``; with a bank of 100,000 that is 100 MB."""
TILE = 8192
"""Members of one matrix product there: with 196 patches 6 MB."""
FOLD = 16
"""Members of which the nearest alone is looked at first; see ``_Scan``."""
SPARE = 8
"""Members that ``topk`` and faiss find beyond those asked for; rarely are any of them needed."""
MOST = 4
"""How many times ``k + FOLD`` members may be left before ``folded_search`` gives up."""
CODE = 127
"""Largest number of 8 bits that has a negative."""
TAME = 0.995
"""Share of the members that codes reach; the few beyond would make the codes of all coarser."""
LARGEST = 2**31 - 1
"""Of the numbers of 32 bits that products of codes are summed in."""

Search = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From ``[P, C]`` patches and k to float64 distances and int64 rows ``[P, k]``, nearest first."""
Rough = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""The same with float32 squared distances, and in order only up to rounding."""


class _Scan:
    """Something like the squared distances of P patches to all members, to look the smallest up.

    Tiles ``[P, FOLD * n]`` of values are folded into the n minima of their columns j, j + n,
    j + 2 n and so on, which takes one pass. The k-th smallest minimum is no less than the k-th
    smallest value, and few more than k values are no greater. Only folds whose minimum is no
    greater have any.

    Args:
        tiles: the first column of each, and its values.
        members: of each column ``[columns]``; negative where it has none.
        threshold: from distances ``[P]`` float64 to the greatest values that members at these
            distances may have, ``[P]``.
    """

    def __init__(
        self,
        tiles: Iterator[tuple[int, Tensor]],
        members: np.ndarray,
        threshold: Callable[[Tensor], Tensor],
    ) -> None:
        self.members = members
        self.threshold = threshold
        self.parts: list[tuple[int, np.ndarray, np.ndarray]] = []
        for at, values in tiles:
            folded = values.view(len(values), FOLD, -1)
            self.parts.append((at, folded.numpy(), folded.amin(1).numpy()))

    def limit(self, k: int) -> np.ndarray:
        """The k-th smallest minimum of each patch, ``[P]``."""
        minima = np.concatenate([minima for _, _, minima in self.parts], axis=1)
        return np.partition(minima, k - 1, axis=1)[:, k - 1]

    def between(
        self, low: np.ndarray | None, high: np.ndarray, most: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Patches and members of values above ``low`` and up to ``high``, ``[P]`` each.

        Returns:
            ``[pairs]`` each; None if there are more than ``most``.
        """
        found, total = [], 0
        for at, folded, minima in self.parts:
            patch, fold = np.divmod(np.flatnonzero(minima <= high[:, None]), minima.shape[1])
            if total + len(patch) > most:
                return None
            inside = folded[patch, :, fold]
            wanted = inside <= high[patch, None]
            if low is not None:
                wanted &= inside > low[patch, None]
            which, place = np.divmod(np.flatnonzero(wanted), FOLD)
            found.append((patch[which], at + fold[which] + place * minima.shape[1]))
            total += len(which)
        patches, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
        members = self.members[columns]
        there = members >= 0
        return (patches[there], members[there]) if total <= most else None


def folded_search(vectors: Tensor, scan: Callable[[Tensor], _Scan], otherwise: Search) -> Search:
    """Search with values that order members roughly, and bound their distances exactly.

    The k nearest by their values are ranked in float64, and then the few others among them whose
    values do not exclude that they are as near as the k-th.

    Args:
        otherwise: searches where too many members are left.
    """
    count = len(vectors)

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        near, rows = [], []
        for part in patches.split(SCAN_ROWS):
            found = one(part, k) if k <= min(TILE, count) // FOLD // 2 else None
            distance, columns = otherwise(part, k) if found is None else found
            near.append(distance)
            rows.append(columns)
        return torch.cat(near), torch.cat(rows)

    def one(patches: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
        scanned, most = scan(patches), MOST * (k + FOLD) * len(patches)
        limit = scanned.limit(k)
        found = scanned.between(None, limit, most)
        if found is None:
            return None
        columns = table(*found, len(patches), count)
        distance = distances(vectors, patches, columns)
        last = kth(distance, k)
        if not np.isfinite(last).all():
            return None
        high = scanned.threshold(torch.from_numpy(last)).numpy()
        found = scanned.between(limit, high, most)
        if found is None:
            return None
        more = table(*found, len(patches), count)
        rounding = (vectors.shape[1] + 3) * torch.finfo(torch.float32).eps
        rough = distances(vectors, patches, more, torch.float32)
        as_near = rough <= last[:, None] * (1 + rounding)
        more = table(as_near.nonzero()[0], more[as_near], len(patches), count)
        further = distances(vectors, patches, more)
        columns = np.concatenate([columns, more], axis=1)
        return nearest(np.concatenate([distance, further], axis=1), columns, k)

    return search


def product_scan(vectors: Tensor) -> Callable[[Tensor], _Scan]:
    """Squared distances to ``[M, C]`` float32 vectors, less the squared norm of the patch."""
    norms = _squared_norms(vectors)
    members = _numbered(len(vectors))

    def tiles(patches: Tensor) -> Iterator[tuple[int, Tensor]]:
        for at in range(0, len(vectors), TILE):
            part = vectors[at : at + TILE]
            squared = patches.new_empty(len(patches), _folds(len(part)) * FOLD)
            squared[:, len(part) :] = torch.inf
            out = squared[:, : len(part)]
            torch.addmm(norms[None, at : at + TILE], patches, part.T, alpha=-2, out=out)
            yield at, squared

    def scan(patches: Tensor) -> _Scan:
        own = patches.double().square().sum(1)

        def threshold(distance: Tensor) -> Tensor:
            high = distance.square() - own + search_error(patches, distance)
            return torch.nextafter(high.float(), torch.tensor(torch.inf))

        return _Scan(tiles(patches), members, threshold)

    return scan


def integer_scan(vectors: Tensor) -> Callable[[Tensor], _Scan] | None:
    """Half the squared distances of codes, less what is the same for all members.

    Vectors and patches are rounded to multiples of one step, codes of 8 bits, which processors
    multiply up to four times as fast as float32, and without error. By the triangle inequality
    two vectors are at least as far apart as their codes, less the distances of both from their
    codes. Half the squared norm of a vector's code is written into further columns, to the base
    of ``CODE``, so that one product has all.

    The few vectors that are farther out than the codes reach are compared in float64.

    Returns:
        None where products of integers are not exact, or nearly all vectors are equal.
    """
    count, channels = vectors.shape
    centre = vectors.mean(0)
    ranges = torch.cat([(part - centre).abs().amax(1) for part in vectors.split(SCAN_ROWS)])
    step = float(np.quantile(ranges.numpy(), TAME)) / CODE
    if not (0 < step < np.inf and _integers_are_exact()):
        return None
    centre = centre.double()
    wild = ranges > step * CODE

    def coded(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes ``[P, C]``, their squared norms, and each vector's distance from its code."""
        away = part.double() - centre
        codes = (away / step).round_().clamp_(-CODE, CODE)
        error = torch.linalg.vector_norm(away.sub_(codes, alpha=step), dim=1)
        return codes.to(torch.int8), codes.square_().sum(1), error

    codes, norms, errors = (
        torch.cat(parts) for parts in zip(*map(coded, vectors.split(SCAN_ROWS)), strict=True)
    )
    error = float(errors[~wild].max())
    half = norms.long() // 2
    least = int(half[~wild].min())
    half -= least
    digits = 2 + int(half[~wild].max()) // CODE**2
    # Rows without a vector have the largest norm there is.
    rows = torch.full((_folds(count) * FOLD, channels + digits), CODE, dtype=torch.int8)
    rows[:, :channels] = 0
    rows[:count, :channels] = codes
    rows[:count, channels] = half % CODE
    for digit in range(1, digits):
        rows[:count, channels + digit] = (half // CODE - CODE * (digit - 1)).clamp_(0, CODE)
    rows[:count][wild] = torch.tensor([0] * channels + [CODE] * digits, dtype=torch.int8)

    outer = vectors[wild].double() - centre
    members = np.concatenate([_numbered(count), _numbered(len(outer))])
    members[:count][wild.numpy()] = -1
    members[len(rows) : len(rows) + len(outer)] = wild.nonzero()[:, 0].numpy()

    def tiles(own: Tensor, patches: Tensor, norms: Tensor) -> Iterator[tuple[int, Tensor]]:
        for at in range(0, len(rows), TILE):
            yield at, torch._int_mm(own, rows[at : at + TILE].T)
        if len(outer):
            away = patches.double() - centre
            sizes = away.square().sum(1)[:, None], outer.square().sum(1)
            squared = sizes[0] + sizes[1] - 2 * away @ outer.T
            rounding = (channels + 3) * torch.finfo(torch.float64).eps
            squared -= rounding * (sizes[0].sqrt() + sizes[1].sqrt()).square()
            values = ((squared / step**2 - norms[:, None]) / 2 - least).floor_()
            tile = torch.full((len(own), _folds(len(outer)) * FOLD), LARGEST, dtype=torch.int32)
            tile[:, : len(outer)] = values.clamp_(-LARGEST, LARGEST)
            yield len(rows), tile

    def scan(patches: Tensor) -> _Scan:
        codes, norms, unsure = coded(patches)
        own = torch.full((len(patches), channels + digits), CODE, dtype=torch.int8)
        own[:, :channels] = -codes
        own[:, channels] = 1

        def threshold(distance: Tensor) -> Tensor:
            apart = (distance + unsure + error) / step
            return ((apart.square() - norms) / 2 - least).add_(1).clamp_max_(LARGEST).int()

        return _Scan(tiles(own, patches, norms), members, threshold)

    return scan


def _integers_are_exact() -> bool:
    """Whether torch multiplies matrices of 8 bits here, without overflow on the way."""
    if not hasattr(torch, "_int_mm"):
        return False
    signs = torch.tensor([[1] * 64, [-1] * 64, [1, -1] * 32, [-1, 1] * 32]).repeat(8, 1)
    codes = (CODE * signs).to(torch.int8)
    return torch.equal(torch._int_mm(codes, codes.T).long(), CODE**2 * (signs @ signs.T))


def _squared_norms(vectors: Tensor) -> Tensor:
    return torch.cat([part.double().square_().sum(1).float() for part in vectors.split(SCAN_ROWS)])


def _folds(count: int) -> int:
    return -(-count // FOLD)


def _numbered(count: int) -> np.ndarray:
    """The columns' own numbers, and -1 for those that fill up the last fold."""
    numbers = np.arange(_folds(count) * FOLD)
    numbers[count:] = -1
    return numbers


def checked_search(vectors: Tensor, rough: Rough) -> Search:
    """Search with one in float32, which is asked for more where its error leaves doubt.

    Its error is that of the expanded form of a squared distance, half of whose digits are lost
    near 0. Where it leaves open whether another member belongs among the k, such as one at the
    same distance as the last, more are ranked.
    """

    def search(patches: Tensor, k: int) -> tuple[Tensor, Tensor]:
        near = torch.empty(len(patches), k, dtype=torch.float64)
        rows = torch.empty(len(patches), k, dtype=torch.int64)
        open_rows, width = torch.arange(len(patches)), min(k + SPARE, len(vectors))
        while len(open_rows):
            own = patches[open_rows]
            squared, found = rough(own, width)
            distance = distances(vectors, own, found.numpy())
            near[open_rows], rows[open_rows] = nearest(distance, found.numpy(), k)
            if width == len(vectors):
                break
            last = near[open_rows, k - 1]
            outside = squared[:, -1].double() - search_error(own, last)
            open_rows = open_rows[~(last.square() < outside)]
            width = min(4 * width, len(vectors))
        return near, rows

    return search


def rough_product(vectors: Tensor, device: str) -> Rough:
    """Matrix product and ``topk``."""
    there = vectors.to(device)
    norms = _squared_norms(vectors).to(device)

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


def rough_faiss(vectors: Tensor) -> Rough | None:
    """A flat faiss index, or None where faiss is not installed."""
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


def search_error(patches: Tensor, distance: Tensor) -> Tensor:
    """How far off a squared distance of a search in float32 can be, ``[P]`` float64.

    It is a sum of C products in float32 (Higham 2002, "Accuracy and stability of numerical
    algorithms", section 3.1), for members that are no farther than ``distance``.
    """
    norm = patches.double().square().sum(1).sqrt()
    rounding = (patches.shape[1] + 3) * torch.finfo(torch.float32).eps
    return rounding * (2 * norm + distance).square()
