"""Section 3.2: greedy k-center core set, exact, with the arithmetic in matrix products."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lafite_core.errors import LafiteError

BLOCK = 1024


def greedy_coreset(
    points: Tensor,
    keep: int,
    *,
    seed: int,
    block: int = BLOCK,
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """Indices of ``keep`` points chosen farthest first (Gonzalez 1985).

    The textbook loop updates the distance of every point to the newest centre, once a pick, and
    is bound by memory. Here the ``block`` points farthest from all centres are taken aside; while
    the farthest of them is at least as far as every point outside (whose distances can only
    shrink), it is the next pick, and only distances inside the block are updated. Then one matrix
    product updates all points for all picks of the block. The picks are those of the textbook
    loop up to rounding of ties.

    Args:
        points: ``[N, C]`` float32, on any device; the work is done there.
        keep: number of centres, 1 to N.
        seed: draws the first centre.
        block: points taken aside at a time.
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
    norms = (points.double() ** 2).sum(1)
    first = int(np.random.default_rng(seed).integers(count))
    picks = [first]
    start = torch.tensor([first], device=points.device)
    distance = _squared_distances(points, norms, start).amin(0)
    distance[first] = 0
    while len(picks) < keep:
        aside = torch.topk(distance, block, sorted=True)
        outside = float(aside.values[-1]) if block < count else 0.0
        # Picking inside the block is a chain of tiny steps, which a CPU takes fastest.
        near = aside.values.cpu()
        between = _squared_distances(points[aside.indices], norms[aside.indices], None).cpu()
        fresh: list[int] = []
        while len(picks) + len(fresh) < keep:
            best = int(near.argmax())
            far = float(near[best])
            if far <= 0 or (fresh and far < outside):
                break
            fresh.append(best)
            torch.minimum(near, between[best], out=near)
            near[best] = 0
        if not fresh:
            break
        chosen = aside.indices[fresh]
        picks += chosen.tolist()
        for part in chosen.split(256):
            torch.minimum(distance, _squared_distances(points, norms, part).amin(0), out=distance)
        distance[chosen] = 0
        if advance is not None:
            advance(len(fresh))
    return torch.tensor(picks)


def _squared_distances(points: Tensor, norms: Tensor, centres: Tensor | None) -> Tensor:
    """Squared distances ``[centres, points]`` by one matrix product, never negative.

    Values below the rounding error of the product are 0: there the points are the same.
    """
    rows = slice(None) if centres is None else centres
    product = points[rows] @ points.T
    squared = (norms[rows][:, None] + norms[None, :]).float()
    error = squared * 4e-7
    squared.sub_(product, alpha=2)
    squared[squared < error] = 0
    return squared


def coreset_radius(points: Tensor, picks: Tensor) -> float:
    """Largest distance of any of ``[N, C]`` points to its nearest centre, in float64."""
    centres = points[picks].double()
    farthest = 0.0
    for part in points.split(4096):
        farthest = max(farthest, float(torch.cdist(part.double(), centres).amin(1).max()))
    return farthest
