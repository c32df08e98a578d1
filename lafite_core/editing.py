"""Section 3.2 for whole images: feature maps edited for several K at once."""

import torch
from torch import Tensor

from lafite_core.bank import MemoryBank, Neighbours, nearest_others
from lafite_core.features import patches
from lafite_core.model import LafiteModel
from lafite_core.parallel import on_each_core


def edited_maps(
    model: LafiteModel, maps: Tensor, ks: set[int], spare: int
) -> tuple[list[dict[int, Tensor]], Tensor]:
    """The edited feature maps ``[C, h, w]`` of every image by K; K = 0 are the features themselves.

    Args:
        maps: features ``[B, C, h, w]``, whose neighbours are searched once, at the largest K.

    Returns:
        These, and whether ``spare`` members were enough; see ``Neighbours.sure``.
    """
    deepest, cells = max(ks, default=0), maps.shape[2] * maps.shape[3]
    near = model.bank.search(patches(maps), deepest, spare) if deepest > 0 else None

    def edit(number: int) -> dict[int, Tensor]:
        rows = slice(number * cells, (number + 1) * cells)
        own = None if near is None else near.rows(rows)
        return _edited(model, model.bank, maps[number], own, ks)

    found = list(on_each_core(edit, range(len(maps)), device=model.device))
    return found, near.sure if near is not None else torch.ones((), device=model.device)


def edited_normals(
    model: LafiteModel, maps: Tensor, ks: set[int], spare: int
) -> tuple[list[dict[int, Tensor]], Tensor]:
    """``edited_maps`` of training images, each edited by the bank without its own patches."""
    found, sure = [], torch.ones((), dtype=torch.bool, device=model.device)
    for own_map in maps:
        bank, near = model.bank, None
        if max(ks, default=0) > 0:
            bank, near = nearest_others(model.bank, patches(own_map[None]), max(ks), spare)
            sure = sure & near.sure
        found.append(_edited(model, bank, own_map, near, ks))
    return found, sure


@torch.inference_mode()
def _edited(
    model: LafiteModel,
    bank: MemoryBank,
    features: Tensor,
    near: Neighbours | None,
    ks: set[int],
) -> dict[int, Tensor]:
    """The features of an image edited for every K, given the nearest members of a bank."""
    starts = {0: features}
    for k in sorted(ks - {0}):
        assert near is not None
        edited = bank.edit(near.first(k), model.config.edit)
        starts[k] = edited.T.reshape(features.shape)
    return starts
