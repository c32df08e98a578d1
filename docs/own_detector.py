"""A detector of one's own: a small network that repaints an image from a thumbnail of it.

    cd docs
    pseudoval build DATA
    pseudoval check-detector own_detector:Repaint DATA
    pseudoval train DATA --detector own_detector:Repaint
    pseudoval tune
    pseudoval evaluate run DATA
    pseudoval report run

Trained on normal images alone, it repaints what it has seen; where an image looks otherwise, by
more than the normals did on average at that place, there is an anomaly. ``width`` needs a new fit,
``blur`` and ``error`` do not.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pseudoval.detectors import Parameter

SIDE, STEPS, BATCH, FLOOR = 64, 60, 8, 0.02


class Repaint:
    """A convolutional network, and how far its picture is from the image."""

    parameters = (
        Parameter("blur", grid=(0.5, 1.0, 2.0, 4.0), meaning="of the map, in cells"),
        Parameter("error", grid=("absolute", "squared"), meaning="of a pixel"),
        Parameter("width", grid=(4, 8), needs_fit=True, meaning="channels of the network"),
    )
    seed: int
    device: str

    def fit(self, images: Sequence[np.ndarray], *, width: int) -> dict[str, Any]:
        """Train on the normals; the global random states are seeded already."""
        network = painter(width).to(self.device)
        normals = torch.stack([as_tensor(image) for image in images]).to(self.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(STEPS):
            batch = normals[torch.randint(len(normals), (BATCH,))]
            loss = residual(network, batch).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            usual = torch.stack([residual(network, one[None])[0].abs() for one in normals]).mean(0)
        return {"network": network.state_dict(), "usual": usual, "width": width}

    def load(self, state: dict[str, Any]) -> tuple[nn.Module, Tensor]:
        """The network, once in a process, and the usual error of each pixel."""
        network = painter(state["width"])
        network.load_state_dict(state["network"])
        return network.to(self.device).eval(), state["usual"].to(self.device)

    def score(self, loaded: Any, image: np.ndarray, *, blur: float, error: str) -> Any:
        """The mean of the highest hundredth of the anomaly map, and the map."""
        network, usual = loaded
        with torch.no_grad():
            far = residual(network, as_tensor(image)[None].to(self.device))[0].abs()
        ratio = (far / (usual + FLOOR)).mean(dim=0).cpu().numpy()
        anomaly = cv2.GaussianBlur(ratio**2 if error == "squared" else ratio, (0, 0), blur)
        return np.sort(anomaly.ravel())[-anomaly.size // 100 :].mean(), anomaly


def painter(width: int) -> nn.Module:
    """What a blurred image lacks."""
    return nn.Sequential(
        nn.Conv2d(3, width, 5, padding=2), nn.ReLU(),
        nn.Conv2d(width, width, 5, padding=2), nn.ReLU(),
        nn.Conv2d(width, 3, 5, padding=2),
    )  # fmt: skip


def residual(network: nn.Module, images: Tensor) -> Tensor:
    """``[B, 3, SIDE, SIDE]``: an image minus what is painted over its thumbnail."""
    small = functional.avg_pool2d(images, 8)
    rough = functional.interpolate(small, size=SIDE, mode="bilinear", align_corners=False)
    return images - rough - network(rough)


def as_tensor(image: np.ndarray) -> Tensor:
    """``[3, SIDE, SIDE]`` float32 in [0, 1]."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1).float() / 255
