"""The state of a training: what the next epoch depends on, as a file that is whole or refused."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lafite_core.backbones import state_sha256
from lafite_core.errors import LafiteError
from lafite_core.files import write_tensors

FORMAT_VERSION = 2


@dataclass(kw_only=True)
class TrainState:
    """Networks, optimiser and record.

    The optimiser has its moments from the start: otherwise its first step would ask for them, when
    memory is already in use.

    Attributes:
        network: the weights that are trained.
        average: their moving average.
        losses: mean loss of each finished epoch.
        norms: mean gradient norm (before clipping) of each finished epoch.
    """

    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.AdamW
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for parameter in self.network.parameters():
            self.optimiser.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.losses)


def save_checkpoint(state: TrainState, path: Path, key: str) -> None:
    """Write the state atomically, with a hash over all of it."""
    tensors = _tensors(state)
    about = {"format": str(FORMAT_VERSION), "key": key, "sha256": state_sha256(tensors)}
    write_tensors(path, tensors, about)


def load_checkpoint(state: TrainState, path: Path, key: str) -> None:
    """Bring a fresh state to where ``save_checkpoint`` left it.

    Raises:
        LafiteError: the file is cut short, was changed, or belongs to another training.
    """

    def refusal(reason: str) -> LafiteError:
        return LafiteError(f"The checkpoint {path} {reason}; train again with --overwrite.")

    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise refusal(f"is damaged ({error})") from None
    if about.get("format") != str(FORMAT_VERSION):
        raise refusal("was written by another version of pseudoval")
    if about.get("key") != key:
        raise refusal("belongs to another training (other images, options or seed)")
    if state_sha256(tensors) != about.get("sha256"):
        raise refusal("does not match its own hash: it was changed or damaged")

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    state.network.load_state_dict(part("network."))
    state.average.load_state_dict(part("average."))
    for name, value in _optimiser(state).items():
        value.copy_(tensors[name])
    state.losses = tensors["losses"].tolist()
    state.norms = tensors["norms"].tolist()


def _tensors(state: TrainState) -> dict[str, Tensor]:
    out = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    out |= {f"average.{k}": v for k, v in state.average.state_dict().items()}
    out |= _optimiser(state)
    out["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    out["norms"] = torch.tensor(state.norms, dtype=torch.float64)
    return out


def _optimiser(state: TrainState) -> dict[str, Tensor]:
    """Its tensors themselves: steps and moments of every parameter."""
    return {
        f"optimiser.{index}.{name}": value
        for index, slot in state.optimiser.state_dict()["state"].items()
        for name, value in slot.items()
    }
