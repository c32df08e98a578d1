"""What to do when the memory of a GPU does not hold everything at once."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def near(tensor: Tensor, device: str) -> Tensor:
    """The tensor on ``device``, if it takes no more than half of the free memory there."""
    if not device.startswith("cuda"):
        return tensor
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if tensor.nbytes <= free / 2 else tensor


def halving(
    work: Callable[[int], Result], size: int, *, halved: Callable[[int, int], None] | None = None
) -> Result:
    """``work(size)``, repeated with half the size for as long as memory runs out.

    Args:
        halved: called with the size that memory did not hold and the one that is tried next.

    Raises:
        torch.OutOfMemoryError: memory does not hold a size of 1 either.
    """
    while True:
        try:
            return work(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Outside the handler, which would keep the tensors of the failed attempt alive.
        torch.cuda.empty_cache()
        if halved is not None:
            halved(size, (size + 1) // 2)
        size = (size + 1) // 2
