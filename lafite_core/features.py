"""Section 3.1: images to feature maps on one grid, standardised per channel."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lafite_core.backbones import Backbone
from lafite_core.config import FeatureConfig, Normalise, Resize
from lafite_core.device import autocast, exact_convolutions, halving, to_device
from lafite_core.errors import LafiteError
from lafite_core.parallel import single_threaded

# A channel that hardly varies over the normal images must not be blown up to unit variance.
MIN_STD = 1e-4


def preprocess(image: np.ndarray, size: int, device: str = "cpu") -> Tensor:
    """uint8 RGB ``[H, W, 3]`` of any size to ``[3, size, size]`` in [0, 1] on ``device``.

    Antialiased bilinear resizing of the whole image; the aspect ratio is not kept, so that a
    defect at the border is never cropped away.

    Raises:
        LafiteError: the array is not uint8 RGB.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise LafiteError(
            f"An image must be uint8 RGB [H, W, 3], not {image.dtype} {list(image.shape)}."
        )
    whole = to_device(torch.tensor(image), device)
    pixels = whole.permute(2, 0, 1)[None].float() / 255
    if image.shape[:2] != (size, size):
        pixels = F.interpolate(
            pixels, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    return pixels[0]


def aggregate(maps: list[Tensor], grid: int, resize: Resize) -> Tensor:
    """Stages ``[B, C_i, H_i, W_i]`` to one map ``[B, sum C_i, grid, grid]``."""
    size, antialias = (grid, grid), resize == "antialiased"
    return torch.cat(
        [
            F.interpolate(m, size, mode="bilinear", align_corners=False, antialias=antialias)
            for m in maps
        ],
        dim=1,
    )


GPU_BATCH = 8
"""Images of one pass on a GPU, which a single one leaves idle."""


class FeatureExtractor:
    """Images to unstandardised feature maps.

    On a CPU one image at a time with one thread: a matrix product may round differently at another
    place in a batch or on another number of threads, and features must depend on neither. Cores are
    kept busy by extracting several images side by side (``FeatureSource``). On a GPU every pass is
    one of ``batch`` images, the last one padded, so that features do not depend on how many there
    are.

    Attributes:
        batch: images of a pass; halved where a GPU's memory does not hold them.
    """

    def __init__(self, backbone: Backbone, config: FeatureConfig, device: str = "cpu") -> None:
        self.backbone = backbone
        self.config = config
        self.device = device
        self.batch = 1 if device == "cpu" else GPU_BATCH
        self.channels = sum(backbone.channels)
        shape = (1, 3, 1, 1)
        mean, std = config.mean or backbone.mean, config.std or backbone.std
        self._mean = torch.tensor(mean, device=device).reshape(shape)
        self._std = torch.tensor(std, device=device).reshape(shape)
        if isinstance(backbone, torch.nn.Module):
            backbone.to(device).to(memory_format=torch.channels_last)

    def extract(self, image: np.ndarray) -> Tensor:
        """uint8 RGB ``[H, W, 3]`` to ``[C, grid, grid]`` float32 on the CPU."""
        return self.extract_all([image])[0]

    def extract_all(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """uint8 RGB ``[H, W, 3]`` each to ``[C, grid, grid]`` float32 on the CPU.

        Raises:
            LafiteError: a GPU's memory does not hold a single image.
        """

        def in_batches(size: int) -> list[Tensor]:
            self.batch = size
            parts = [images[at : at + size] for at in range(0, len(images), size)]
            return [*torch.cat([self._pass(part) for part in parts]).cpu()] if parts else []

        try:
            return halving(in_batches, self.batch)
        except torch.OutOfMemoryError:
            raise LafiteError(
                "The GPU's memory does not hold the backbone and one image; use --device cpu, or "
                "free memory on the GPU."
            ) from None

    @torch.inference_mode()
    def _pass(self, images: Sequence[np.ndarray]) -> Tensor:
        """Features of at most ``batch`` images, on the device."""
        with single_threaded(self.device):
            size = self.config.image_size
            pixels = [preprocess(image, size, self.device) for image in images]
            pixels += [pixels[-1]] * (self.batch - len(images))
            whole = (torch.stack(pixels) - self._mean) / self._std
            with exact_convolutions(self.device), autocast(self.config.precision, self.device):
                maps = self.backbone(whole.contiguous(memory_format=torch.channels_last))
            features = aggregate([m.float() for m in maps], self.config.grid, self.config.resize)
            return features[: len(images)].contiguous()


class Standardiser:
    """Scale of the features over all normal training patches; see ``FeatureConfig.normalise``."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std

    @classmethod
    def fit(cls, features: Tensor, normalise: Normalise = "channel") -> "Standardiser":
        """From ``[N, C, h, w]``, in float64, image by image to keep memory flat."""
        channels = features.shape[1]
        if normalise == "none":
            return cls(torch.zeros(channels), torch.ones(channels))
        total = torch.zeros(channels, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for image in features:
            values = image.flatten(1).double()
            total += values.sum(1)
            squares += (values**2).sum(1)
        count = features.shape[0] * features.shape[2] * features.shape[3]
        mean, squares = total / count, squares / count
        if normalise == "global":
            mean, squares = (v.mean().expand(channels).clone() for v in (mean, squares))
        variance = (squares - mean**2).clamp_min(0)
        return cls(mean.float(), variance.sqrt().clamp_min(MIN_STD).float())

    def to(self, device: str) -> "Standardiser":
        """The same on a device."""
        return Standardiser(self.mean.to(device), self.std.to(device))

    def __call__(self, features: Tensor) -> Tensor:
        """``[..., C, h, w]`` to the same shape, standardised."""
        return (features - self.mean[:, None, None]).div_(self.std[:, None, None])


def patches(features: Tensor) -> Tensor:
    """``[N, C, h, w]`` to patch vectors ``[N * h * w, C]``, contiguous, row-major in h, w."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1]).contiguous()


def standardised_patches(features: Tensor, standardiser: Standardiser) -> Tensor:
    """``[N, C, h, w]``, which may be memory-mapped, to standardised patches ``[N * h * w, C]``."""
    cells = features.shape[2] * features.shape[3]
    out = torch.empty(len(features) * cells, features.shape[1])
    for number, image in enumerate(features):
        out[number * cells : (number + 1) * cells] = patches(standardiser(image)[None])
    return out
