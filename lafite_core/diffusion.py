"""Section 3.3: cosine schedule, forward noising, and DDIM from step t back to 0.

Notation as in DDIM (Song et al. 2021): ``alpha_bar[t]`` is the share of signal power left at
step t; ``alpha_bar[0] = 1`` is the clean input, steps count from 1 to T.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import DiffusionConfig, Target
from lafite_core.device import to_device
from lafite_core.errors import LafiteError

POINTS = 3
"""Predictions that one is extrapolated from, by a parabola; a curve of higher degree magnifies what
is random in them."""

Network = Callable[[Tensor, Tensor], Tensor]
"""``(x_t [B, C, h, w], t [B])`` to the prediction of ``DiffusionConfig.target``, same shape."""


def cosine_schedule(config: DiffusionConfig) -> Tensor:
    """``alpha_bar`` at steps 0 to T, ``[T + 1]`` float64 (Nichol and Dhariwal 2021, eq. 17)."""
    s = torch.arange(config.steps + 1, dtype=torch.float64) / config.steps
    f = torch.cos((s + config.offset) / (1 + config.offset) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=config.max_beta)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def add_noise(x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """q(x_t | x_0): ``sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise``, ``alpha_bar`` ``[B]``."""
    of_x0, of_noise = shares(alpha_bar, x0)
    return of_x0 * x0 + of_noise * noise


def shares(alpha_bar: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of signal and noise ``[B, 1, 1, 1]`` for ``alpha_bar`` ``[B]``, as ``x`` is kept."""
    a = alpha_bar.to(x)[:, None, None, None]
    return a.sqrt(), (1 - a).sqrt()


def trajectory(t: int, count: int) -> list[int]:
    """Timesteps from t to 0, even in time and rounded, ``count + 1`` of them.

    The first is t itself: the network is first called at exactly the noise level that the input
    was brought to. With a small t some repeat; such a step changes nothing.
    """
    return [round(t * i / count) for i in range(count, -1, -1)]


def training_target(x0: Tensor, noise: Tensor, alpha_bar: Tensor, target: Target) -> Tensor:
    """What the network is to predict from ``add_noise(x0, noise, alpha_bar)``; see ``Target``."""
    if target == "epsilon":
        return noise
    if target == "x0":
        return x0
    alpha, sigma = shares(alpha_bar, x0)
    return alpha * noise - sigma * x0


def prediction_parts(alpha_bar: Tensor, target: Target) -> tuple[tuple[Tensor, Tensor], ...]:
    """What a prediction ``output`` for x means, as factors ``(of x, of output)``.

    Args:
        alpha_bar: signal share of x, below 1; any shape.

    Returns:
        The factors of the clean features ``x_0``, and those of the noise ``epsilon``.
    """
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if target == "epsilon":
        return (1 / alpha, -sigma / alpha), (zero, one)
    if target == "x0":
        return (zero, one), (1 / sigma, -alpha / sigma)
    return (alpha, -sigma), (sigma, alpha)


def ddim_parts(now: Tensor, then: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """One DDIM step (Song et al. 2021, eq. 12 and 16) as factors.

    Args:
        now, then: ``alpha_bar`` before and after; any shape.
        eta: 0 is deterministic, 1 as random as DDPM.

    Returns:
        Of the clean features, of the predicted noise, and of fresh standard normal noise.
    """
    sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).clamp_min(0).sqrt()
    return then.sqrt(), (1 - then - sigma**2).clamp_min(0).sqrt(), sigma


def extrapolated(config: DiffusionConfig) -> dict[int, list[float]]:
    """The steps that the network is not asked at, and what its latest predictions weigh there.

    The clean features are extrapolated by the polynomial through the last ``POINTS`` predictions
    (Lagrange), over the number of the step: as in the linear multistep methods of Liu et al. 2022
    ("Pseudo numerical methods for diffusion models on manifolds") and Zhang and Chen 2023 ("Fast
    sampling of diffusion models with exponential integrator"), but on the steps of DDIM, so that
    the result is that of DDIM and not of the differential equation behind it. The steps at which
    it is asked are spread evenly, the first and the last among them.
    """
    count = config.sampling_steps
    calls = config.evaluations or count
    evaluated = [math.floor(place + 0.5) for place in np.linspace(0, count - 1, calls)]
    weights = {}
    for step in range(count):
        known = [one for one in evaluated if one < step][-POINTS:]
        if step not in evaluated:
            weights[step] = [
                math.prod((step - other) / (one - other) for other in known if other != one)
                for one in known
            ]
    return weights


