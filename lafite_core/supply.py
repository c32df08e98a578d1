"""The features that a training draws its batches from, as near to the device as memory allows."""

import torch
from torch import Tensor

LEFT = 4
"""One in this many bytes that are free beside the training is left free, for what libraries ask."""


class Supply:
    """Batches of training features ``[N, C, h, w]`` float32 of the CPU, on a device.

    Nothing waits for the device: until ``settle`` finds room for all of them there, every batch is
    gathered in pinned memory, which torch keeps and uses again once it was copied, and copied while
    the device works on the batch before.

    Args:
        half: whether 16 bits will do, because the network computes in 16 bits.

    Attributes:
        features: where they are now.
        kind: ``float32`` or ``float16``.
    """

    def __init__(self, features: Tensor, device: str, *, half: bool) -> None:
        self.features = features
        self.device = device
        self.half = half
        self._settled = device == "cpu"

    @property
    def kind(self) -> str:
        return str(self.features.dtype).removeprefix("torch.")

    def batch(self, rows: Tensor) -> Tensor:
        """Those of ``rows`` ``[B]`` (which are where the features are): float32 on the device."""
        if self.device == "cpu" or self.features.is_cuda:
            return self.features[rows].float()
        pinned = torch.empty((len(rows), *self.features.shape[1:]), pin_memory=True)
        torch.index_select(self.features, 0, rows, out=pinned)
        return pinned.to(self.device, non_blocking=True)

    def settle(self) -> None:
        """Bring all features to the device if they fit into the memory that is left there.

        To be called once the training has taken what it needs: a step has been made.
        """
        if self._settled:
            return
        self._settled = True
        free, _ = torch.cuda.mem_get_info(self.device)
        for kind in (torch.float32, torch.float16) if self.half else (torch.float32,):
            if self.features.numel() * kind.itemsize <= free * (1 - 1 / LEFT):
                there = torch.empty(self.features.shape, dtype=kind, device=self.device)
                for number, image in enumerate(self.features):
                    there[number].copy_(image)
                self.features = there
                return
