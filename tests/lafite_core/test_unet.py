import pytest
import torch

from lafite_core.config import LafiteConfig, UNetConfig, preset
from lafite_core.errors import LafiteError
from lafite_core.unet import UNet, timestep_embedding

SMALL = UNetConfig(base_channels=16, multipliers=(1, 2, 3, 4), head_channels=8)


def shaken(channels: int, config: UNetConfig) -> UNet:
    """A network whose zero-initialised layers are not zero, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    network = UNet(channels, config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (7, 7), (14, 14), (13, 16), (32, 32)])
def test_any_grid_keeps_its_shape(grid: tuple[int, int]) -> None:
    out = shaken(10, SMALL)(torch.randn(2, 10, *grid), torch.tensor([1, 900]))
    assert out.shape == (2, 10, *grid)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("blocks", "linear"), [(1, 4), (2, 0)])
def test_every_parameter_is_used(blocks: int, linear: int) -> None:
    config = UNetConfig(base_channels=16, blocks=blocks, head_channels=8, linear_channels=linear)
    network = UNet(6, config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network(torch.randn(2, 6, 8, 8), torch.tensor([5, 500])).square().sum().backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias in front of a normalisation over its own group, and the keys' bias in a softmax,
    # cannot change the output; nothing else may be without a gradient.
    assert [name for name in unused if "qkv.bias" not in name] == []


@pytest.mark.parametrize(("linear", "width"), [(None, 6), (4, 4)])
def test_the_linear_path_is_as_wide_as_the_features(linear: int | None, width: int) -> None:
    network = UNet(6, UNetConfig(base_channels=16, head_channels=8, linear_channels=linear))
    assert network.linear is not None
    assert network.linear.gain.out_features == width


def test_output_depends_on_the_timestep() -> None:
    network, x = shaken(6, SMALL), torch.randn(1, 6, 8, 8)
    assert not torch.equal(network(x, torch.tensor([10])), network(x, torch.tensor([500])))


def test_untrained_network_predicts_no_noise() -> None:
    network = UNet(6, SMALL).eval()
    out = network(torch.randn(1, 6, 8, 8), torch.tensor([10]))
    assert torch.allclose(out, network.exit[-1].bias[None, :, None, None].expand_as(out))


def test_a_sample_does_not_see_its_batch() -> None:
    """Bit-equal whatever else is in the batch and at whatever place."""
    network = shaken(12, SMALL)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 12, 14, 14, generator=generator)
    t = torch.randint(1, 1000, (8,), generator=generator)
    base = network(x, t)
    for shift in (1, 3, 6):
        assert torch.equal(network(x.roll(shift, 0), t.roll(shift)).roll(-shift, 0), base)
    alone = network(torch.cat([x[:1], torch.zeros(7, 12, 14, 14)]), t)
    assert torch.equal(alone[0], base[0])


def test_embedding_golden_values() -> None:
    out = timestep_embedding(torch.tensor([0, 1]), 4)
    assert torch.allclose(out[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.allclose(out[1], torch.tensor([0.5403, 0.99995, 0.84147, 0.0099998]), atol=1e-4)


def test_presets_and_their_round_trip() -> None:
    paper = preset("paper")
    assert (paper.unet.base_channels, paper.unet.multipliers) == (256, (1, 2, 3, 4))
    assert (paper.diffusion.steps, paper.train.epochs, paper.train.batch_size) == (1000, 1000, 64)
    for name in ("cpu", "paper", "demo"):
        assert LafiteConfig.from_json(preset(name).to_json()) == preset(name)
    with pytest.raises(LafiteError, match="presets are"):
        preset("tpu")
    other = preset("cpu").to_json()
    other["unet"]["width"] = 3
    with pytest.raises(LafiteError, match=r"unknown option unet\.width"):
        LafiteConfig.from_json(other)


def test_narrow_network_can_predict_wide_noise() -> None:
    """With the linear path, noise of 40 channels passes a network that is 8 channels wide."""
    losses = {}
    for linear in (40, 0):
        config = UNetConfig(
            base_channels=8, multipliers=(1,), attention_levels=(), head_channels=8,
            linear_channels=linear,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        network = UNet(40, config)
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(150):
            noise = torch.randn(8, 40, 4, 4, generator=generator)
            loss = (network(noise, torch.full((8,), 900)) - noise).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses[linear] = float(loss.detach())
    assert losses[40] < 0.2
    assert losses[0] > 0.6, "8 of 40 dimensions explain a fifth of the variance"
