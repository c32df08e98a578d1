"""Scoring a whole grid of (t, K) at once, and explaining images."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lafite_core.bank import nearest_others
from lafite_core.device import halving, to_device
from lafite_core.diffusion import (
    add_noise,
    cosine_schedule,
    denoise,
    image_noise,
    noise_draws,
)
from lafite_core.editing import edited_maps, edited_normals
from lafite_core.errors import LafiteError
from lafite_core.features import patches
from lafite_core.maps import error_map, image_scores, render
from lafite_core.model import LafiteModel
from lafite_core.nearest import SPARE
from lafite_core.parallel import on_each_core, single_threaded
from lafite_core.uniad import Uniad

LOG = logging.getLogger(__name__)
Job = TypeVar("Job")


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
    ks = {k for _, k in configs}
    return _errors(model, partial(_prepared, model, images, ks, seed), configs)


def lafite_normal_errors(
    model: LafiteModel, features: Tensor, configs: Sequence[tuple[int, int]]
) -> np.ndarray:
    """What ``lafite_errors`` is of images that the model was trained with, edited by the others.

    An image's own patches in the memory bank are left out: edited by themselves, its features would
    come closer to the original than those of an image that the bank does not know.

    Args:
        features: of some training images, before standardisation: ``[N, C, grid, grid]``.
        configs: as in ``lafite_errors``; of a bank that K is too large for, all others are mixed.

    Returns:
        ``[configs, N, grid, grid]`` float32. The noise is that of the model's seed and of the
        features.
    """
    ks = {k for _, k in configs}
    return _errors(model, partial(_prepared_normals, model, features, ks), configs)


Prepare = Callable[[int], tuple[list["Prepared"], Tensor]]
"""What ``_prepared`` gives, from how many members of a bank to look at beyond the nearest ones."""


def _errors(model: LafiteModel, prepare: Prepare, configs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Error grids ``[configs, images, grid, grid]`` of some images."""

    def jobs(spare: int) -> tuple[list[Trajectory], Tensor]:
        prepared, sure = prepare(spare)
        return _trajectories(prepared, configs), sure

    return errors_of_jobs(model, jobs, partial(_reconstruct, model), len(configs))


def errors_of_jobs(
    model: LafiteModel,
    jobs: Callable[[int], tuple[list[Job], Tensor]],
    reconstruct: Callable[[list[Job]], tuple[Tensor, Tensor]],
    configs: int,
) -> np.ndarray:
    """Error grids ``[configs, images, grid, grid]`` float32 of some work, in batches of one size.

    Args:
        jobs: from how many members of a bank to look at beyond the nearest ones to a job for each
            image and configuration, image by image, and whether these were enough.
        reconstruct: gives reconstructions and error grids ``[B, grid, grid]`` of a batch.
        configs: how many there are of an image.
    """

    def work(spare: int) -> tuple[Tensor, Tensor]:
        whole, sure = jobs(spare)
        found = on_each_core(reconstruct, batches_of(model, whole), device=model.device)
        return torch.cat([errors for _, errors in found]), sure

    errors = settled(work)  # [images * configs, grid, grid]
    found = errors.reshape(-1, configs, *errors.shape[1:]).transpose(0, 1)
    return found.contiguous().numpy()


def batches_of(model: LafiteModel, jobs: list[Job]) -> list[list[Job]]:
    """Jobs in batches of one size but the last."""
    size = model.config.score.batch_size
    return [jobs[first : first + size] for first in range(0, len(jobs), size)]


def knn_errors(model: LafiteModel, images: Sequence[np.ndarray], ks: Sequence[int]) -> np.ndarray:
    """Mean distance of each patch to its K nearest bank members.

    Returns:
        ``[ks, images, grid, grid]`` float32, in units of standardised features.
    """

    def work(spare: int) -> tuple[Tensor, Tensor]:
        near = model.bank.search(patches(model.features(images)), max(ks), spare)
        sums = near.distance.double().cumsum(1)
        return torch.stack([(sums[:, k - 1] / k).float() for k in ks]), near.sure

    grid = model.config.features.grid
    return settled(work).reshape(len(ks), len(images), grid, grid).numpy()


