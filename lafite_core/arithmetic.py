"""Which arithmetic the network runs in."""

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
