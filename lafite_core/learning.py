"""The networks that reconstruct features, and what each learns from them."""

from typing import Protocol

import torch
from torch import Tensor, nn

from lafite_core.config import LafiteConfig
from lafite_core.diffusion import add_noise, cosine_schedule, training_target
from lafite_core.unet import UNet
from lafite_core.uniad import Uniad, jittered


class Learner(Protocol):
    """A network and its examples; the training asks nothing else of either.

    Attributes:
        dropout: the network's; above 0 a pass draws from the global generator.
    """

    dropout: float

    def __init__(self, config: LafiteConfig, device: str) -> None: ...

    @staticmethod
    def build(channels: int, config: LafiteConfig) -> nn.Module:
        """The network for feature maps ``[B, channels, grid, grid]``, with fresh weights."""
        ...

    def draw(self, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """What is random in the examples of a batch ``[B, C, h, w]``: ``[B, ...]`` each."""
        ...

    def example(self, x0: Tensor, *drawn: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """What the network gets of a part of a batch, and what it is to return."""
        ...


class Denoising:
    """The U-Net predicts the noise in features at a random step of the diffusion."""

    def __init__(self, config: LafiteConfig, device: str) -> None:
        self.config = config.diffusion
        self.dropout = config.unet.dropout
        self.alpha_bar = cosine_schedule(config.diffusion).to(device)

    @staticmethod
    def build(channels: int, config: LafiteConfig) -> nn.Module:
        """See ``Learner``; the network takes any grid."""
        return UNet(channels, config.unet)

    def draw(self, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Steps ``[B]``, 1 to T, and noise like ``x0``."""
        steps, place = self.config.steps + 1, x0.device
        t = torch.randint(1, steps, (len(x0),), generator=generator, device=place)
        return t, torch.randn(x0.shape, generator=generator, device=place)

    def example(self, x0: Tensor, *drawn: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """See ``Learner``."""
        t, noise = drawn
        alpha_bar = self.alpha_bar[t]
        wanted = training_target(x0, noise, alpha_bar, self.config.target)
        return (add_noise(x0, noise, alpha_bar), t), wanted


class Reconstruction:
    """UniAD returns features from the same features, jittered."""

    def __init__(self, config: LafiteConfig, device: str) -> None:
        self.config = config.uniad
        self.dropout = config.uniad.dropout

    @staticmethod
    def build(channels: int, config: LafiteConfig) -> nn.Module:
        """See ``Learner``; the network takes one grid.

        Raises:
            LafiteError: the grid is not larger than the neighbourhood that tokens do not see.
        """
        return Uniad(channels, config.features.grid, config.uniad)

    def draw(self, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise like ``x0``."""
        return (torch.randn(x0.shape, generator=generator, device=x0.device),)

    def example(self, x0: Tensor, *drawn: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """See ``Learner``."""
        (noise,) = drawn
        return (jittered(x0, noise, self.config.jitter),), x0


LEARNERS: dict[str, type[Learner]] = {"unet": Denoising, "uniad": Reconstruction}
"""By the name of the network, which is also that of its file in MODEL."""
