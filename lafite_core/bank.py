"""Section 3.2: the memory bank, its nearest neighbours, and feature editing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lafite_core.config import EditConfig
from lafite_core.coreset import first_equal, greedy_coreset
from lafite_core.device import halving, near
from lafite_core.errors import LafiteError
from lafite_core.nearest import ROWS, SPARE, Search, checked_search, fast_search, ranked


def kept(count: int, config: EditConfig) -> int:
    """How many of ``count`` patches the core set has."""
    return max(1, round(config.keep_rate * count))


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest core-set members of each patch of one image, nearest first.

    Attributes:
        index: ``[patches, K]`` int64 rows of the bank.
        distance: ``[patches, K]`` float32 Euclidean distances.
        sure: a bool without dimensions; False where a search on a GPU looked at too few members to
            know, and is to be repeated with more to spare. On a CPU it does that by itself.
    """

    index: Tensor
    distance: Tensor
    sure: Tensor

    def first(self, k: int) -> "Neighbours":
        """The nearest k of them."""
        return replace(self, index=self.index[:, :k], distance=self.distance[:, :k])

    def rows(self, part: slice) -> "Neighbours":
        """Those of some of the patches."""
        return replace(self, index=self.index[part], distance=self.distance[part])


class MemoryBank:
    """Standardised normal patch features ``[M, C]``, cut to a core set, on the CPU.

    Args:
        device: where neighbours are searched and mixed (``cpu``, ``cuda``, ``cuda:1``).
    """

    def __init__(self, vectors: Tensor, device: str = "cpu") -> None:
        self.vectors = vectors.contiguous()
        self.device = device
        self._rows = ROWS

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

    def search(self, patches: Tensor, k: int, spare: int = SPARE) -> Neighbours:
        """The k nearest members of each of ``[P, C]`` patches, as float64 brute force finds them.

        Many patches at once are searched fastest; what is found of one does not depend on the
        others. Of members at equal distances the earlier row of the bank comes first, so that those
        found for a smaller k are a prefix of those for a larger one.

        On a GPU the patches are there, and so is what is found; nothing waits for it. Patches are
        searched ``ROWS`` at a time, or fewer where memory does not hold that.

        Args:
            spare: members beyond the k that are looked at on a GPU; see ``Neighbours.sure``.

        Raises:
            LafiteError: k is larger than the bank.
        """
        if not 1 <= k <= len(self):
            raise LafiteError(
                f"K = {k} neighbours were asked of a memory bank of {len(self)} patches; "
                f"use K between 1 and {len(self)}."
            )
        if self.device == "cpu":
            distance, index = checked_search(self.vectors, self._fast_search, patches, k)
            return Neighbours(index=index, distance=distance.float(), sure=torch.tensor(True))
        width = min(k + spare, len(self))

        def in_parts(rows: int) -> Neighbours:
            parts = [
                ranked(self._there, self._fast_search, part, k, width)
                for part in patches.split(rows)
            ]
            distance, index, sure = (torch.cat(found) for found in zip(*parts, strict=True))
            return Neighbours(index=index, distance=distance.float(), sure=sure.all())

        return halving(in_parts, min(self._rows, len(patches)), halved=self._take_fewer)

    def _take_fewer(self, before: int, after: int) -> None:
        self._rows = after

    @cached_property
    def _there(self) -> Tensor:
        """The vectors on the device, unless they would take more than half of its free memory."""
        return near(self.vectors, self.device)

    @cached_property
    def _fast_search(self) -> Search:
        return fast_search(self._there, self.device)

    def edit(self, neighbours: Neighbours, config: EditConfig) -> Tensor:
        """Feature editing: each patch becomes a weighted mean of its neighbours, ``[P, C]``."""
        weights = neighbour_weights(neighbours.distance, config)
        place = self._there.device
        edited = torch.nn.functional.embedding_bag(
            neighbours.index.to(place),
            self._there,
            per_sample_weights=weights.to(place),
            mode="sum",
        )
        return edited.to(weights.device)


def nearest_others(
    bank: MemoryBank, patches: Tensor, k: int, spare: int = SPARE
) -> tuple[MemoryBank, Neighbours]:
    """The k nearest members of a bank that are not among ``[P, C]`` patches of a training image.

    Returns:
        The bank without the image's own patches, and the neighbours in it: as many as it has, where
        it has fewer than k.

    Raises:
        LafiteError: all members are patches of this image.
    """
    nearest = bank.search(patches, 1, spare)
    own = nearest.index[nearest.distance == 0].cpu()
    others = torch.ones(len(bank), dtype=torch.bool)
    others[own] = False
    if not others.any():
        raise LafiteError("The memory bank is of a single image; nothing else can edit it.")
    rest = MemoryBank(bank.vectors[others], bank.device)
    near = rest.search(patches, min(k, len(rest)), spare)
    return rest, replace(near, sure=near.sure & nearest.sure)


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
