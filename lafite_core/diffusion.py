"""Section 3.3: cosine schedule, forward noising, and the solvers from step t back to 0.

Notation as in DDIM (Song et al. 2021): ``alpha_bar[t]`` is the share of signal power left at
step t; ``alpha_bar[0] = 1`` is the clean input, steps count from 1 to T.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lafite_core.config import DiffusionConfig, Target
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


def log_snr(alpha_bar: Tensor) -> Tensor:
    """lambda, half the logarithm of the signal-to-noise ratio; infinite at step 0."""
    return (alpha_bar / (1 - alpha_bar)).log() / 2


def trajectory(t: int, config: DiffusionConfig, alpha_bar: Tensor) -> list[int]:
    """Timesteps from t to 0, rounded, ``config.sampling_steps + 1`` of them.

    The first is t itself: the network is first called at exactly the noise level that the input
    was brought to. With a small t some repeat; such a step changes nothing. See ``Spacing`` in
    the configuration for where the others lie.
    """
    count = config.sampling_steps
    if config.spacing == "time" or count == 1:
        return [round(t * i / count) for i in range(count, -1, -1)]
    levels = log_snr(alpha_bar)[1:]  # steps 1 to T, falling
    last = max(1, round(t / count))
    places = torch.linspace(float(levels[t - 1]), float(levels[last - 1]), count)
    near = (levels[:, None] - places.to(levels)).abs().argmin(0) + 1
    return [*near.tolist(), 0]


def training_target(x0: Tensor, noise: Tensor, alpha_bar: Tensor, target: Target) -> Tensor:
    """What the network is to predict from ``add_noise(x0, noise, alpha_bar)``; see ``Target``."""
    if target == "epsilon":
        return noise
    if target == "x0":
        return x0
    a = alpha_bar.to(x0)[:, None, None, None]
    return a.sqrt() * noise - (1 - a).sqrt() * x0


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


def dpmpp_2m_parts(now: Tensor, then: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), data prediction, as factors.

    With lambda the log SNR, h the step in it and r the step before as a share of h: from x to
    ``sigma_then / sigma_now x + alpha_then (1 - exp(-h)) D``, D being the prediction extrapolated
    to the middle of the step, ``x_0 + (x_0 - earlier) / 2r``. To the clean input, where h is
    infinite, the step is of first order and leads to ``x_0``.

    Args:
        now, then: ``alpha_bar`` before and after; any shape.
        before: ``alpha_bar`` where the prediction ``earlier`` was made; where it equals ``now``
            there is none, and the step is of first order.

    Returns:
        Of x, of the clean features ``x_0`` predicted from it, and of ``earlier``.
    """
    kept = ((1 - then) / (1 - now)).sqrt()
    share = then.sqrt() - now.sqrt() * kept
    weight = (log_snr(then) - log_snr(now)) / (2 * (log_snr(now) - log_snr(before)))
    weight = torch.where((then < 1) & (before != now), weight, 0)
    return kept, share * (1 + weight), -share * weight


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
    asked = [math.floor(place + 0.5) for place in np.linspace(0, count - 1, calls)]
    weights = {}
    for step in range(count):
        known = [one for one in asked if one < step][-POINTS:]
        if step not in asked:
            weights[step] = [
                math.prod((step - other) / (one - other) for other in known if other != one)
                for one in known
            ]
    return weights