class Coefficients(NamedTuple):
    """What the next x is made of, for every step of every trajectory, ``[S, B, 1, 1, 1]`` each.

    The next x is ``of_x x + of_output output + of_noise noise``, with fresh standard normal noise.
    The clean features in a prediction are ``x_in_clean x + output_in_clean output``; from clean
    features without a network's output the next x is ``of_x_alone x + of_clean clean``.
    """

    of_x: Tensor
    of_output: Tensor
    of_noise: Tensor
    x_in_clean: Tensor
    output_in_clean: Tensor
    of_x_alone: Tensor
    of_clean: Tensor


def coefficients(levels: Tensor, config: DiffusionConfig) -> Coefficients:
    """Those of DDIM; a step that repeats its level, also the clean one, leaves x as it is.

    Args:
        levels: ``alpha_bar`` along the trajectories, ``[S + 1, B]`` float64.
    """
    now, then = levels[:-1], levels[1:]
    clean, epsilon = prediction_parts(now, config.target)
    of_clean, of_epsilon, of_noise = ddim_parts(now, then, config.eta)
    of_x_alone = of_epsilon / (1 - now).sqrt()
    found = Coefficients(
        of_x=of_clean * clean[0] + of_epsilon * epsilon[0],
        of_output=of_clean * clean[1] + of_epsilon * epsilon[1],
        of_noise=of_noise,
        x_in_clean=clean[0],
        output_in_clean=clean[1],
        of_x_alone=of_x_alone,
        of_clean=of_clean - of_x_alone * now.sqrt(),
    )
    unchanged = Coefficients(1, 0, 0, 0, 0, 1, 0)  # type: ignore[arg-type]
    pairs = zip(found, unchanged, strict=True)
    return Coefficients(*(
        torch.where(now == then, repeated, factor)[..., None, None, None]
        for factor, repeated in pairs
    ))  # fmt: skip


def denoise(
    x0: Sequence[Tensor],
    noise: Sequence[Tensor],
    t: Sequence[int],
    network: Network,
    alpha_bar: Tensor,
    config: DiffusionConfig,
) -> Tensor:
    """Noise each map to its own step and denoise it: the reconstruction ``[B, C, h, w]``.

    Args:
        x0: the (edited) feature maps, B of ``[C, h, w]``.
        noise: standard normal of each, B of ``[noise_draws(config), C, h, w]``.
        t: corruption step of each map, 1 to T.
        alpha_bar: of ``cosine_schedule``.
        config: number of steps (the same for every t, so that different t share a batch),
            evaluations, eta, and the network's target.

    Raises:
        LafiteError: a step outside 1 to T.
    """
    last = len(alpha_bar) - 1
    for step in t:
        if not 1 <= step <= last:
            raise LafiteError(f"The corruption step t = {step} is outside 1 to {last}.")
    steps = torch.tensor([trajectory(step, config.sampling_steps) for step in t]).T  # [S + 1, B]
    starts = torch.stack(list(x0))
    device = str(starts.device)
    factors = torch.stack(coefficients(alpha_bar[steps], config)).to(starts.dtype)
    by_step = Coefficients(*to_device(factors, device))
    # The clean level, which a short trajectory repeats, is one that no network was trained at.
    times = to_device(steps.clamp_min(1), device)
    first = to_device(alpha_bar[steps[0]].to(starts.dtype), device)
    x = add_noise(starts, torch.stack([draws[0] for draws in noise]), first)
    if x.is_cuda:
        x = x.contiguous(memory_format=torch.channels_last)
    left_out = extrapolated(config)
    clean: deque[Tensor] = deque(maxlen=POINTS)
    for number in range(config.sampling_steps):
        now = Coefficients(*(part[number] for part in by_step))
        if number in left_out:
            x.mul_(now.of_x_alone)
            for known, weight in zip(clean, left_out[number], strict=True):
                x.addcmul_(known, now.of_clean, value=weight)
            continue
        output = network(x, times[number])
        if left_out:
            clean.append((x * now.x_in_clean).addcmul_(output, now.output_in_clean))
        x.mul_(now.of_x).addcmul_(output, now.of_output)
        if config.eta > 0:
            fresh = torch.stack([draws[number + 1] for draws in noise])
            x.addcmul_(fresh, now.of_noise)
    return x


def noise_draws(config: DiffusionConfig) -> int:
    """Noise tensors that one trajectory needs: one, and one a step if eta is above 0."""
    return 1 + config.sampling_steps if config.eta > 0 else 1


def image_noise(shape: tuple[int, ...], image: np.ndarray, seed: int) -> Tensor:
    """Standard normal noise that belongs to an image: float32 on the CPU.

    It is keyed by the seed and the pixels (or whatever array stands for the image) alone, so that
    every configuration, order, batch and machine with the same library sees the same noise for the
    same image.
    """
    digest = hashlib.sha256(f"{seed}:{image.shape}:".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    key = int.from_bytes(digest.digest()[:8], "big", signed=False) >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))
