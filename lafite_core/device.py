"""What a device asks for: the arithmetic it is good at, and memory that may run out."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from lafite_core.config import FeaturePrecision, Precision

Result = TypeVar("Result")


def uses_bfloat16(precision: Precision, device: str) -> bool:
    """Whether a precision option means bfloat16 on ``device`` (``cpu``, ``cuda``, ``cuda:1``)."""
    if precision == "auto":
        return device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def autocast(precision: Precision, device: str) -> torch.autocast:
    """The autocast context of a precision option; does nothing for float32."""
    return torch.autocast(
        torch.device(device).type, torch.bfloat16, enabled=uses_bfloat16(precision, device)
    )


def reduced(precision: FeaturePrecision, device: str) -> torch.autocast:
    """The autocast context of the backbone's precision; does nothing for float32."""
    kind = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(torch.device(device).type, kind, enabled=precision != "float32")


def exact_convolutions(device: str) -> AbstractContextManager[Any]:
    """float32 convolutions as they are named, by the same algorithm every time.

    On a GPU cuDNN otherwise rounds their inputs to 10 bits (TF32), and may choose an algorithm
    whose sums come in another order the next time.
    """
    if not device.startswith("cuda"):
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


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
