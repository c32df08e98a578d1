"""Scoring a whole grid of (t, K) at once, and explaining images."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lafite_core.bank import Neighbours
from lafite_core.device import autocast, exact_convolutions, halving
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
from lafite_core.parallel import on_each_core, single_threaded

LOG = logging.getLogger(__name__)


def lafite_errors(
    model: LafiteModel, images: Sequence[np.ndarray], configs: Sequence[tuple[int, int]], seed: int
) -> np.ndarray:
    """Error grids of LafitE for every configuration and image.

    Features, neighbours (searched once, at the largest K), edited maps and noise of an image are
    shared by its configurations; trajectories of different t and K share network calls. Every
    call has the same shape, the last one padded, so that a value does not depend on its company.
    On a CPU images, and then network calls, are worked on side by side with one thread each, so
    that it does not depend on the number of cores either.

    Args:
        images: uint8 RGB ``[H, W, 3]`` each; their features are in memory together.
        configs: pairs (t, K); K = 0 is LafitE without feature editing.
        seed: of the noise; see ``image_noise``.

    Returns:
        ``[configs, images, grid, grid]`` float32: L2 distance between the original features and
        the reconstruction.

    Raises:
        LafiteError: the model has no diffusion network, or t or K is out of range.
    """
    _require_network(model)
    grid = model.config.features.grid
    errors = np.empty((len(configs), len(images), grid, grid), dtype=np.float32)
    prepared = _prepared(model, images, {k for _, k in configs}, seed)

    def batch_errors(batch: list[Trajectory]) -> tuple[list[tuple[int, int]], Tensor]:
        cells, _, found = _batch_maps(model, batch)
        return cells, found

    batches = _batches(model, prepared, configs)
    # Waited for only when a GPU has been given all batches, so that it never waits in between.
    found = list(on_each_core(batch_errors, batches, device=model.device))
    for cells, grids in found:
        for cell, grid_errors in zip(cells, grids.cpu().numpy(), strict=False):  # padding is last
            errors[cell] = grid_errors
    return errors


def knn_errors(model: LafiteModel, images: Sequence[np.ndarray], ks: Sequence[int]) -> np.ndarray:
    """Mean distance of each patch to its K nearest bank members.

    Returns:
        ``[ks, images, grid, grid]`` float32, in units of standardised features.
    """

    maps = list(on_each_core(model.features, images, device=model.device))
    grid = model.config.features.grid
    errors = np.empty((len(ks), len(images), grid, grid), dtype=np.float32)
    for column, neighbours in enumerate(_neighbours(model, maps, max(ks))):
        sums = neighbours.distance.double().cumsum(1)
        means = torch.stack([sums[:, k - 1] / k for k in ks])  # [ks, grid * grid]
        errors[:, column] = means.reshape(len(ks), grid, grid).numpy()
    return errors


def scores(model: LafiteModel, errors: np.ndarray) -> np.ndarray:
    """Error grids ``[configs, images, h, w]`` to image scores ``[configs, images]`` float64."""
    score = partial(image_scores, size=model.config.features.image_size, config=model.config.score)
    return torch.stack(list(on_each_core(score, torch.from_numpy(errors)))).numpy()


def anomaly_maps(model: LafiteModel, errors: np.ndarray) -> np.ndarray:
    """Error grids ``[B, h, w]`` to anomaly maps ``[B, image_size, image_size]`` float32."""
    side = model.config.features.image_size
    with single_threaded():
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


def explain(
    model: LafiteModel,
    images: Sequence[np.ndarray],
    t: int,
    k: int,
    seed: int,
    *,
    noised_t: int,
) -> list[Explanation]:
    """What LafitE does with each image at (t, K), and what step ``noised_t`` leaves of it.

    Trajectories share batches and are spread over the cores as in ``lafite_errors``, and as there
    what is found of an image does not depend on the others.

    Raises:
        LafiteError: as ``lafite_errors``.
    """
    _require_network(model)
    prepared = _prepared(model, images, {0, k}, seed)
    batches = _batches(model, prepared, list(dict.fromkeys([(t, 0), (t, k)])))
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    run = partial(_batch_maps, model)
    for cells, maps, errors in on_each_core(run, batches, device=model.device):
        found |= dict(zip(cells, zip(maps.cpu(), errors.cpu(), strict=True), strict=False))
    alpha_bar = cosine_schedule(model.config.diffusion)[noised_t : noised_t + 1]
    explanations = []
    for column, image in enumerate(prepared):
        (_, plain), (clean, edited) = found[0, column], found[int(k > 0), column]
        with torch.inference_mode():
            noised = add_noise(image.features[None], image.noise[:1], alpha_bar)[0]
        explanations.append(
            Explanation(
                plain=plain.numpy(),
                edited=edited.numpy(),
                features=image.features.cpu().numpy(),
                noised=noised.cpu().numpy(),
                reconstruction=clean.numpy(),
            )
        )
    return explanations


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What all trajectories of an image share, on the model's device.

    Attributes:
        features: ``[C, grid, grid]``, standardised.
        noise: ``[noise_draws, C, grid, grid]``.
        starts: the edited feature map by K; K = 0 is the features themselves.
    """

    features: Tensor
    noise: Tensor
    starts: dict[int, Tensor]


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


