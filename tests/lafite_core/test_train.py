import csv
import dataclasses
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_training import CONFIG, features, with_train

from lafite_core.config import LafiteConfig, Target, TrainConfig
from lafite_core.errors import LafiteError
from lafite_core.train import (
    KeepEpoch,
    Trained,
    last_epoch,
    learning_rate,
    total_epochs,
    train_network,
)


def with_target(target: Target) -> LafiteConfig:
    return dataclasses.replace(
        CONFIG, diffusion=dataclasses.replace(CONFIG.diffusion, target=target)
    )


class Stop(Exception):
    pass


def stop_after(epochs: int):  # type: ignore[no-untyped-def]
    def hook(done: int, total: int, loss: float) -> None:
        if done > epochs:
            raise Stop

    return hook


def equal(one: Trained, two: Trained) -> bool:
    pairs = zip(one.network.parameters(), two.network.parameters(), strict=True)
    return one.losses == two.losses and all(torch.equal(a, b) for a, b in pairs)


def half_trained(folder: Path) -> Path:
    path = folder / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train_network(features(), CONFIG, seed=1, checkpoint=path, key="a", hook=stop_after(3))
    return path


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, dropout: float) -> None:
    config = dataclasses.replace(CONFIG, unet=dataclasses.replace(CONFIG.unet, dropout=dropout))
    whole = train_network(features(), config, seed=1, log=tmp_path / "whole.csv")
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train_network(features(), config, seed=1, checkpoint=path, key="a", hook=stop_after(3))
    again: list[int] = []
    resumed = train_network(
        features(), config, seed=1, checkpoint=path, key="a", resume=True,
        hook=lambda done, total, loss: again.append(done), log=tmp_path / "resumed.csv",
    )  # fmt: skip
    assert again == [4, 5, 6], "three finished epochs are not trained again"
    assert equal(whole, resumed)
    logs = [(tmp_path / name).read_bytes() for name in ("whole.csv", "resumed.csv")]
    assert logs[0] == logs[1]


def test_kept_epochs_are_those_of_an_uninterrupted_training(tmp_path: Path) -> None:
    config = with_train(keep_epochs=(2, 5))
    path, whole, parts = tmp_path / "checkpoint.safetensors", {}, {}

    def into(found: dict[int, list[torch.Tensor]]) -> KeepEpoch:
        def keep(epoch: int, network: torch.nn.Module) -> None:
            found[epoch] = [p.detach().clone() for p in network.parameters()]

        return keep

    train_network(features(), config, seed=1, keep=into(whole))
    options = {"seed": 1, "checkpoint": path, "key": "a", "keep": into(parts)}
    with pytest.raises(Stop):
        train_network(features(), config, hook=stop_after(3), **options)  # type: ignore[arg-type]
    assert [*parts] == [2]
    train_network(features(), config, resume=True, **options)  # type: ignore[arg-type]
    assert [*whole] == [*parts] == [2, 5]
    assert all(a.equal(b) for n in (2, 5) for a, b in zip(whole[n], parts[n], strict=True))
    stopped = train_network(features(), with_train(stop_epoch=5), seed=1)
    assert all(a.equal(b) for a, b in zip(whole[5], stopped.network.parameters(), strict=True))


def test_an_epoch_beyond_the_end_is_refused() -> None:
    assert last_epoch(with_train(stop_epoch=4).train, 6) == 4
    for options in (
        {"keep_epochs": (2, 7)},
        {"stop_epoch": 7},
        {"stop_epoch": 3, "keep_epochs": (4,)},
    ):
        with pytest.raises(
            LafiteError, match=r"ends after epoch [63], and train\.(keep|stop)_epoch"
        ):
            train_network(features(), with_train(**options), seed=1)


