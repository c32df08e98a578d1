"""Batches of trajectories through the network, in as many pieces as memory asks for."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from lafite_core.arithmetic import autocast, exact_convolutions
from lafite_core.diffusion import cosine_schedule, denoise
from lafite_core.errors import LafiteError
from lafite_core.memory import halving
from lafite_core.model import LafiteModel

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One (image, configuration): where it starts, and which cell of the result it fills.

    Tensors are on the model's device; ``start`` and ``target`` are ``[C, grid, grid]``, ``noise``
    is ``[noise_draws, C, grid, grid]``.
    """

    start: Tensor
    noise: Tensor
    target: Tensor
    t: int
    cell: tuple[int, int]


@torch.inference_mode()
def reconstruct(model: LafiteModel, batch: list[Trajectory]) -> Tensor:
    """``[batch_size, C, grid, grid]`` on the device, the batch padded with its last trajectory.

    Where a GPU's memory does not hold the batch, it is taken in smaller pieces, of one size for
    the rest of the model's life: the result is the same up to rounding.

    Raises:
        LafiteError: not even one trajectory fits.
    """
    size = model.config.score.batch_size
    padded = batch + [batch[-1]] * (size - len(batch))

    def in_pieces(piece: int) -> Tensor:
        parts = [_run(model, padded[at : at + piece], piece) for at in range(0, size, piece)]
        return torch.cat(parts)[:size]

    def halved(before: int, after: int) -> None:
        if model.piece is None:
            LOG.warning(
                "The GPU's memory does not hold batches of %d; scoring goes on in smaller ones, "
                "with the same result up to rounding.",
                before,
            )
        model.piece = after

    try:
        return halving(in_pieces, model.piece or size, halved=halved)
    except torch.OutOfMemoryError:
        raise LafiteError(
            "The GPU's memory does not hold one trajectory of this model; use --device cpu, or "
            "free memory on the GPU."
        ) from None


def _run(model: LafiteModel, jobs: list[Trajectory], size: int) -> Tensor:
    """One run of the sampler over ``size`` trajectories, of which ``jobs`` are the first."""
    unet, precision = model.unet, model.config.score.precision
    assert unet is not None  # checked before anything is prepared

    def network(x: Tensor, t: Tensor) -> Tensor:
        with autocast(precision, model.device), exact_convolutions(model.device):
            return unet(x, t).float()

    padded = jobs + [jobs[-1]] * (size - len(jobs))
    return denoise(
        [job.start for job in padded],
        [job.noise for job in padded],
        [job.t for job in padded],
        network,
        cosine_schedule(model.config.diffusion),
        model.config.diffusion,
    )
