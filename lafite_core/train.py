"""Sections 3.3 and 4: training a network on features, resumable to the bit on a CPU."""

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lafite_core.checkpoint import TrainState, load_checkpoint, save_checkpoint
from lafite_core.config import LafiteConfig, TrainConfig
from lafite_core.device import ran_out, uses_bfloat16
from lafite_core.distributed import ALONE, Group
from lafite_core.errors import LafiteError
from lafite_core.files import replacing
from lafite_core.learning import LEARNERS, Learner
from lafite_core.parallel import single_threaded
from lafite_core.progress import Notice, silent
from lafite_core.step import Stepper
from lafite_core.supply import Supply

KeepEpoch = Callable[[int, nn.Module], None]
"""Takes an epoch of ``train.keep_epochs`` and the averaged network after it."""

EpochHook = Callable[[int, int, float], None]
"""Called after each epoch with (epochs done, epochs in all, mean loss)."""

# A checkpoint may take a twentieth of the time: the next one is due after 20 times its cost.
COST_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gives.

    Attributes:
        network: the moving average of its weights, in evaluation mode on the CPU.
        losses: mean loss of every epoch.
        how: JSON-able facts that the result may depend on beyond the configuration: device,
            precision, compile, images per pass, precision of the features, processes.
    """

    network: nn.Module
    losses: list[float]
    how: dict[str, str | int | bool]


def total_epochs(config: TrainConfig, images: int) -> int:
    """Epochs to train ``images`` feature maps for, ``min_steps`` included."""
    per_epoch = math.ceil(images / config.batch_size)
    return max(config.epochs, math.ceil(config.min_steps / per_epoch))


def last_epoch(config: TrainConfig, epochs: int) -> int:
    """The epoch after which a training of so many stops.

    Raises:
        LafiteError: an epoch to keep or to stop at is beyond the end.
    """
    last = config.stop_epoch or epochs
    if last > epochs or max(config.keep_epochs, default=0) > last:
        option = "stop_epoch" if last > epochs else "keep_epochs"
        raise LafiteError(
            f"The training ends after epoch {min(last, epochs)}, and train.{option} asks for "
            f"{max([last, *config.keep_epochs])}; name an earlier epoch, or train longer."
        )
    return last


def learning_rate(config: TrainConfig, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch, counted from 0."""
    dropped = epoch >= config.drop_after * epochs
    return config.learning_rate * (config.drop_factor if dropped else 1)


@contextmanager
def _refusing_full_gpu() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not ran_out(error):
            raise
        raise LafiteError(
            "The GPU ran out of memory with a single image; choose a smaller grid (features.grid) "
            "or a narrower network (unet.base_channels, uniad.width), or free memory on the GPU."
        ) from None


@_refusing_full_gpu()
def train_network(
    features: Tensor,
    config: LafiteConfig,
    *,
    network: str = "unet",
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    key: str = "",
    resume: bool = False,
    hook: EpochHook | None = None,
    keep: KeepEpoch | None = None,
    log: Path | None = None,
    group: Group = ALONE,
    notice: Notice = silent,
) -> Trained:
    """Train on standardised feature maps ``[N, C, h, w]``.

    Order, timesteps and noise of an epoch are drawn from a generator keyed by (seed, epoch), so
    that a resumed training equals an uninterrupted one; on a GPU up to the order of its sums. On a
    CPU the result does not depend on the number of cores.

    Args:
        network: its name in ``LEARNERS``.
        checkpoint: file that the state is written to now and then, atomically.
        key: identifies data and configuration; a checkpoint with another key is refused.
        resume: go on from ``checkpoint`` if it exists.
        keep: called in the leading process, before a checkpoint of the epoch is written.
        log: CSV file for loss, learning rate and gradient norm of every epoch.
        group: the processes that train together; all of them call with the same arguments.
        notice: gets a sentence about a smaller micro-batch or a missing compiler.

    Raises:
        LafiteError: the checkpoint is damaged or of another training, the loss is not finite, or
            memory runs out for a single image; or an epoch to keep or to stop at is beyond the end.
    """
    options = config.train
    epochs = total_epochs(options, len(features))
    last = last_epoch(options, epochs)
    learner = LEARNERS[network](config, device)
    with single_threaded():
        state = _fresh(learner, features.shape[1], config, seed, device)
    if resume and checkpoint is not None and checkpoint.exists():
        load_checkpoint(state, checkpoint, key)
    stepper = Stepper(state, learner, config, device, group, notice)
    supply = Supply(features, device, half=uses_bfloat16(options.precision, device))
    due = time.monotonic() + options.checkpoint_seconds
    # Dropout, and nothing else, draws from the global generator; the fork gives it back untouched.
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        while state.epoch < last:
            for slot in state.optimiser.param_groups:
                slot["lr"] = learning_rate(options, state.epoch, epochs)
            _epoch(supply, stepper, seed, checkpoint)
            supply.settle()
            if hook is not None:
                hook(state.epoch, last, state.losses[-1])
            if group.leads and keep is not None and state.epoch in options.keep_epochs:
                keep(state.epoch, state.average)
            if not group.leads or checkpoint is None or state.epoch == last:
                continue
            if time.monotonic() >= due:
                started = time.monotonic()
                save_checkpoint(state, checkpoint, key)
                write_log(log, state, options, epochs, len(features))
                due = time.monotonic()
                if options.checkpoint_seconds:
                    due += max(options.checkpoint_seconds, COST_LIMIT * (due - started))
    if group.leads:
        write_log(log, state, options, epochs, len(features))
    return Trained(
        network=state.average.cpu().to(memory_format=torch.contiguous_format).eval(),
        losses=state.losses,
        how={
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
            "precision": "bfloat16" if uses_bfloat16(options.precision, device) else "float32",
            "compiled": stepper.compiled,
            "micro_batch": min(stepper.micro, options.batch_size),
            "features": supply.kind,
            "processes": group.size,
        },
    )


