"""A loaded state is the saved one, in the layout that the optimiser works in."""

from pathlib import Path

import pytest
import torch
from tiny_training import CONFIG

from lafite_core.checkpoint import TrainState, load_checkpoint, save_checkpoint
from lafite_core.unet import UNet


def fresh(layout: torch.memory_format) -> TrainState:
    networks = [UNet(6, CONFIG.unet).to(memory_format=layout) for _ in range(2)]
    optimiser = torch.optim.AdamW(networks[0].parameters(), fused=True)
    return TrainState(network=networks[0], average=networks[1], optimiser=optimiser)


def step(state: TrainState, layout: torch.memory_format) -> None:
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    state.optimiser.zero_grad()
    state.network(x.contiguous(memory_format=layout), torch.arange(4)).square().mean().backward()
    state.optimiser.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_fused_optimiser_goes_on_from_what_was_saved(
    tmp_path: Path, layout: torch.memory_format
) -> None:
    path, state = tmp_path / "checkpoint.safetensors", fresh(layout)
    for parameter in state.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    step(state, layout)
    state.losses, state.norms = [0.25], [1.5]
    save_checkpoint(state, path, "key")
    again = fresh(layout)
    load_checkpoint(again, path, "key")
    assert (again.losses, again.norms, again.epoch) == ([0.25], [1.5], 1)
    for parameter, slot in again.optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert slot[name].stride() == parameter.stride()
    for both in (state, again):
        step(both, layout)
    pairs = zip(state.network.parameters(), again.network.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
