"""Section 3.3: from two feature maps to an anomaly map and an image score."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lafite_core.config import ScoreConfig
from lafite_core.filterbank import gaussian_kernel


def error_map(features: Tensor, reconstruction: Tensor) -> Tensor:
    """L2 distance per patch: two ``[B, C, h, w]`` to ``[B, h, w]``."""
    return (features - reconstruction).square_().sum(1).sqrt_()


@lru_cache(maxsize=16)
def render_matrix(cells: int, size: int, sigma: float) -> Tensor:
    """Bilinear upsampling, then Gaussian smoothing, along one axis: ``[size, cells]`` float64.

    Both are linear and separable, so a map is ``R E R^T`` of its error grid: two small products
    instead of an interpolation and two convolutions. Borders are mirrored.
    """
    rows = torch.eye(cells, dtype=torch.float64)[:, None]  # [cells, 1, cells]
    rows = F.interpolate(rows, size, mode="linear", align_corners=False)
    if sigma > 0:
        kernel = gaussian_kernel(sigma).double()
        radius = len(kernel) // 2
        mode = "reflect" if radius < size else "replicate"
        rows = F.conv1d(F.pad(rows, (radius, radius), mode=mode), kernel[None, None])
    return rows[:, 0].T.contiguous()


@lru_cache(maxsize=16)
def score_matrix(cells: int, size: int, config: ScoreConfig) -> Tensor:
    """``render_matrix`` followed by average pooling: ``[size - pool + 1, cells]`` float64."""
    rendered = render_matrix(cells, size, config.sigma)
    return F.avg_pool1d(rendered.T[:, None], config.pool, stride=1)[:, 0].T.contiguous()


@torch.inference_mode()
def render(errors: Tensor, size: int, sigma: float) -> Tensor:
    """Error grids ``[B, h, w]`` to smooth maps ``[B, size, size]`` float32.

    Bilinear upsampling, then a Gaussian of ``sigma`` pixels. One grid at a time: a value must not
    depend on its place in a batch.
    """
    down = render_matrix(errors.shape[1], size, sigma)
    across = render_matrix(errors.shape[2], size, sigma).T
    maps = errors.new_empty(len(errors), size, size, dtype=torch.float32)
    for one, grid in zip(maps, errors.double(), strict=True):
        one.copy_(down @ grid @ across)
    return maps


@torch.inference_mode()
def image_scores(errors: Tensor, size: int, config: ScoreConfig) -> Tensor:
    """Error grids ``[B, h, w]`` to scores ``[B]`` float64, from the pooled map.

    Its maximum, or the mean over the highest ``top_share`` of its values (at least one).
    """
    down = score_matrix(errors.shape[1], size, config)
    across = score_matrix(errors.shape[2], size, config).T
    pooled = (down @ grid.double() @ across for grid in errors)
    if config.reduction == "max":
        return torch.stack([values.amax() for values in pooled])
    count = max(1, round(config.top_share * len(down) * across.shape[1]))
    return torch.stack([values.flatten().topk(count).values.mean() for values in pooled])
