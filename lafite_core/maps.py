"""Section 3.3: from two feature maps to an anomaly map and an image score."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lafite_core.config import ScoreConfig
from lafite_core.filterbank import smooth


def error_map(features: Tensor, reconstruction: Tensor) -> Tensor:
    """L2 distance per patch: two ``[B, C, h, w]`` to ``[B, h, w]``."""
    return (features - reconstruction).square().sum(1).sqrt()


def render(errors: Tensor, size: int, sigma: float) -> Tensor:
    """Error grids ``[B, h, w]`` to smooth maps ``[B, size, size]``.

    Bilinear upsampling, then a Gaussian of ``sigma`` pixels.
    """
    maps = F.interpolate(errors[:, None], (size, size), mode="bilinear", align_corners=False)
    return smooth(maps, sigma)[:, 0]


def image_score(maps: Tensor, config: ScoreConfig) -> Tensor:
    """Anomaly maps ``[B, H, W]`` to scores ``[B]``: the maximum after average pooling."""
    return F.avg_pool2d(maps[:, None], config.pool, stride=1).amax((1, 2, 3))


@torch.inference_mode()
def grid_scores(errors: Tensor, size: int, config: ScoreConfig) -> Tensor:
    """Error grids ``[B, h, w]`` to image scores ``[B]`` float64, one map at a time in memory."""
    return torch.cat(
        [image_score(render(part, size, config.sigma), config).double() for part in errors.split(1)]
    )