def step_factors(levels: Tensor, config: DiffusionConfig) -> Tensor:
    """Every step of every trajectory as factors, ``[8, S, B]``.

    They are of x, of the network's output, of fresh noise and of the clean features predicted one
    step earlier, which add up to the next x; then of x and of the output in the clean features;
    then of x and of the clean features in the next x, for DDIM without a network's output. A
    step that repeats its level, also the clean one, leaves x as it is.

    Args:
        levels: ``alpha_bar`` along the trajectories, ``[S + 1, B]`` float64.
    """
    now, then = levels[:-1], levels[1:]
    clean, epsilon = prediction_parts(now, config.target)
    fresh = earlier = x_alone = clean_alone = torch.zeros_like(now)
    if config.solver == "ddim":
        of_clean, of_epsilon, fresh = ddim_parts(now, then, config.eta)
        of_x = of_clean * clean[0] + of_epsilon * epsilon[0]
        of_output = of_clean * clean[1] + of_epsilon * epsilon[1]
        x_alone = of_epsilon / (1 - now).sqrt()
        clean_alone = of_clean - x_alone * now.sqrt()
    else:
        before = torch.cat([now[:1], now[:-1]])
        kept, of_clean, earlier = dpmpp_2m_parts(now, then, before)
        of_x, of_output = kept + of_clean * clean[0], of_clean * clean[1]
    found = torch.stack([of_x, of_output, fresh, earlier, *clean, x_alone, clean_alone])
    nothing = torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 0]).to(found)[:, None, None]
    return torch.where(now == then, nothing, found)


def maps_at_once(device: str, count: int) -> int:
    """How many of so many maps arithmetic is done on at once.

    It waits for memory. On a CPU one map stays in the cache from one operation to the next; on a
    GPU all maps together need the fewest calls.
    """
    return 1 if device == "cpu" else count


def denoise(
    x0: Tensor | Sequence[Tensor],
    noise: Tensor | Sequence[Tensor],
    t: list[int],
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
        config: solver, number of steps (the same for every t, so that different t share a batch)
            and their spacing, evaluations, eta, and the network's target.

    Raises:
        LafiteError: a step outside 1 to T.
    """
    last = len(alpha_bar) - 1
    for step in t:
        if not 1 <= step <= last:
            raise LafiteError(f"The corruption step t = {step} is outside 1 to {last}.")
    paths = {step: trajectory(step, config, alpha_bar) for step in set(t)}
    steps = torch.tensor([paths[step] for step in t]).T  # [S + 1, B]
    size = maps_at_once(x0[0].device.type, len(t))
    starts, draws = (
        [one[None] for one in maps] if size == 1 else list(torch.stack(list(maps)).split(size))
        for maps in (x0, noise)
    )
    x = starts[0].new_empty(len(t), *starts[0].shape[1:])
    parts = x.split(size)
    for part, start, draw, *share in zip(
        parts, starts, draws, *(s.split(size) for s in shares(alpha_bar[steps[0]], x)), strict=True
    ):
        torch.mul(start, share[0], out=part).add_(draw[:, 0] * share[1])
    factors = step_factors(alpha_bar[steps], config).to(x)[..., None, None, None]
    two_steps, left_out = config.solver != "ddim", extrapolated(config)
    remembers = two_steps or bool(left_out)
    if not remembers and config.eta == 0:
        factors = factors[:2]  # of x and of the output; making views of the others takes time
    said: list[deque[Tensor]] = [deque(maxlen=POINTS) for _ in parts]
    # The clean level, which a short trajectory repeats, is one that no network was trained at.
    times = steps.clamp_min(1).to(x.device)
    for number in range(config.sampling_steps):
        of = [factor.chunk(len(parts)) for factor in factors[:, number]]
        if number in left_out:
            for i, (part, known) in enumerate(zip(parts, said, strict=True)):
                part.mul_(of[6][i])
                for clean, weight in zip(known, left_out[number], strict=True):
                    part.addcmul_(clean, of[7][i], value=weight)
            continue
        outputs = network(x, times[number]).chunk(len(parts))
        for i, (part, output, known) in enumerate(zip(parts, outputs, said, strict=True)):
            if remembers:
                known.append((part * of[4][i]).addcmul_(output, of[5][i]))
            part.mul_(of[0][i]).addcmul_(output, of[1][i])
            if config.eta > 0:
                part.addcmul_(draws[i][:, number + 1], of[2][i])
            if two_steps and len(known) > 1:
                part.addcmul_(known[-2], of[3][i])
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