def knn_normal_errors(model: LafiteModel, features: Tensor, ks: Sequence[int]) -> np.ndarray:
    """What ``knn_errors`` is of images that the model was trained with, compared with the others.

    Args:
        features: of some training images, before standardisation: ``[N, C, grid, grid]``.

    Returns:
        ``[ks, N, grid, grid]`` float32.
    """
    maps = model.standardised(features)

    def work(spare: int) -> tuple[Tensor, Tensor]:
        found, sure = [], torch.ones((), dtype=torch.bool, device=model.device)
        for own_map in maps:
            _, near = nearest_others(model.bank, patches(own_map[None]), max(ks), spare)
            found.append(torch.stack([near.first(k).distance.double().mean(1) for k in ks]))
            sure = sure & near.sure
        return torch.stack(found, dim=1).float(), sure

    grid = model.config.features.grid
    return settled(work).reshape(len(ks), len(maps), grid, grid).numpy()


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
    configs = list(dict.fromkeys([(t, 0), (t, k)]))
    alpha_bar = cosine_schedule(model.config.diffusion)[noised_t : noised_t + 1]

    @torch.inference_mode()
    def work(spare: int) -> tuple[Tensor, Tensor]:
        prepared, sure = _prepared(model, images, {0, k}, seed, spare)
        batches = batches_of(model, _trajectories(prepared, configs))
        results = on_each_core(partial(_reconstruct, model), batches, device=model.device)
        clean, errors = (torch.cat(found) for found in zip(*results, strict=True))
        features = torch.stack([image.features for image in prepared])
        noise = torch.stack([image.noise[0] for image in prepared])
        share = to_device(alpha_bar.to(features.dtype), model.device)
        whole = [
            features,
            add_noise(features, noise, share),
            clean[len(configs) - 1 :: len(configs)],
            errors[:: len(configs), None],
            errors[len(configs) - 1 :: len(configs), None],
        ]
        return torch.cat(whole, dim=1), sure

    found = settled(work).numpy()  # [images, 3 C + 2, grid, grid]
    channels = found.shape[1] // 3
    return [
        Explanation(
            plain=one[-2],
            edited=one[-1],
            features=one[:channels],
            noised=one[channels : 2 * channels],
            reconstruction=one[2 * channels : 3 * channels],
        )
        for one in found
    ]


