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

from lafite_core.config import DiffusionConfig
from lafite_core.errors import LafiteError

NoisePredictor = Callable[[Tensor, Tensor], Tensor]
"""``(x_t [B, C, h, w], t [B]) -> epsilon [B, C, h, w]``."""


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


def ddim_step(x: Tensor, epsilon: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """One deterministic DDIM step (Song et al. 2021, eq. 12 with eta = 0).

    Args:
        x: ``[B, C, h, w]`` at signal share ``now``.
        epsilon: predicted noise in it.
        now, then: ``alpha_bar`` before and after, ``[B]``.
    """
    now, then = (a.to(x)[:, None, None, None] for a in (now, then))
    x0 = (x - (1 - now).sqrt() * epsilon) / now.sqrt()
    return then.sqrt() * x0 + (1 - then).sqrt() * epsilon


def denoise(
    x0: Tensor,
    noise: Tensor,
    t: list[int],
    predict: NoisePredictor,
    alpha_bar: Tensor,
    sampling_steps: int,
) -> Tensor:
    """Noise each map to its own step and denoise it: the reconstruction ``[B, C, h, w]``.

    Args:
        x0: the (edited) feature maps ``[B, C, h, w]``.
        noise: standard normal, the same shape.
        t: corruption step of each map, 1 to T.
        predict: the noise predictor.
        alpha_bar: of ``cosine_schedule``.
        sampling_steps: DDIM steps, the same for every t, so that different t share a batch.

    Raises:
        LafiteError: a step outside 1 to T.
    """
    last = len(alpha_bar) - 1
    for step in t:
        if not 1 <= step <= last:
            raise LafiteError(f"The corruption step t = {step} is outside 1 to {last}.")
    steps = torch.tensor([trajectory(step, sampling_steps) for step in t]).T  # [S + 1, B]
    x = add_noise(x0, noise, alpha_bar[steps[0]])
    for now, then in pairwise(steps):
        epsilon = predict(x, now.to(x.device))
        x = ddim_step(x, epsilon, alpha_bar[now], alpha_bar[then])
    return x


def image_noise(shape: tuple[int, ...], image: np.ndarray, seed: int) -> Tensor:
    """Standard normal noise that belongs to an image: float32 on the CPU.

    It is keyed by the seed and the pixels alone, so that every configuration, order, batch and
    machine with the same library sees the same noise for the same image.
    """
    digest = hashlib.sha256(f"{seed}:{image.shape}:".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    key = int.from_bytes(digest.digest()[:8], "big", signed=False) >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))
