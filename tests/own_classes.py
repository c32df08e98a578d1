"""Detectors of somebody's own, as ``own_classes:Power`` and so on."""

from typing import Any, ClassVar

import numpy as np
import torch

from pseudoval.detectors import Parameter


class Power:
    """Difference to the mean image, to a power, in some of the colours; no fit parameter."""

    parameters = (
        Parameter("power", grid=(0.5, 1.0, 2.0), default=1.0, low=0.05, high=5, log=True),
        Parameter("colours", grid=("0", "1,2", "0,1,2")),
        Parameter("cell", grid=(4, 8), low=1, high=16),
    )

    def fit(self, images: Any) -> dict[str, np.ndarray]:
        return {"mean": np.mean([image.astype(float) for image in images], axis=0)}

    def score(self, loaded: Any, image: Any, *, power: float, colours: str, cell: int) -> Any:
        chosen = [int(channel) for channel in colours.split(",")]
        far = np.abs(image - loaded["mean"])[::cell, ::cell][:8, :8, chosen]
        return (np.resize(far.mean(axis=2), (8, 8)) / 255) ** power


class Scaled:
    """A torch network that is fitted once a ``side``; it counts what it is asked for."""

    parameters: ClassVar[list[Parameter]] = [
        Parameter("factor", grid=(0.5, 1.0, 4.0)),
        Parameter("pooling", grid=("mean", "max")),
        Parameter("side", grid=(4, 8), needs_fit=True),
    ]
    counted: ClassVar[list[str]] = []
    seed: int
    device: str

    def fit(self, images: Any, *, side: int) -> dict[str, Any]:
        self.counted.append(f"fit {side}")
        small = torch.stack([self.seen(image, side) for image in images])
        network = torch.nn.Linear(3, 3)  # drawn by the global state
        return {"network": network.state_dict(), "mean": small.mean(0).numpy(), "side": side}

    def load(self, state: dict[str, Any]) -> Any:
        self.counted.append(f"load {state['side']}")
        network = torch.nn.Linear(3, 3)
        network.load_state_dict(state["network"])
        return network, torch.from_numpy(state["mean"]), state["side"]

    def score(self, loaded: Any, image: Any, *, factor: float, pooling: str) -> Any:
        network, mean, side = loaded
        with torch.no_grad():
            far = network(self.seen(image, side)) - network(mean)
        found = factor * far.abs().sum(2) ** factor
        return found if pooling == "max" else (found.mean(), found)

    def seen(self, image: Any, side: int) -> torch.Tensor:
        """``[side, side, 3]`` in [0, 1]."""
        step = image.shape[0] // side
        return torch.from_numpy(image[::step, ::step].copy()).float() / 255


class Together(Scaled):
    """The same, with shared work and without maps."""

    def score(self, loaded: Any, image: Any, *, factor: float, pooling: str) -> float:
        found = super().score(loaded, image, factor=factor, pooling=pooling)
        return float(found.max() if pooling == "max" else found[0])

    def score_many(self, loaded: Any, image: Any, configurations: Any) -> list[float]:
        return [self.score(loaded, image, **one) for one in configurations]


class Falling(Power):
    """Scores that fall with anomaly."""

    parameters = Power.parameters[:1]

    def score(self, loaded: Any, image: Any, *, power: float) -> float:  # type: ignore[override]
        return -float((np.abs(image - loaded["mean"]) ** power).mean())