def settled(work: Callable[[int], tuple[Tensor, Tensor]]) -> Tensor:
    """What some work finds, on the CPU. Scoring images waits for a GPU here and nowhere else; only
    ``nearest_others``, of training images, waits once more for each.

    Args:
        work: given how many members of a bank to look at beyond the nearest ones asked for, it
            returns what it found, and whether these were enough.

    Raises:
        LafiteError: a GPU's memory does not hold the least part of the work.
    """
    spare = SPARE
    while True:
        try:
            found, enough = work(spare)
        except torch.OutOfMemoryError:
            raise LafiteError(
                "The GPU's memory does not hold the model and one trajectory; use --device cpu, "
                "or free memory on the GPU."
            ) from None
        values = torch.cat([found.flatten(), enough.to(found.dtype)[None]]).cpu()
        if values[-1]:
            return values[:-1].reshape(found.shape)
        spare *= 4


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

    Attributes:
        image: what it shares with others.
        t: corruption step.
        k: neighbours of the edited features that it starts from.
        cell: (configuration, image).
    """

    image: Prepared
    t: int
    k: int
    cell: tuple[int, int]


def _prepared(
    model: LafiteModel, images: Sequence[np.ndarray], ks: set[int], seed: int, spare: int
) -> tuple[list[Prepared], Tensor]:
    """Features, noise and edited feature maps of every image, for a model with a network.

    Returns:
        These, and whether ``spare`` members were enough; see ``Neighbours.sure``.
    """
    _require_network(model)
    maps = model.features(images)
    shape = (noise_draws(model.config.diffusion), *maps.shape[1:])
    drawn = list(on_each_core(partial(image_noise, shape, seed=seed), images))
    noise = to_device(torch.stack(drawn), model.device)
    starts, sure = edited_maps(model, maps, ks, spare)
    parts = zip(maps, noise, starts, strict=True)
    return [Prepared(features=f, noise=n, starts=s) for f, n, s in parts], sure


def _prepared_normals(
    model: LafiteModel, raw: Tensor, ks: set[int], spare: int
) -> tuple[list[Prepared], Tensor]:
    """``_prepared`` of training images, each edited by the bank without its own patches."""
    _require_network(model)
    maps = model.standardised(raw)
    shape = (noise_draws(model.config.diffusion), *maps.shape[1:])
    starts, sure = edited_normals(model, maps, ks, spare)
    prepared = []
    for number, (own_map, own) in enumerate(zip(maps, starts, strict=True)):
        drawn = image_noise(shape, raw[number].numpy(), model.seed)
        noise = to_device(drawn, model.device)
        prepared.append(Prepared(features=own_map, noise=noise, starts=own))
    return prepared, sure


def _require_network(model: LafiteModel) -> None:
    if model.network is None or isinstance(model.network, Uniad):
        raise LafiteError("This model has no diffusion network; train it with --detector lafite.")


def _trajectories(
    prepared: Sequence[Prepared], configs: Sequence[tuple[int, int]]
) -> list[Trajectory]:
    """The trajectories of all configurations, image by image."""
    return [
        Trajectory(image=image, t=t, k=k, cell=(row, column))
        for column, image in enumerate(prepared)
        for row, (t, k) in enumerate(configs)
    ]


def _reconstruct(model: LafiteModel, batch: list[Trajectory]) -> tuple[Tensor, Tensor]:
    """Reconstructions ``[B, C, grid, grid]`` and error grids ``[B, grid, grid]`` on the device."""
    return in_one_shape(model, partial(_run, model), batch)


def in_one_shape(
    model: LafiteModel, run: Callable[[list[Job]], tuple[Tensor, Tensor]], batch: list[Job]
) -> tuple[Tensor, Tensor]:
    """Work on a batch that is padded with its last job to one size for all.

    Where a GPU's memory does not hold it, it is taken in smaller pieces, of one size for the rest
    of the model's life: the result is the same up to rounding.

    Args:
        run: gives reconstructions ``[B, C, grid, grid]`` and error grids ``[B, grid, grid]``, on
            the device.
    """
    size, predictor = model.config.score.batch_size, model.predictor
    assert predictor is not None  # checked before anything is prepared

    def in_pieces(piece: int) -> tuple[Tensor, Tensor]:
        padded = batch + [batch[-1]] * (math.ceil(size / piece) * piece - len(batch))
        parts = [run(padded[at : at + piece]) for at in range(0, size, piece)]
        maps, errors = (torch.cat(found)[: len(batch)] for found in zip(*parts, strict=True))
        return maps, errors

    def halved(before: int, after: int) -> None:
        if predictor.piece is None:
            LOG.warning(
                "The GPU's memory does not hold batches of %d; scoring goes on in smaller ones, "
                "with the same result up to rounding.",
                before,
            )
        predictor.piece = after

    return halving(in_pieces, predictor.piece or size, halved=halved, make_room=predictor.make_room)


@torch.inference_mode()
def _run(model: LafiteModel, jobs: list[Trajectory]) -> tuple[Tensor, Tensor]:
    """One run of the sampler: reconstructions and error grids."""
    predictor, options = model.predictor, model.config.score
    assert predictor is not None

    found = denoise(
        [job.image.starts[job.k] for job in jobs],
        [job.image.noise for job in jobs],
        [job.t for job in jobs],
        lambda x, t: predictor(options, x, t),
        cosine_schedule(model.config.diffusion),
        model.config.diffusion,
    )
    return found, error_map(torch.stack([job.image.features for job in jobs]), found)
