"""Section 3.3 and 4: training the noise predictor, resumable to the bit on a CPU."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lafite_core.config import LafiteConfig, TrainConfig
from lafite_core.diffusion import add_noise, cosine_schedule
from lafite_core.errors import LafiteError
from lafite_core.unet import UNet

EpochHook = Callable[[int, int, float], None]
"""Called after each epoch with (epochs done, epochs in all, mean loss)."""


@dataclass
class TrainState:
    """Everything that the next epoch depends on."""

    network: UNet
    average: UNet
    optimiser: torch.optim.AdamW
    epoch: int = 0
    losses: list[float] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state by name, as written to a checkpoint."""
        out = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        out |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, slot in self.optimiser.state_dict()["state"].items():
            out |= {f"optimiser.{index}.{name}": value for name, value in slot.items()}
        out["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        return out


def total_epochs(config: TrainConfig, images: int) -> int:
    """Epochs to train ``images`` feature maps for, ``min_steps`` included."""
    per_epoch = math.ceil(images / config.batch_size)
    return max(config.epochs, math.ceil(config.min_steps / per_epoch))


def train_unet(
    features: Tensor,
    config: LafiteConfig,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    key: str = "",
    resume: bool = False,
    hook: EpochHook | None = None,
) -> tuple[UNet, list[float]]:
    """Train on standardised feature maps ``[N, C, h, w]``; the epsilon objective.

    Order, timesteps and noise of an epoch are drawn from a generator keyed by (seed, epoch), so
    that a resumed training equals an uninterrupted one.

    Args:
        checkpoint: file that the state is written to now and then, atomically.
        key: identifies data and configuration; a checkpoint with another key is refused.
        resume: go on from ``checkpoint`` if it exists.

    Returns:
        The moving average of the network, in evaluation mode on the CPU, and the mean loss of
        every epoch.

    Raises:
        LafiteError: the checkpoint is damaged or of another training, or the loss is not finite.
    """
    options = config.train
    epochs = total_epochs(options, len(features))
    alpha_bar = cosine_schedule(config.diffusion).to(device)
    state = _fresh(features.shape[1], config, seed, device)
    if resume and checkpoint is not None and checkpoint.exists():
        _load(state, checkpoint, key)
    per_epoch = math.ceil(len(features) / options.batch_size)
    saved = time.monotonic()
    while state.epoch < epochs:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + state.epoch)
        rate = options.learning_rate
        if state.epoch >= options.drop_after * epochs:
            rate *= options.drop_factor
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        order = torch.randperm(len(features), generator=draw)
        total = 0.0
        for number, rows in enumerate(order.split(options.batch_size)):
            loss = _step(state, features[rows], alpha_bar, draw, options, device)
            if not math.isfinite(loss):
                raise LafiteError(
                    f"The training loss became {loss} at epoch {state.epoch + 1}, step "
                    f"{number + 1}; lower train.learning_rate and train again."
                )
            done = state.epoch * per_epoch + number + 1
            _average(state, min(options.ema_decay, (1 + done) / (10 + done)))
            total += loss * len(rows)
        state.losses.append(total / len(features))
        state.epoch += 1
        if hook is not None:
            hook(state.epoch, epochs, state.losses[-1])
        stale = time.monotonic() - saved >= options.checkpoint_seconds
        if checkpoint is not None and stale and state.epoch < epochs:
            _save(state, checkpoint, key)
            saved = time.monotonic()
    return state.average.cpu().eval().requires_grad_(False), state.losses


def _fresh(channels: int, config: LafiteConfig, seed: int, device: str) -> TrainState:
    # Layers initialise from the global generator; fork_rng gives it back untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(channels, config.unet)
        average = UNet(channels, config.unet)
    average.load_state_dict(network.state_dict())
    network.to(device).train()
    average.to(device).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
    )
    return TrainState(network, average, optimiser)


def _step(
    state: TrainState,
    x0: Tensor,
    alpha_bar: Tensor,
    draw: torch.Generator,
    options: TrainConfig,
    device: str,
) -> float:
    t = torch.randint(1, len(alpha_bar), (len(x0),), generator=draw)
    noise = torch.randn(x0.shape, generator=draw).to(device)
    x0, t = x0.to(device), t.to(device)
    predicted = state.network(add_noise(x0, noise, alpha_bar[t]), t)
    loss = F.mse_loss(predicted, noise)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), options.clip_norm)
    state.optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def _average(state: TrainState, decay: float) -> None:
    averaged: list[Tensor] = list(state.average.parameters())
    current: list[Tensor] = list(state.network.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)


def _save(state: TrainState, path: Path, key: str) -> None:
    temporary = path.with_suffix(".tmp")
    tensors = {name: value.contiguous() for name, value in state.tensors.items()}
    save_file(tensors, temporary, {"key": key, "epoch": str(state.epoch)})
    temporary.replace(path)


def _load(state: TrainState, path: Path, key: str) -> None:
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LafiteError(
            f"The checkpoint {path} is damaged ({error}); train again without --resume."
        ) from None
    if found.get("key") != key:
        raise LafiteError(
            f"The checkpoint {path} belongs to another training (other images, options or seed); "
            "train again without --resume, or into another folder."
        )
    for prefix, module in (("network.", state.network), ("average.", state.average)):
        part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(part)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = value
    whole = state.optimiser.state_dict()
    state.optimiser.load_state_dict({"state": slots, "param_groups": whole["param_groups"]})
    state.epoch = int(found["epoch"])
    state.losses = tensors["losses"].tolist()
