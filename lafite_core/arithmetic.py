"""Which arithmetic the network runs in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from lafite_core.config import Precision


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
