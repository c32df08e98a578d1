"""Operations of a training step, and how many a machine can do."""

import math
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lafite_core.unet import UNet


def training_flops(config: Any, channels: int = 272) -> float:
    """Floating-point operations of forward and backward pass per image, counted, not estimated.

    Args:
        config: a ``lafite_core.config.LafiteConfig``.
        channels: of the features; 272 are EfficientNet-b4's stages 1 to 4.
    """
    grid = config.features.grid
    with torch.device("meta"):
        network = UNet(channels, config.unet)
        x, t = torch.empty(1, channels, grid, grid), torch.ones(1)
    with FlopCounterMode(display=False) as counter:
        network(x, t).square().mean().backward()
    return float(counter.get_total_flops())


def matmul_flops(device: str, precision: str, seconds: float = 1.0) -> float:
    """FLOP/s of a large square matrix product, the median of repetitions."""
    on_gpu = device.startswith("cuda")
    side = 8192 if on_gpu else 2048
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 5:
        started = time.perf_counter()
        for _ in range(4):
            a @ b
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - started) / 4)
    return 2 * math.pow(side, 3) / sorted(times)[len(times) // 2]


def scoring_flops(config: Any, channels: int = 272) -> float:
    """Floating-point operations of one pass of the network per image, counted on no data.

    A configuration of LafitE takes ``config.diffusion.sampling_steps`` of them. Arguments as in
    ``training_flops``.
    """
    grid = config.features.grid
    with torch.device("meta"), torch.no_grad():
        network = UNet(channels, config.unet)
        x, t = torch.empty(1, channels, grid, grid), torch.ones(1)
        with FlopCounterMode(display=False) as counter:
            network(x, t)
    return float(counter.get_total_flops())
