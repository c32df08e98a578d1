"""The noise predictor as a device runs it when scoring."""

import copy
import logging
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn

from lafite_core.config import FixedPrecision, ScoreConfig
from lafite_core.device import autocast, exact_convolutions
from lafite_core.unet import UNet

LOG = logging.getLogger(__name__)
Call = Callable[[Tensor, Tensor], Tensor]
_ALL: "WeakSet[Predictor]" = WeakSet()


def scoring_precision(config: ScoreConfig, device: str) -> FixedPrecision:
    """The arithmetic that ``score.precision`` means on a device."""
    if config.precision == "auto":
        return "float16" if device.startswith("cuda") else "float32"
    return config.precision


class Predictor:
    """Calls the network on a CPU as it is; on a GPU a copy of it, made when it is first called.

    The copy is channels-last, has the weights of its products in the precision of scoring, and is
    compiled. All calls should have one shape: another one is compiled anew.

    Attributes:
        unet: in float32 on the CPU, where it stays.
        piece: trajectories that a GPU's memory was found to hold at once; None is a whole batch.
    """

    def __init__(self, unet: UNet, device: str) -> None:
        self.unet = unet
        self.device = device
        self.piece: int | None = None
        self._made: tuple[ScoreConfig, UNet] | None = None
        self._compiled: Call | None = None
        _ALL.add(self)

    def __call__(self, x: Tensor, t: Tensor, config: ScoreConfig) -> Tensor:
        """The prediction for ``[B, C, h, w]`` at timesteps ``[B]``, in float32."""
        precision = scoring_precision(config, self.device)
        with autocast(precision, self.device), exact_convolutions(self.device):
            if self.device == "cpu":
                return self.unet(x, t).float()
            return self._on_device(x.contiguous(memory_format=torch.channels_last), t, config)

    def _on_device(self, x: Tensor, t: Tensor, config: ScoreConfig) -> Tensor:
        if self._made is None or self._made[0] != config:
            self._made = self._compiled = None  # makes room for the new one
            self._made = config, self._copy(config)
            if config.compile == "auto":
                self._compiled = torch.compile(self._made[1], dynamic=False)
        network = self._made[1]
        if self._compiled is not None:
            try:
                return self._compiled(x, t).float()
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
        found: Tensor = network(x, t).float()  # an error that is not the compiler's comes again
        if self._compiled is not None:
            self._compiled = None
            LOG.warning(
                "torch.compile does not work here (%s); scoring goes on without it.",
                reason[0][:100],
            )
        return found

    def make_room(self) -> bool:
        """Take the copies of all other networks off the device; whether there were any.

        They are made again when they are called.
        """
        others = [
            one
            for one in _ALL
            if one is not self and one.device == self.device and one._made is not None
        ]
        for one in others:
            one._made = one._compiled = None
        return bool(others)

    def _copy(self, config: ScoreConfig) -> UNet:
        network = copy.deepcopy(self.unet)
        precision = scoring_precision(config, self.device)
        if precision != "float32":
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(getattr(torch, precision))
        return network.to(self.device).to(memory_format=torch.channels_last)
