"""Scoring several K at once with UniAD: what it makes of features, plain and edited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lafite_core.editing import edited_maps, edited_normals
from lafite_core.errors import LafiteError
from lafite_core.maps import error_map
from lafite_core.model import LafiteModel
from lafite_core.sweep import errors_of_jobs, in_one_shape
from lafite_core.uniad import Uniad


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One (image, K): what the network gets, and what its answer is compared with.

    Attributes:
        given: the edited features ``[C, grid, grid]``.
        features: the image's own.
    """

    given: Tensor
    features: Tensor


def uniad_errors(model: LafiteModel, images: Sequence[np.ndarray], ks: Sequence[int]) -> np.ndarray:
    """Error grids of UniAD for every K and image.

    Features and neighbours of an image are shared by its K. Calls have one shape and are worked on
    as in ``lafite_errors``, so that a value depends neither on its company nor on the cores.

    Args:
        images: uint8 RGB ``[H, W, 3]`` each; their features are in memory together.
        ks: neighbours mixed into the tokens that are reconstructed; 0 leaves these as they are.

    Returns:
        ``[ks, images, grid, grid]`` float32: L2 distance between the original features and the
        reconstruction.

    Raises:
        LafiteError: the model has another network or none, or K is out of range.
    """

    def edited(spare: int) -> Edited:
        maps = model.features(images)
        return maps, *edited_maps(model, maps, set(ks), spare)

    return _errors(model, edited, ks)


def uniad_normal_errors(model: LafiteModel, features: Tensor, ks: Sequence[int]) -> np.ndarray:
    """What ``uniad_errors`` is of images that the model was trained with, edited by the others.

    Args:
        features: of some training images, before standardisation: ``[N, C, grid, grid]``.
        ks: as in ``uniad_errors``; of a bank that K is too large for, all others are mixed.

    Returns:
        ``[ks, N, grid, grid]`` float32.
    """

    def edited(spare: int) -> Edited:
        maps = model.standardised(features)
        return maps, *edited_normals(model, maps, set(ks), spare)

    return _errors(model, edited, ks)


Edited = tuple[Tensor, list[dict[int, Tensor]], Tensor]
"""Features ``[B, C, h, w]``, what is made of each by K, and whether enough members were seen."""


def _errors(model: LafiteModel, edited: Callable[[int], Edited], ks: Sequence[int]) -> np.ndarray:
    """Error grids ``[ks, images, grid, grid]`` of some images.

    Args:
        edited: given how many members of a bank to look at beyond the nearest ones.
    """
    if not isinstance(model.network, Uniad):
        raise LafiteError("This model has no network of UniAD; train it with --detector uniad.")

    def jobs(spare: int) -> tuple[list[Pass], Tensor]:
        maps, starts, sure = edited(spare)
        passes = [
            Pass(given=by_k[k], features=features)
            for features, by_k in zip(maps, starts, strict=True)
            for k in ks
        ]
        return passes, sure

    one_run = partial(in_one_shape, model, partial(_run, model))
    return errors_of_jobs(model, jobs, one_run, len(ks))


@torch.inference_mode()
def _run(model: LafiteModel, passes: list[Pass]) -> tuple[Tensor, Tensor]:
    """One call of the network: reconstructions and error grids."""
    assert model.predictor is not None
    found = model.predictor(model.config.score, torch.stack([one.given for one in passes]))
    return found, error_map(torch.stack([one.features for one in passes]), found)