def _epoch(supply: Supply, stepper: Stepper, seed: int, checkpoint: Path | None) -> None:
    """One pass over the features; nothing waits for the device until the pass is over."""
    state, config, device = stepper.state, stepper.config, stepper.device
    draw = torch.Generator(device).manual_seed(seed * 1_000_003 + state.epoch)
    torch.manual_seed((seed * 1_000_003 + state.epoch) * 4096 + stepper.group.rank)
    order = torch.randperm(len(supply.features), generator=draw, device=device)
    batches = order.to(supply.features.device).split(config.train.batch_size)
    record = torch.zeros(2, len(batches), device=device)
    for number, rows in enumerate(batches):
        x0 = supply.batch(rows)
        drawn = stepper.learner.draw(x0, draw)
        record[0, number], record[1, number] = stepper(x0, drawn)
        done = state.epoch * len(batches) + number + 1
        with single_threaded(device):
            _average(state, min(config.train.ema_decay, (1 + done) / (10 + done)))
    losses, norms = stepper.group.add(record[0]).cpu(), record[1].cpu()
    broken = (~(losses + norms).isfinite()).nonzero()
    if len(broken):
        bad = int(broken[0])
        kept = (
            f" The checkpoint {checkpoint}, from before that, is kept."
            if checkpoint is not None and checkpoint.exists()
            else ""
        )
        raise LafiteError(
            f"The training broke down at epoch {state.epoch + 1}, step {bad + 1} (loss "
            f"{float(losses[bad])}, gradient norm {float(norms[bad])}); train again with a "
            f"train.learning_rate below {config.train.learning_rate:g} and --overwrite.{kept}"
        )
    weights = torch.tensor([len(rows) for rows in batches]) / len(order)
    state.losses.append(float(losses.double() @ weights.double()))
    state.norms.append(float(norms.double().mean()))


def write_log(
    path: Path | None, state: TrainState, options: TrainConfig, epochs: int, images: int
) -> None:
    """Write a row per finished epoch: epoch, steps so far, learning rate, loss, gradient norm."""
    if path is None:
        return
    per_epoch = math.ceil(images / options.batch_size)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["epoch", "steps", "learning_rate", "loss", "gradient_norm"])
        for epoch, (loss, norm) in enumerate(zip(state.losses, state.norms, strict=True)):
            rate = learning_rate(options, epoch, epochs)
            table.writerow([epoch + 1, (epoch + 1) * per_epoch, rate, loss, norm])


def _fresh(
    learner: Learner, channels: int, config: LafiteConfig, seed: int, device: str
) -> TrainState:
    # Layers initialise from the global generator; fork_rng gives it back untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = learner.build(channels, config)
        average = learner.build(channels, config)
    average.load_state_dict(network.state_dict())
    network.to(device).train()
    average.to(device).requires_grad_(False)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        network.to(memory_format=torch.channels_last)
        average.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=config.train.learning_rate,
        weight_decay=config.train.weight_decay,
        fused=True,  # one pass over weights and moments instead of ten
    )
    return TrainState(network=network, average=average, optimiser=optimiser)


@torch.no_grad()
def _average(state: TrainState, decay: float) -> None:
    averaged: list[Tensor] = list(state.average.parameters())
    current: list[Tensor] = list(state.network.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)