def test_same_seed_same_network_and_global_state_untouched() -> None:
    state = torch.get_rng_state()
    one = train_network(features(), CONFIG, seed=1)
    torch.randn(3)
    two = train_network(features(), CONFIG, seed=1)
    other = train_network(features(), CONFIG, seed=2)
    assert equal(one, two)
    assert not torch.equal(one.network.entry.weight, other.network.entry.weight)
    torch.set_rng_state(state)
    train_network(features(), CONFIG, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("target", get_args(Target))
def test_training_lowers_the_loss(target: Target) -> None:
    """One fixed map: its noise can be told exactly, so the loss must fall well below its start."""
    still = features()[:1].expand(8, -1, -1, -1)
    config = with_train(with_target(target), epochs=40, batch_size=8, learning_rate=5e-3)
    losses = train_network(still, config, seed=0).losses
    assert losses[0] > 0.8
    assert sum(losses[-8:]) / 8 < 0.6


def test_the_log_has_a_row_per_epoch(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    losses = train_network(features(), CONFIG, seed=1, log=path).losses
    rows = list(csv.DictReader(path.open()))
    assert [float(row["loss"]) for row in rows] == losses
    assert [int(row["steps"]) for row in rows] == [3, 6, 9, 12, 15, 18]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-3] * 5 + [1e-4])
    assert all(0 < float(row["gradient_norm"]) < math.inf for row in rows)


def test_the_rate_drops_after_the_share_of_the_epochs() -> None:
    config = TrainConfig(learning_rate=1.0)
    assert [learning_rate(config, epoch, 10) for epoch in (0, 7, 8, 9)] == [1, 1, 0.1, 0.1]


def test_without_averaging_the_last_weights_are_used() -> None:
    plain = train_network(features(), with_train(ema_decay=0.0), seed=1)
    averaged = train_network(features(), with_train(ema_decay=0.999), seed=1)
    assert plain.losses == averaged.losses
    assert not torch.equal(plain.network.entry.weight, averaged.network.entry.weight)


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = half_trained(tmp_path)
    with pytest.raises(LafiteError, match="another training"):
        train_network(features(), CONFIG, seed=1, checkpoint=path, key="b", resume=True)


def test_checkpoint_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = half_trained(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LafiteError, match=r"checkpoint.safetensors is damaged"):
        train_network(features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True)


def test_checkpoint_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = half_trained(tmp_path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(LafiteError, match="does not match its own hash"):
        train_network(features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True)


def test_checkpoint_of_an_older_format_is_refused(tmp_path: Path) -> None:
    path = half_trained(tmp_path)
    with safe_open(path, "pt") as file:
        about = dict(file.metadata(), format="1")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, about)
    with pytest.raises(LafiteError, match="another version"):
        train_network(features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True)


def test_a_loss_that_is_not_a_number_stops_the_training() -> None:
    broken = features()
    broken[3] = float("nan")
    with pytest.raises(LafiteError, match=r"epoch 1, step [123] .*learning_rate below 0.001"):
        train_network(broken, CONFIG, seed=0)


def test_a_broken_training_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The values turn bad in the fourth epoch, as they do when a training diverges."""
    turning = features()
    path = tmp_path / "checkpoint.safetensors"

    def spoil(done: int, total: int, loss: float) -> None:
        if done == 3:
            turning[2] = float("inf")

    with pytest.raises(LafiteError, match=r"epoch 4, step .*checkpoint.safetensors.*is kept"):
        train_network(turning, CONFIG, seed=1, checkpoint=path, key="a", hook=spoil)
    resumed = train_network(features(), CONFIG, seed=1, checkpoint=path, key="a", resume=True)
    assert equal(resumed, train_network(features(), CONFIG, seed=1))


def test_small_sets_get_their_steps() -> None:
    config = TrainConfig(epochs=200, min_steps=2000, batch_size=16)
    assert total_epochs(config, 160) == 200
    assert total_epochs(config, 16) == 2000
    assert total_epochs(dataclasses.replace(config, min_steps=0), 16) == 200
