"""Section 3.3: cosine schedule, forward noising, and DDIM from step t back to 0.

Notation as in DDIM (Song et al. 2021): ``alpha_bar[t]`` is the share of signal power left at
step t; ``alpha_bar[0] = 1`` is the clean input, steps count from 1 to T.
"""

import hashlib
import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import DiffusionConfig, Target
from lafite_core.errors import LafiteError

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
    a = alpha_bar.to(x0)[:, None, None, None]
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def trajectory(t: int, sampling_steps: int) -> list[int]:
    """Timesteps from t to 0, evenly spaced and rounded, ``sampling_steps + 1`` of them.

    The first is t itself: the network is first called at exactly the noise level that the input
    was brought to. With t below ``sampling_steps`` some repeat; such a step changes nothing.
    """
    return [round(t * i / sampling_steps) for i in range(sampling_steps, -1, -1)]


def training_target(x0: Tensor, noise: Tensor, alpha_bar: Tensor, target: Target) -> Tensor:
    """What the network is to predict from ``add_noise(x0, noise, alpha_bar)``; see ``Target``."""
    if target == "epsilon":
        return noise
    if target == "x0":
        return x0
    a = alpha_bar.to(x0)[:, None, None, None]
    return a.sqrt() * noise - (1 - a).sqrt() * x0


def split_prediction(
    output: Tensor, x: Tensor, alpha_bar: Tensor, target: Target
) -> tuple[Tensor, Tensor]:
    """The clean features and the noise that a prediction means, ``(x_0, epsilon)``.

    Args:
        output: of the network for ``x``.
        x: ``[B, C, h, w]`` at signal share ``alpha_bar`` ``[B]``, below 1.
    """
    a = alpha_bar.to(x)[:, None, None, None]
    if target == "epsilon":
        return (x - (1 - a).sqrt() * output) / a.sqrt(), output
    if target == "x0":
        return output, (x - a.sqrt() * output) / (1 - a).sqrt()
    return a.sqrt() * x - (1 - a).sqrt() * output, a.sqrt() * output + (1 - a).sqrt() * x


def ddim_step(
    x0: Tensor, epsilon: Tensor, now: Tensor, then: Tensor, eta: float, fresh: Tensor | None
) -> Tensor:
    """One DDIM step (Song et al. 2021, eq. 12 and 16).

    Args:
        x0, epsilon: ``[B, C, h, w]``, predicted from x at signal share ``now``.
        now, then: ``alpha_bar`` before and after, ``[B]``.
        eta: 0 is deterministic; above 0 ``fresh`` is the standard normal noise of this step.
    """
    now, then = (a.to(x0)[:, None, None, None] for a in (now, then))
    if fresh is None:
        return then.sqrt() * x0 + (1 - then).sqrt() * epsilon
    sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)).clamp_min(0).sqrt()
    direction = (1 - then - sigma**2).clamp_min(0).sqrt()
    return then.sqrt() * x0 + direction * epsilon + sigma * fresh


def denoise(
    x0: Tensor,
    noise: Tensor,
    t: list[int],
    network: Network,
    alpha_bar: Tensor,
    config: DiffusionConfig,
) -> Tensor:
    """Noise each map to its own step and denoise it: the reconstruction ``[B, C, h, w]``.

    Args:
        x0: the (edited) feature maps ``[B, C, h, w]``.
        noise: standard normal ``[B, noise_draws(config), C, h, w]``.
        t: corruption step of each map, 1 to T.
        alpha_bar: of ``cosine_schedule``.
        config: number of DDIM steps (the same for every t, so that different t share a batch),
            eta, and the network's target.

    Raises:
        LafiteError: a step outside 1 to T.
    """
    last = len(alpha_bar) - 1
    for step in t:
        if not 1 <= step <= last:
            raise LafiteError(f"The corruption step t = {step} is outside 1 to {last}.")
    steps = torch.tensor([trajectory(step, config.sampling_steps) for step in t]).T  # [S + 1, B]
    x = add_noise(x0, noise[:, 0], alpha_bar[steps[0]])
    for number, (now, then) in enumerate(pairwise(steps), start=1):
        output = network(x, now.to(x.device))
        clean, epsilon = split_prediction(output, x, alpha_bar[now], config.target)
        fresh = noise[:, number] if config.eta > 0 else None
        stepped = ddim_step(clean, epsilon, alpha_bar[now], alpha_bar[then], config.eta, fresh)
        # A repeated step changes nothing, and at step 0 there is no noise to divide by.
        moves = (now != then).to(x.device)[:, None, None, None]
        x = torch.where(moves, stepped, x)
    return x


def noise_draws(config: DiffusionConfig) -> int:
    """Noise tensors that one trajectory needs: one, and one a step if eta is above 0."""
    return 1 + config.sampling_steps if config.eta > 0 else 1


def image_noise(shape: tuple[int, ...], image: np.ndarray, seed: int) -> Tensor:
    """Standard normal noise that belongs to an image: float32 on the CPU.

    It is keyed by the seed and the pixels alone, so that every configuration, order, batch and
    machine with the same library sees the same noise for the same image.
    """
    digest = hashlib.sha256(f"{seed}:{image.shape}:".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    key = int.from_bytes(digest.digest()[:8], "big", signed=False) >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))
