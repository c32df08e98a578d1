"""A fixed bank of multi-scale oriented filters: a feature extractor without learned weights.

Colour, edge and line energies at several scales are what the first stages of trained networks
and of classical texture models (Leung and Malik 2001; the MR8 bank of Varma and Zisserman 2005)
agree on. It exists so that the whole road runs without a download; it is not a substitute for a
trained backbone on real images.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lafite_core.device import to_device

ORIENTATIONS = 4
STAGES = 4
WINDOW = 8
# Energies below one grey level of 256 are noise; the logarithm flattens out there.
GREY_LEVEL = 1 / 255
# Orthogonal opponent axes: intensity, red against green, yellow against blue.
OPPONENT = torch.tensor(
    [[1 / 3, 1 / 3, 1 / 3], [1 / 2, -1 / 2, 0.0], [1 / 4, 1 / 4, -1 / 2]], dtype=torch.float32
)


def gaussian_kernel(sigma: float) -> Tensor:
    """Normalised 1-D Gaussian ``[2 * ceil(3 sigma) + 1]``."""
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return (kernel / kernel.sum()).float()


def smooth(images: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of ``[B, C, H, W]`` with mirrored borders; sigma in pixels, 0 is none."""
    if sigma == 0:
        return images
    kernel = gaussian_kernel(sigma)
    radius = len(kernel) // 2
    channels = images.shape[1]
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = len(kernel)
        weight = to_device(kernel, str(images.device)).reshape(shape).expand(channels, *[-1] * 3)
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        mode = "reflect" if radius < images.shape[axis] else "replicate"
        images = F.conv2d(F.pad(images, pad, mode=mode), weight, groups=channels)
    return images


def oriented_filters(sigma: float) -> Tensor:
    """First and second Gaussian derivatives at ``ORIENTATIONS`` angles, ``[2 * O, 1, n, n]``.

    Each has zero mean and unit L1 norm, so that responses are in grey levels and comparable
    between scales.
    """
    radius = math.ceil(3 * sigma)
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bank = []
    for order in (1, 2):
        for o in range(ORIENTATIONS):
            angle = math.pi * o / ORIENTATIONS
            u = (x * math.cos(angle) + y * math.sin(angle)) / sigma
            v = (-x * math.sin(angle) + y * math.cos(angle)) / sigma
            envelope = torch.exp(-0.5 * (u**2 + v**2))
            kernel = envelope * (-u if order == 1 else u**2 - 1)
            kernel = kernel - kernel.mean()
            bank.append(kernel / kernel.abs().sum())
    return torch.stack(bank)[:, None].float()


class FilterBank:
    """Stages 1 to 4 at scales of 1, 2, 4 and 8 pixels; see ``Backbone`` for the interface.

    Stage s works on the image smoothed and subsampled s - 1 times. Its 15 channels are local
    energies: of the three opponent colours (band-pass), and of the intensity four edge energies,
    four of bright lines and four of dark lines, one per orientation. An energy is the mean square
    over ``WINDOW`` pixels, on a logarithmic scale: there a change of light is an offset instead of
    a factor, and a faint defect on an even surface counts as much as a strong one on a rough one.
    The last stage adds the three mean colours.
    """

    def __init__(self, stages: Sequence[int]) -> None:
        self.stages = tuple(stages)
        energies = 3 + 3 * ORIENTATIONS
        self.channels = [energies + (3 if stage == STAGES else 0) for stage in self.stages]
        self.mean = (0.0, 0.0, 0.0)
        self.std = (1.0, 1.0, 1.0)
        self.filters = oriented_filters(1.0)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """RGB ``[B, 3, H, W]`` in [0, 1] to one ``[B, 15 or 18, H / 8, W / 8]`` per stage."""
        level = torch.einsum("oc,bchw->bohw", to_device(OPPONENT, str(images.device)), images)
        maps: dict[int, Tensor] = {}
        for stage in range(1, max(self.stages) + 1):
            if stage > 1:
                level = F.avg_pool2d(smooth(level, 1.0), 2, ceil_mode=True)
            window = WINDOW >> (stage - 1)
            energy = F.avg_pool2d(self.responses(level).square(), window, ceil_mode=True)
            maps[stage] = torch.log(energy + GREY_LEVEL**2)
            if stage == STAGES:
                maps[stage] = torch.cat([maps[stage], level], dim=1)
        return [maps[stage] for stage in self.stages]

    def responses(self, level: Tensor) -> Tensor:
        """Opponent image ``[B, 3, H, W]`` to its 15 responses ``[B, 15, H, W]``."""
        radius = self.filters.shape[-1] // 2
        mode = "reflect" if radius < min(level.shape[-2:]) else "replicate"
        padded = F.pad(level[:, :1], (radius,) * 4, mode=mode)
        edges, lines = F.conv2d(padded, to_device(self.filters, str(level.device))).chunk(2, dim=1)
        return torch.cat([level - smooth(level, 2.0), edges, F.relu(-lines), F.relu(lines)], dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is learned."""
        return {}
