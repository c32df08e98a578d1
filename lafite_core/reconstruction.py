"""Batches of trajectories through the network, in as many pieces as memory asks for."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from lafite_core.arithmetic import autocast, exact_convolutions
from lafite_core.diffusion import cosine_schedule, denoise
from lafite_core.errors import LafiteError
from lafite_core.model import LafiteModel

AHEAD = 2
"""Results that a GPU may be asked for before the first of them is waited for."""

Told = TypeVar("Told")


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
    while True:
        piece = model.piece or size
        try:
            pieces = [
                _run(model, padded[start : start + piece], piece) for start in range(0, size, piece)
            ]
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces)[:size]
        except torch.OutOfMemoryError:
            smaller = piece // 2
        # Outside the handler, which would keep the tensors of the failed attempt alive.
        if smaller == 0:
            raise LafiteError(
                "The GPU's memory does not hold one trajectory of this model; use --device cpu, or "
                "free memory on the GPU."
            )
        if model.piece is None:
            logging.getLogger(__name__).warning(
                "The GPU's memory does not hold batches of %d; scoring goes on in smaller ones, "
                "with the same result up to rounding.",
                size,
            )
        model.piece = smaller
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


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


def to_host(found: Iterable[tuple[Told, Tensor]], device: str) -> Iterator[tuple[Told, Tensor]]:
    """The same pairs in the same order, tensors on the CPU.

    From a GPU each copy is queued behind its own batch and waited for two batches later, so that
    the GPU never waits for the host between batches.
    """
    if not device.startswith("cuda"):
        yield from found
        return
    waiting: deque[tuple[Told, Tensor, torch.cuda.Event]] = deque()

    def first() -> tuple[Told, Tensor]:
        told, host, copied = waiting.popleft()
        copied.synchronize()
        return told, host

    for told, tensor in found:
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        waiting.append((told, host, copied))
        if len(waiting) > AHEAD:
            yield first()
    while waiting:
        yield first()
