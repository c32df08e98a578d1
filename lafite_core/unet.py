"""Section 3.3: the noise predictor, a U-Net over feature maps with timestep embedding."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lafite_core.config import UNetConfig


def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding (Vaswani et al. 2017) of ``[B]`` timesteps, ``[B, channels]``."""
    half = channels // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * rates[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups that divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, also of a few small maps on one thread at its speed.

    There torch leaves oneDNN for a loop of its own, unless the kernel is dilated, which means
    nothing for a single pixel: with 8 maps of 2 x 2 the loop takes two to four times as long (from
    4 x 4 on it is the faster one). Scoring keeps to what torch chooses.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` to ``[B, outputs, h, w]``."""
        tiny = self.training and not x.is_cuda and x.shape[2] * x.shape[3] <= 4
        return F.conv2d(x, self.weight, self.bias, dilation=2 if tiny else 1)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the timestep added in between (Ho et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, 1, 1))
        self.time = nn.Linear(embedding, outputs)
        self.second = nn.Sequential(
            norm(outputs), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(outputs, outputs, 3, 1, 1)
        )
        self.skip = Pointwise(inputs, outputs) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` and ``[B, embedding]`` to ``[B, outputs, h, w]``."""
        h = self.first(x) + self.time(F.silu(embedding))[:, :, None, None]
        out: Tensor = self.skip(x) + self.second(h)
        return out


class Attention(nn.Module):
    """Multi-head self-attention over the positions of a map, with a residual connection."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        self.norm = norm(channels)
        self.qkv = Pointwise(channels, 3 * channels)
        self.out = Pointwise(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, h, w]`` to the same shape."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # each [B, heads, h * w, C / heads]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, h, w)
        out: Tensor = x + self.out(mixed)
        return out


class Stage(nn.Module):
    """A residual block, with attention after it on some levels."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, attention: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(inputs, outputs, 4 * config.base_channels, config.dropout)
        self.attention = Attention(outputs, config.head_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``[B, inputs, h, w]`` to ``[B, outputs, h, w]``."""
        out: Tensor = self.attention(self.block(x, embedding))
        return out


class LinearPath(nn.Module):
    """``B diag(g(t)) A x`` at every position: linear denoising with a gain for each timestep.

    For features with a Gaussian distribution this is the form of the best denoiser (A and B turn
    into their principal axes and back, the gain shrinks each); the U-Net adds what is not linear.
    """

    def __init__(self, channels: int, width: int, embedding: int) -> None:
        super().__init__()
        self.inward = Pointwise(channels, width, bias=False)
        self.gain = nn.Linear(embedding, width)
        self.outward = Pointwise(width, channels, bias=False)
        nn.init.orthogonal_(self.inward.weight)
        nn.init.zeros_(self.outward.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B, embedding]`` to ``[B, C, h, w]``."""
        gain = 1 + self.gain(F.silu(embedding))
        out: Tensor = self.outward(self.inward(x) * gain[:, :, None, None])
        return out


class UNet(nn.Module):
    """Noise in a feature map, for any grid: every level halves, rounding up (14, 7, 4, 2).

    Going up, a level is resized to exactly the size of its skip connection.
    """

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        base = config.base_channels
        widths = [base * m for m in config.multipliers]
        embedding = 4 * base
        self.base = base
        self.embed = nn.Sequential(
            nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.entry = nn.Conv2d(channels, base, 3, 1, 1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        skips = [base]
        width = base
        for level, target in enumerate(widths):
            stages = nn.ModuleList()
            for _ in range(config.blocks):
                stages.append(Stage(width, target, config, level in config.attention_levels))
                width = target
                skips.append(width)
            self.down.append(stages)
            if level < len(widths) - 1:
                self.shrink.append(nn.Conv2d(width, width, 3, 2, 1))
                skips.append(width)
        self.middle = nn.ModuleList(
            [Stage(width, width, config, True), Stage(width, width, config, False)]
        )
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level, target in reversed(list(enumerate(widths))):
            stages = nn.ModuleList()
            for _ in range(config.blocks + 1):
                inputs = width + skips.pop()
                stages.append(Stage(inputs, target, config, level in config.attention_levels))
                width = target
            self.up.append(stages)
            if level > 0:
                self.grow.append(nn.Conv2d(width, width, 3, 1, 1))
        self.exit = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, 1, 1))
        nn.init.zeros_(self.exit[-1].weight)  # type: ignore[arg-type]
        wide = channels if config.linear_channels is None else config.linear_channels
        self.linear = LinearPath(channels, wide, embedding) if wide else None

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Maps ``[B, C, h, w]`` noised to timesteps ``[B]`` to the noise in them, same shape."""
        embedding = self.embed(timestep_embedding(t, self.base))
        h = self.entry(x)
        skips = [h]
        for level, stages in enumerate(self.down):
            for stage in cast(nn.ModuleList, stages):
                h = stage(h, embedding)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding)
        for level, stages in enumerate(self.up):
            for stage in cast(nn.ModuleList, stages):
                skip = skips.pop()
                h = stage(torch.cat([h, skip], dim=1), embedding)
            if level < len(self.grow):
                h = F.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
                h = self.grow[level](h)
        out: Tensor = self.exit(h)
        return out if self.linear is None else out + self.linear(x, embedding)
