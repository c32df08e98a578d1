"""A whole model that is fitted in a fraction of a second, for several test files."""

from pathlib import Path
from typing import Any

import numpy as np

from lafite_core.config import (
    DiffusionConfig,
    FeatureConfig,
    LafiteConfig,
    ScoreConfig,
    TrainConfig,
    UNetConfig,
)
from lafite_core.filterbank import FilterBank
from lafite_core.fit import FitRequest

CONFIG = LafiteConfig(
    features=FeatureConfig(backbone="filterbank", image_size=56, grid=7),
    unet=UNetConfig(base_channels=16, multipliers=(1, 2), attention_levels=(1,), head_channels=8),
    diffusion=DiffusionConfig(sampling_steps=3),
    train=TrainConfig(epochs=2, min_steps=0, batch_size=4),
    score=ScoreConfig(batch_size=4, pool=8),
)
GRID = [(25, 0), (200, 0), (900, 0), (200, 1), (200, 5), (200, 20)]


def pictures(count: int, seed: int) -> list[np.ndarray]:
    """Noise, uint8 ``[60, 50, 3]`` each."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, 60, 50, 3), dtype=np.uint8))


def request(folder: Path, **options: Any) -> FitRequest:
    """For a fit on six images."""
    known = {"keys": [str(i) for i in range(6)], "config": CONFIG, "seed": 0}
    known |= {"backbone": FilterBank([1, 2, 3, 4]), "folder": folder}
    return FitRequest(**known | options)
