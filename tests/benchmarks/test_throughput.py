"""Operations are counted, not guessed."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lafite_core.config import LafiteConfig, UNetConfig, preset
from throughput import training_flops


def test_a_convolution_counts_two_operations_per_weight_and_position() -> None:
    """Forward once, backward twice (the input's gradient too), as the counter is used here."""
    layer, x = nn.Conv2d(4, 8, 3, 1, 1), torch.zeros(1, 4, 10, 10, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 4 * 8 * 9 * 100


def test_operations_grow_with_the_square_of_the_width() -> None:
    narrow, wide = (
        training_flops(
            LafiteConfig(
                unet=UNetConfig(base_channels=base, attention_levels=(), linear_channels=0)
            )
        )
        for base in (64, 128)
    )
    assert wide / narrow == pytest.approx(4, rel=0.1)


def test_the_paper_preset_takes_what_is_said_of_it() -> None:
    """About 200 GFLOP per image and step at 32 x 32."""
    paper = preset("paper")
    assert training_flops(paper) == pytest.approx(200e9, rel=0.1)
    small = dataclasses.replace(paper, features=dataclasses.replace(paper.features, grid=14))
    assert 4.5 < training_flops(paper) / training_flops(small) < 6