def _prepared(
    model: LafiteModel, images: Sequence[np.ndarray], ks: set[int], seed: int
) -> list[Prepared]:
    """Features, noise and edited feature maps of every image."""
    maps = list(on_each_core(model.features, images, device=model.device))
    deepest = max(ks, default=0)
    neighbours = _neighbours(model, maps, deepest) if deepest > 0 else [None] * len(maps)

    @torch.inference_mode()
    def prepare(one: tuple[np.ndarray, Tensor, Neighbours | None]) -> Prepared:
        image, features, near = one
        noise = image_noise((noise_draws(model.config.diffusion), *features.shape), image, seed)
        starts = {0: features}
        if near is not None:
            for k in sorted(ks - {0}):
                edited = model.bank.edit(near.first(k), model.config.edit)
                starts[k] = edited.T.reshape(features.shape)
        there = {k: start.to(model.device) for k, start in starts.items()}
        return Prepared(features=there[0], noise=noise.to(model.device), starts=there)

    parts = zip(images, maps, neighbours, strict=True)
    return list(on_each_core(prepare, parts, device=model.device))


def _neighbours(model: LafiteModel, maps: Sequence[Tensor], k: int) -> list[Neighbours]:
    """The k nearest bank members of each map's patches, searched for all maps together."""
    found = model.bank.search(patches(torch.stack(list(maps))), k)
    cells = model.config.features.grid**2
    pairs = zip(found.index.split(cells), found.distance.split(cells), strict=True)
    return [Neighbours(index=index, distance=distance) for index, distance in pairs]


def _batches(
    model: LafiteModel, prepared: Sequence[Prepared], configs: Sequence[tuple[int, int]]
) -> list[list[Trajectory]]:
    """The trajectories of all images and configurations, in batches of one size but the last."""
    jobs = [
        Trajectory(
            start=image.starts[k],
            noise=image.noise,
            target=image.features,
            t=t,
            cell=(row, column),
        )
        for column, image in enumerate(prepared)
        for row, (t, k) in enumerate(configs)
    ]
    size = model.config.score.batch_size
    return [jobs[first : first + size] for first in range(0, len(jobs), size)]


@torch.inference_mode()
def _batch_maps(
    model: LafiteModel, batch: list[Trajectory]
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:
    """The cells of a batch, its reconstructions and its error grids.

    The latter two are padded to the batch size, and on the device.
    """
    found = _reconstruct(model, batch)
    targets = [job.target for job in batch]
    targets += targets[-1:] * (len(found) - len(batch))
    errors = error_map(torch.stack(targets), found)
    return [job.cell for job in batch], found, errors


@torch.inference_mode()
def _reconstruct(model: LafiteModel, batch: list[Trajectory]) -> Tensor:
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


def _require_network(model: LafiteModel) -> None:
    if model.unet is None:
        raise LafiteError("This model has no diffusion network; train it with --detector lafite.")
