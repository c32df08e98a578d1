"""A training that takes a fraction of a second, for several test files."""

import dataclasses
from typing import Any

import torch

from lafite_core.config import LafiteConfig, TrainConfig, UNetConfig

CONFIG = LafiteConfig(
    unet=UNetConfig(
        base_channels=16,
        multipliers=(1, 2),
        attention_levels=(1,),
        head_channels=8,
        linear_channels=64,
    ),
    train=TrainConfig(
        epochs=6, min_steps=0, batch_size=4, learning_rate=1e-3, checkpoint_seconds=0
    ),
)


def with_train(config: LafiteConfig = CONFIG, **options: Any) -> LafiteConfig:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **options))


def features() -> torch.Tensor:
    return torch.randn(10, 6, 5, 5, generator=torch.Generator().manual_seed(0))
