"""Which arithmetic an option means on which device."""

import pytest
import torch

from lafite_core import arithmetic
from lafite_core.arithmetic import autocast, exact_convolutions, uses_bfloat16


@pytest.mark.parametrize(
    ("precision", "device", "capable", "wanted"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda:1", True, True),
        ("auto", "cuda", False, False),
        ("bfloat16", "cpu", False, True),
        ("float32", "cuda", True, False),
    ],
)
def test_automatic_precision_is_bfloat16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, capable: bool, wanted: bool
) -> None:
    monkeypatch.setattr(arithmetic.torch.cuda, "is_bf16_supported", lambda: capable)
    assert uses_bfloat16(precision, device) is wanted  # type: ignore[arg-type]


def test_autocast_halves_products_only_where_asked() -> None:
    a = torch.ones(2, 2)
    for precision, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with autocast(precision, "cpu"):  # type: ignore[arg-type]
            assert (a @ a).dtype == kind


def test_exact_convolutions_are_a_matter_of_the_gpu_and_leave_no_trace() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    with exact_convolutions("cpu"):
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before
    with exact_convolutions("cuda:0"):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == before
