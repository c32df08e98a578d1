"""What a device asks for: the arithmetic it is good at, and memory that may run out."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor

from lafite_core.config import FixedPrecision, Precision

Result = TypeVar("Result")


def uses_bfloat16(precision: Precision, device: str) -> bool:
    """Whether a precision option means bfloat16 on ``device`` (``cpu``, ``cuda``, ``cuda:1``)."""
    if precision == "auto":
        return device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def autocast(precision: Precision | FixedPrecision, device: str) -> torch.autocast:
    """The autocast context of a precision option; does nothing for float32."""
    kind = torch.device(device).type
    if precision == "float16":
        return torch.autocast(kind, torch.float16)
    return torch.autocast(kind, torch.bfloat16, enabled=uses_bfloat16(precision, device))


def exact_convolutions(device: str) -> AbstractContextManager[Any]:
    """float32 convolutions as they are named, by the same algorithm every time.

    On a GPU cuDNN otherwise rounds their inputs to 10 bits (TF32), and may choose an algorithm
    whose sums come in another order the next time.
    """
    if not device.startswith("cuda"):
        return nullcontext()
    options: dict[str, Any] = {"allow_tf32": False}
    if "fp32_precision" in signature(torch.backends.cudnn.flags).parameters:  # torch 2.9 and later
        options["fp32_precision"] = "ieee"
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, **options)


def to_device(tensor: Tensor, device: str) -> Tensor:
    """A tensor of the CPU on ``device``, which nobody waits for.

    The copy is made from pinned memory, and work on the GPU lines up behind it.
    """
    if not device.startswith("cuda"):
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def near(tensor: Tensor, device: str) -> Tensor:
    """The tensor on ``device``, if it takes no more than half of the free memory there."""
    if not device.startswith("cuda"):
        return tensor
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if tensor.nbytes <= free / 2 else tensor


def halving(
    work: Callable[[int], Result],
    size: int,
    *,
    halved: Callable[[int, int], None] | None = None,
    make_room: Callable[[], bool] = lambda: False,
) -> Result:
    """``work(size)``, repeated with half the size for as long as memory runs out.

    Args:
        halved: called with the size that memory did not hold and the one that is tried next.
        make_room: gives back memory that others hold; where it says that there was some, the same
            size is tried again.

    Raises:
        torch.OutOfMemoryError: memory does not hold a size of 1 either.
    """
    while True:
        try:
            return work(size)
        except torch.OutOfMemoryError as error:
            last = error.with_traceback(None)  # which would keep the failed attempt alive
        roomier = make_room()
        torch.cuda.empty_cache()
        if roomier:
            continue
        if size == 1:
            raise last
        if halved is not None:
            halved(size, (size + 1) // 2)
        size = (size + 1) // 2
