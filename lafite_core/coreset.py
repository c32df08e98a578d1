"""Section 3.2: greedy k-center core set, exact, with the arithmetic in matrix products."""

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lafite_core.device import halving, near
from lafite_core.errors import LafiteError
from lafite_core.parallel import on_each_core, single_threaded

BLOCK = 1024
"""Points taken aside at a time."""
TILE = 512
"""Points and centres of one matrix product on a CPU: product and operands stay in its cache."""
GPU_ROWS = 65536
"""Points of one matrix product on a GPU: with 512 centres 134 MB."""
SPARE = 2
"""How many times its share of the core set each shard picks; see ``sharded_coreset``."""

SHARD = 200_000
"""Points of a shard at most; with 272 channels that is 218 MB."""
OPERATIONS = {"cpu": 1e11, "cuda": 1e13}
"""Multiplications and additions of an exact core set a second, at the slow end of what
``benchmarks/coreset.py`` measures for two cores, and for a GPU."""
HOUR = 3600

Advance = Callable[[int], None]


def greedy_coreset(
    points: Tensor,
    keep: int,
    *,
    seed: int,
    block: int = BLOCK,
    device: str = "cpu",
    advance: Advance | None = None,
) -> Tensor:
    """Indices of ``keep`` points chosen farthest first (Gonzalez 1985).

    The textbook loop updates the distance of every point to the newest centre, once a pick, and
    is bound by memory. Here the ``block`` points farthest from all centres are taken aside; while
    the farthest of them is at least as far as every point outside (whose distances can only
    shrink), it is the next pick, and only distances inside the block are updated. Then matrix
    products update all points for all picks of the block, tile by tile, so that a distance is
    compared with the smallest so far before it leaves the cache. The picks are those of the
    textbook loop up to rounding of ties.

    Fewer operations than that do not pay: on real features the triangle inequality leaves a fifth
    to a half of the distances to compute, and lower bounds from 64 principal components leave one
    in a hundred, scattered over all tiles; ``benchmarks/coreset.py`` measures both.

    Args:
        points: ``[N, C]`` float32 on the CPU.
        keep: number of centres, 1 to N.
        seed: draws the first centre.
        block: points taken aside at a time.
        device: where distances are computed. A GPU that the points do not fit on is fed tile by
            tile, and tiles are halved when its memory runs out.
        advance: called with the number of picks made since the last call.

    Returns:
        ``[keep]`` int64 in the order of picking; the first m are the core set of size m. Fewer
        when there are fewer distinct points: a centre at distance 0 of another adds nothing.

    Raises:
        LafiteError: ``keep`` is out of range.
    """
    count = len(points)
    if not 1 <= keep <= count:
        raise LafiteError(f"A core set of {keep} out of {count} patches is not possible.")
    block = min(block, count)
    first = int(np.random.default_rng(seed).integers(count))
    same = first_equal(points)
    repeated = same != torch.arange(count)
    repeated[same[first]], repeated[first] = True, False  # of equal points the one drawn stands
    distances = _Distances(points, device)
    picks: list[int] = []
    fresh = torch.tensor([first])
    while True:
        picks += fresh.tolist()
        if advance is not None:
            advance(len(fresh))
        distances.update(fresh)
        distances.nearest[fresh.to(device)] = 0
        distances.nearest[repeated.to(device)] = 0
        if len(picks) == keep:
            break
        values, aside = (part.cpu() for part in torch.topk(distances.nearest, block))
        outside = float(values[-1]) if block < count else 0.0
        chosen = _chain(values.numpy(), distances.between(aside), outside, keep - len(picks))
        if not chosen:
            break
        fresh = aside[chosen]
    return torch.tensor(picks)


def _chain(near: np.ndarray, between: np.ndarray, outside: float, most: int) -> list[int]:
    """Farthest-first picks among the points aside, as long as no point outside is farther.

    Args:
        near: ``[B]`` squared distances to the centres so far; overwritten.
        between: ``[B, B]`` squared distances.
        outside: the largest that a point outside can have.
        most: number of picks at most.
    """
    chosen: list[int] = []
    while len(chosen) < most:
        best = int(near.argmax())
        if near[best] <= 0 or (chosen and near[best] < outside):
            break
        chosen.append(best)
        np.minimum(near, between[best], out=near)
        near[best] = 0
    return chosen


