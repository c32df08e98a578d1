"""Backbones: from a batch of images to a list of feature maps, one per stage."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lafite_core.config import FeatureConfig
from lafite_core.errors import LafiteError
from lafite_core.files import read_tensors
from lafite_core.filterbank import STAGES, FilterBank


class Backbone(Protocol):
    """What every feature extractor offers.

    Attributes:
        channels: channels of each stage, in the order of ``FeatureConfig.stages``.
        mean, std: per-channel normalisation of RGB in [0, 1] that the extractor expects.
    """

    channels: list[int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Normalised images ``[B, 3, H, W]`` to one ``[B, C_i, H_i, W_i]`` per stage."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """The weights; empty for a fixed extractor."""
        ...


class TimmBackbone(nn.Module):
    """A timm network cut after its last used stage, frozen and in evaluation mode."""

    def __init__(self, config: FeatureConfig, pretrained: bool) -> None:
        super().__init__()
        import timm  # takes seconds, and the filter bank works without

        name = config.backbone
        if not timm.is_model(name):
            raise LafiteError(
                f"There is no backbone {name!r}; give a timm model name or 'filterbank'."
            )
        self.network = _create(name, pretrained, config.backbone_args)
        if not hasattr(self.network, "prune_intermediate_layers"):
            raise LafiteError(f"The backbone {name} has no stages to read; choose another.")
        available = len(self.network.feature_info)
        if max(config.stages) > available:
            raise LafiteError(
                f"The backbone {name} has stages 1 to {available}; stage {max(config.stages)} "
                "was asked for."
            )
        indices = [stage - 1 for stage in config.stages]
        self.indices = self.network.prune_intermediate_layers(
            indices, prune_norm=True, prune_head=True
        )
        self.channels = [int(self.network.feature_info[i]["num_chs"]) for i in indices]
        self.mean = tuple(self.network.pretrained_cfg["mean"])
        self.std = tuple(self.network.pretrained_cfg["std"])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See ``Backbone``."""
        maps: list[Tensor] = self.network.forward_intermediates(
            images, indices=self.indices, intermediates_only=True
        )
        return maps


def _create(name: str, pretrained: bool, args: Mapping[str, Any]) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **args)
    except (TypeError, ValueError) as error:
        raise LafiteError(f"The backbone {name} does not accept {dict(args)}: {error}.") from None
    except Exception as error:  # hub, network and file errors each have types of their own
        if not pretrained:
            raise
        raise LafiteError(
            f"The weights of {name} cannot be downloaded ({type(error).__name__}); pass a "
            "safetensors file with --weights, or use --backbone filterbank, which needs none."
        ) from None


def make_backbone(config: FeatureConfig, weights: Path | None = None) -> Backbone:
    """Build the extractor of ``config``.

    Args:
        weights: a safetensors file with the weights up to the last used stage; later stages in
            it are ignored. Without it, timm downloads the pretrained weights.

    Raises:
        LafiteError: unknown backbone or stage, or a file of another architecture.
    """
    if config.backbone == "filterbank":
        if weights is not None:
            raise LafiteError("The backbone filterbank has no weights; leave --weights out.")
        if max(config.stages) > STAGES:
            raise LafiteError(f"filterbank has stages 1 to {STAGES}, not {max(config.stages)}.")
        return FilterBank(config.stages)
    backbone = TimmBackbone(config, pretrained=weights is None)
    if weights is not None:
        load_weights(backbone.network, weights, config.backbone)
    return backbone


def load_weights(network: nn.Module, path: Path, name: str) -> None:
    """Load a safetensors file into a cut network; every weight that the cut needs must fit.

    Raises:
        LafiteError: the file is missing or damaged, or belongs to another architecture.
    """
    if not path.is_file():
        raise LafiteError(f"There is no weights file at {path}.")
    state = read_tensors(path)
    wanted = network.state_dict()
    unfit = [k for k in wanted if k not in state or state[k].shape != wanted[k].shape]
    if unfit:
        raise LafiteError(
            f"The weights file {path} does not belong to {name}: {len(unfit)} of {len(wanted)} "
            f"tensors are missing or of another shape, such as {unfit[0]!r}. Give the file of "
            f"{name}, or name its architecture with --backbone."
        )
    network.load_state_dict({key: state[key] for key in wanted}, strict=True)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, shapes and values of a state dict, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
