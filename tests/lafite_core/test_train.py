import dataclasses
from pathlib import Path

import pytest
import torch

from lafite_core.config import LafiteConfig, TrainConfig, UNetConfig
from lafite_core.errors import LafiteError
from lafite_core.train import total_epochs, train_unet

CONFIG = LafiteConfig(
    unet=UNetConfig(base_channels=16, multipliers=(1, 2), attention_levels=(1,), head_channels=8),
    train=TrainConfig(
        epochs=6, min_steps=0, batch_size=4, learning_rate=1e-3, checkpoint_seconds=0
    ),
)


def features() -> torch.Tensor:
    return torch.randn(10, 6, 5, 5, generator=torch.Generator().manual_seed(0))


class Stop(Exception):
    pass


def stop_after(epochs: int):  # type: ignore[no-untyped-def]
    def hook(done: int, total: int, loss: float) -> None:
        if done > epochs:
            raise Stop

    return hook


def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, losses = train_unet(features(), CONFIG, seed=1)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train_unet(features(), CONFIG, seed=1, checkpoint=path, key="a", hook=stop_after(3))
    again: list[int] = []
    resumed, resumed_losses = train_unet(
        features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True,
        hook=lambda done, total, loss: again.append(done),
    )  # fmt: skip
    assert again == [4, 5, 6], "three finished epochs are not trained again"
    assert resumed_losses == losses
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_same_seed_same_network_and_global_state_untouched() -> None:
    state = torch.get_rng_state()
    one, _ = train_unet(features(), CONFIG, seed=1)
    torch.randn(3)
    two, _ = train_unet(features(), CONFIG, seed=1)
    other, _ = train_unet(features(), CONFIG, seed=2)
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.entry.weight, other.entry.weight)
    torch.set_rng_state(state)
    train_unet(features(), CONFIG, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_lowers_the_loss() -> None:
    """One fixed map: its noise can be told exactly, so the loss must fall well below 1."""
    still = features()[:1].expand(8, -1, -1, -1)
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=150))
    _, losses = train_unet(still, config, seed=0)
    assert losses[0] > 0.8
    assert sum(losses[-20:]) / 20 < 0.5


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train_unet(features(), CONFIG, seed=1, checkpoint=path, key="a", hook=stop_after(2))
    with pytest.raises(LafiteError, match="another training"):
        train_unet(features(), CONFIG, seed=1, checkpoint=path, key="b", resume=True)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LafiteError, match="damaged"):
        train_unet(features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True)


def test_a_loss_that_is_not_a_number_stops_the_training() -> None:
    broken = features()
    broken[3] = float("nan")
    with pytest.raises(LafiteError, match="epoch 1, step"):
        train_unet(broken, CONFIG, seed=0)


def test_small_sets_get_their_steps() -> None:
    config = TrainConfig(epochs=200, min_steps=2000, batch_size=16)
    assert total_epochs(config, 160) == 200
    assert total_epochs(config, 16) == 2000
    assert total_epochs(dataclasses.replace(config, min_steps=0), 16) == 200