class _Distances:
    """Squared distance of every point to its nearest centre so far, ``nearest`` ``[N]``."""

    def __init__(self, points: Tensor, device: str) -> None:
        self.device = device
        self.rows = TILE if device == "cpu" else GPU_ROWS
        self.points = near(points.contiguous(), device)  # else tiles are moved one by one
        with single_threaded():
            norms = [(part.double() ** 2).sum(1).float() for part in points.split(GPU_ROWS)]
        self.norms = torch.cat(norms).to(device)
        self.nearest = torch.full((len(points),), math.inf, device=device)

    def update(self, centres: Tensor) -> None:
        """Take centres (``[P]`` indices) into account."""
        parts = [self._gather(part) for part in centres.split(TILE)]

        def work(rows: slice) -> None:
            own, near = self.points[rows].to(self.device), self.nearest[rows]
            for part in parts:
                found = _partial(own, *part).amin(1).add_(self.norms[rows]).clamp_min_(0)
                torch.minimum(near, found, out=near)

        self._each_tile(work, len(self.points))

    def between(self, aside: Tensor) -> np.ndarray:
        """Squared distances ``[B, B]`` among some points, on the CPU: picking is a chain of tiny
        steps, which a CPU takes fastest.
        """
        points, norms = self._gather(aside)
        found = torch.empty(len(aside), len(aside), device=self.device)

        def work(rows: slice) -> None:
            full = _partial(points[rows], points, norms).add_(norms[rows, None])
            found[rows] = full.clamp_min_(0)

        self._each_tile(work, len(aside))
        return found.cpu().numpy()

    def _gather(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        there = self.points[chosen.to(self.points.device)].to(self.device)
        return there, self.norms[chosen.to(self.device)]

    def _each_tile(self, work: Callable[[slice], None], count: int) -> None:
        """Run ``work`` on slices of ``count`` rows; on smaller ones when memory runs out.

        Work that is done twice has the same result: minima only get smaller.
        """

        def on_tiles(rows: int) -> None:
            tiles = [slice(at, min(at + rows, count)) for at in range(0, count, rows)]
            deque(on_each_core(work, tiles, device=self.device), maxlen=0)
            self.rows = rows

        halving(on_tiles, self.rows)


def _partial(points: Tensor, centres: Tensor, norms: Tensor) -> Tensor:
    """Squared distances ``[A, B]`` of ``[A, C]`` to ``[B, C]``, less the squared norm of the point.

    A point's own norm is the same for all centres, and is added to the smallest alone.
    """
    return torch.addmm(norms[None, :], points, centres.T, alpha=-2)


def first_equal(points: Tensor) -> Tensor:
    """For every row of ``[N, C]`` float32 the first row that is equal to it, ``[N]`` int64."""
    known: dict[bytes, int] = {}
    same: list[int] = []
    for part in points.split(GPU_ROWS):
        for row in (part + 0.0).numpy():  # adding 0 makes the two zeros one
            digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            same.append(known.setdefault(digest, len(same)))
    return torch.tensor(same)


def shards_needed(count: int, keep: int, channels: int, device: str) -> int:
    """How many shards a core set is picked from; 1 is all points at once, the exact core set.

    It is exact unless the points take more than half of the machine's memory, or picking would take
    more than an hour: ``2 count keep channels`` operations, at ``OPERATIONS`` a second. With a
    tenth of the points kept, and 272 channels, that is 2.5 million points on a CPU.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    seconds = 2 * count * keep * channels / OPERATIONS[torch.device(device).type]
    if 4 * count * channels <= memory / 2 and seconds <= HOUR:
        return 1
    return math.ceil(count / SHARD)


def sharded_coreset(
    shards: Sequence[Callable[[], tuple[Tensor, Tensor]]],
    count: int,
    keep: int,
    *,
    seed: int,
    device: str = "cpu",
    advance: Advance | None = None,
) -> tuple[Tensor, Tensor]:
    """A core set of points that do not fit into memory at once: greedy per shard, then over all
    that the shards picked.

    Every shard picks ``SPARE`` times its share of the core set, greedily, and the core set is
    picked greedily among those. By the triangle inequality the radius is at most that of the
    worst shard plus that of the second pass, and the latter is at most twice the best possible
    radius with ``keep`` centres (Gonzalez 1985). A shard that could pick all ``keep`` centres
    would itself stay within twice the best, and the whole within four times (Malkomes et al.
    2015, "Fast distributed k-center clustering with outliers on massive data", NIPS); its share
    is what memory allows, so that the first part of the bound is known only once it is measured.
    In memory are one shard, and ``SPARE * keep`` points.

    Args:
        shards: each returns its points ``[n, C]`` float32 and their numbers ``[n]`` int64.
            They should be alike, such as every tenth image each: a shard of one kind of image
            would pick more of it than there is need for.
        count: points in all shards.
        keep: number of centres, 1 to ``count``.
        advance: called with the number of picks made since the last call, ``sharded_picks``
            in all if the points are distinct.

    Returns:
        The vectors ``[keep, C]`` and numbers ``[keep]`` of the core set, in the order of picking.

    Raises:
        LafiteError: ``keep`` is out of range.
    """
    if not 1 <= keep <= count:
        raise LafiteError(f"A core set of {keep} out of {count} patches is not possible.")
    options: dict[str, Any] = {"seed": seed, "device": device, "advance": advance}
    vectors, numbers = [], []
    for shard in shards:
        points, own = shard()
        picks = greedy_coreset(points, _share(len(points), count, keep), **options)
        vectors.append(points[picks])
        numbers.append(own[picks])
    union, own = torch.cat(vectors), torch.cat(numbers)
    vectors.clear()
    picks = greedy_coreset(union, min(keep, len(union)), **options)
    return union[picks], own[picks]


def sharded_picks(sizes: Sequence[int], keep: int) -> int:
    """Picks that ``sharded_coreset`` makes in both passes on shards of these sizes, at most."""
    return sum(_share(size, sum(sizes), keep) for size in sizes) + keep


def _share(size: int, count: int, keep: int) -> int:
    return min(size, math.ceil(SPARE * keep * size / count))
