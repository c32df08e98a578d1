"""Scoring a whole grid of (t, K) at once, and explaining one image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lafite_core.arithmetic import autocast, exact_convolutions
from lafite_core.diffusion import (
    add_noise,
    cosine_schedule,
    denoise,
    image_noise,
    noise_draws,
)
from lafite_core.errors import LafiteError
from lafite_core.features import patches
from lafite_core.maps import error_map, image_scores, render
from lafite_core.model import LafiteModel


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One (image, configuration): where it starts, and which cell of the result it fills."""

    start: Tensor
    noise: Tensor
    target: Tensor
    t: int
    cell: tuple[int, int]


def lafite_errors(
    model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[tuple[int, int]], seed: int
) -> np.ndarray:
    """Error grids of LafitE for every configuration and image.

    Features, neighbours (searched once, at the largest K), edited maps and noise of an image are
    shared by its configurations; trajectories of different t and K share network calls. Every
    call has the same shape, the last one padded, so that a value does not depend on its company.

    Args:
        images: uint8 RGB ``[H, W, 3]`` each.
        configs: pairs (t, K); K = 0 is LafitE without feature editing.
        seed: of the noise; see ``image_noise``.

    Returns:
        ``[configs, images, grid, grid]`` float32: L2 distance between the original features and
        the reconstruction.

    Raises:
        LafiteError: the model has no diffusion network, or t or K is out of range.
    """
    if model.unet is None:
        raise LafiteError("This model has no diffusion network; train it with --detector lafite.")
    grid = model.config.features.grid
    errors = np.empty((len(configs), len(images), grid, grid), dtype=np.float32)
    for batch in _batches(_trajectories(model, images, configs, seed), model):
        reconstruction = _reconstruct(model, batch)
        found = error_map(torch.stack([job.target for job in batch]), reconstruction)
        for job, grid_errors in zip(batch, found.numpy(), strict=True):
            errors[job.cell] = grid_errors
    return errors


def knn_errors(model: LafiteModel, images: Sequence[np.ndarray], ks: Sequence[int]) -> np.ndarray:
    """Mean distance of each patch to its K nearest bank members.

    Returns:
        ``[ks, images, grid, grid]`` float32, in units of standardised features.
    """
    grid = model.config.features.grid
    errors = np.empty((len(ks), len(images), grid, grid), dtype=np.float32)
    for column, image in enumerate(images):
        neighbours = model.bank.search(patches(model.features(image)[None]), max(ks))
        means = neighbours.distance.double().cumsum(1)
        for row, k in enumerate(ks):
            errors[row, column] = (means[:, k - 1] / k).reshape(grid, grid).numpy()
    return errors


def scores(model: LafiteModel, errors: np.ndarray) -> np.ndarray:
    """Error grids ``[configs, images, h, w]`` to image scores ``[configs, images]`` float64."""
    flat = torch.from_numpy(errors.reshape(-1, *errors.shape[2:]))
    found = image_scores(flat, model.config.features.image_size, model.config.score)
    return found.reshape(errors.shape[:2]).numpy()


def anomaly_maps(model: LafiteModel, errors: np.ndarray) -> np.ndarray:
    """Error grids ``[B, h, w]`` to anomaly maps ``[B, image_size, image_size]`` float32."""
    side = model.config.features.image_size
    return render(torch.from_numpy(errors), side, model.config.score.sigma).numpy()


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One image seen from inside; all arrays float32, features standardised.

    Attributes:
        plain: error grid without feature editing, ``[grid, grid]``.
        edited: error grid with it; the same as ``plain`` for K = 0.
        features: feature map ``[C, grid, grid]``: step 0 of the diffusion.
        noised: the features at step ``noised_t``, before any denoising.
        reconstruction: of the edited features, denoised from step t.
    """

    plain: np.ndarray
    edited: np.ndarray
    features: np.ndarray
    noised: np.ndarray
    reconstruction: np.ndarray


@torch.inference_mode()
def explain(
    model: LafiteModel, image: np.ndarray, t: int, k: int, seed: int, *, noised_t: int
) -> Explanation:
    """What LafitE does with one image at (t, K), and what step ``noised_t`` leaves of it.

    Raises:
        LafiteError: as ``lafite_errors``.
    """
    jobs = list(_trajectories(model, [image], [(t, 0), (t, k)], seed))
    found = [_reconstruct(model, batch) for batch in _batches(iter(jobs), model)]
    features, reconstructions = jobs[0].target, torch.cat(found)
    errors = error_map(features[None].expand_as(reconstructions), reconstructions)
    alpha_bar = cosine_schedule(model.config.diffusion)[noised_t : noised_t + 1]
    return Explanation(
        plain=errors[0].numpy(),
        edited=errors[1].numpy(),
        features=features.numpy(),
        noised=add_noise(features[None], jobs[0].noise[:1], alpha_bar)[0].numpy(),
        reconstruction=reconstructions[1].numpy(),
    )


def _trajectories(
    model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[tuple[int, int]], seed: int
) -> Iterator[Trajectory]:
    depth = max((k for _, k in configs), default=0)
    for column, image in enumerate(images):
        features = model.features(image)
        draws = noise_draws(model.config.diffusion)
        noise = image_noise((draws, *features.shape), image, seed)
        starts = {0: features}
        if depth:
            neighbours = model.bank.search(patches(features[None]), depth)
            for k in {k for _, k in configs if k}:
                edited = model.bank.edit(neighbours.first(k), model.config.edit)
                starts[k] = edited.T.reshape(features.shape)
        for row, (t, k) in enumerate(configs):
            yield Trajectory(start=starts[k], noise=noise, target=features, t=t, cell=(row, column))


def _batches(jobs: Iterator[Trajectory], model: LafiteModel) -> Iterator[list[Trajectory]]:
    batch: list[Trajectory] = []
    for job in jobs:
        batch.append(job)
        if len(batch) == model.config.score.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _reconstruct(model: LafiteModel, batch: list[Trajectory]) -> Tensor:
    """``[len(batch), C, grid, grid]`` on the CPU from one padded run of the sampler."""
    if model.unet is None:
        raise LafiteError("This model has no diffusion network; train it with --detector lafite.")
    unet, precision = model.unet, model.config.score.precision

    def network(x: Tensor, t: Tensor) -> Tensor:
        with autocast(precision, model.device), exact_convolutions(model.device):
            return unet(x, t).float()

    padded = batch + [batch[-1]] * (model.config.score.batch_size - len(batch))
    out = denoise(
        torch.stack([job.start for job in padded]).to(model.device),
        torch.stack([job.noise for job in padded]).to(model.device),
        [job.t for job in padded],
        network,
        cosine_schedule(model.config.diffusion),
        model.config.diffusion,
    )
    return out[: len(batch)].cpu()
