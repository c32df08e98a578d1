"""The network as a device runs it when scoring."""

import copy
import logging
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn

from lafite_core.config import FixedPrecision, ScoreConfig
from lafite_core.device import autocast, exact_convolutions

LOG = logging.getLogger(__name__)
Call = Callable[..., Tensor]
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
        network: in float32 on the CPU, where it stays.
        piece: maps that a GPU's memory was found to hold at once; None is a whole batch.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        self.network = network
        self.device = device
        self.piece: int | None = None
        self._made: tuple[ScoreConfig, nn.Module] | None = None
        self._compiled: Call | None = None
        _ALL.add(self)

    def __call__(self, config: ScoreConfig, x: Tensor, *more: Tensor) -> Tensor:
        """The prediction for ``[B, C, h, w]``, in float32; of a U-Net at timesteps ``[B]``."""
        precision = scoring_precision(config, self.device)
        with autocast(precision, self.device), exact_convolutions(self.device):
            if self.device == "cpu":
                found: Tensor = self.network(x, *more)
                return found.float()
            x = x.contiguous(memory_format=torch.channels_last)
            return self._on_device(config, x, *more)

    def _on_device(self, config: ScoreConfig, *inputs: Tensor) -> Tensor:
        if self._made is None or self._made[0] != config:
            self._made = self._compiled = None  # makes room for the new one
            self._made = config, self._copy(config)
            if config.compile == "auto":
                self._compiled = torch.compile(self._made[1], dynamic=False)
        network = self._made[1]
        if self._compiled is not None:
            try:
                return self._compiled(*inputs).float()
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                reason = str(error).strip().splitlines() or [type(error).__name__]
        found: Tensor = network(*inputs).float()  # an error that is not the compiler's comes again
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

    def _copy(self, config: ScoreConfig) -> nn.Module:
        network = copy.deepcopy(self.network)
        precision = scoring_precision(config, self.device)
        if precision != "float32":
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(getattr(torch, precision))
        return network.to(self.device).to(memory_format=torch.channels_last)
