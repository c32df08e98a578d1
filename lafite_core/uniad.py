"""UniAD (You et al. 2022): a transformer that reconstructs the tokens of a feature map.

It must not learn to copy its input, which would reconstruct anomalies as well. Three things see to
that: no token sees itself or its neighbours in any attention, every decoder layer asks with a
query of its own, learned for each place, and the features are jittered in training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lafite_core.config import UniadConfig
from lafite_core.errors import LafiteError


def neighbour_mask(grid: int, side: int) -> Tensor:
    """Which token sees which: bool ``[grid ** 2, grid ** 2]``, row-major.

    A token sees all but the ``side`` x ``side`` tokens around it, itself among them; with a side of
    0 it sees all.

    Raises:
        LafiteError: a token would see nothing.
    """
    if side >= grid:
        raise LafiteError(
            f"The option uniad.neighbourhood is {side}; it must be below features.grid, which is "
            f"{grid}: a token in the middle would see nothing."
        )
    places = torch.arange(grid)
    near = (places[:, None] - places).abs() <= side // 2
    if side == 0:
        near[:] = False
    return ~(near[:, None, :, None] & near[None, :, None, :]).reshape(grid**2, grid**2)


def jittered(features: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Features with noise in proportion to the norm of each token, all ``[B, C, h, w]``.

    Args:
        noise: standard normal.
        scale: in units of the norm divided by the number of channels.
    """
    norms = features.norm(dim=1, keepdim=True)
    return features + noise * norms * (scale / features.shape[1])


class Attention(nn.Module):
    """Multi-head attention; position enters queries and keys alone."""

    def __init__(self, config: UniadConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, asking: Tensor, seen: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Tokens ``[B or 1, T, width]`` that ask ``[B, T, width]``; same shape as these.

        Args:
            position: ``[T, width]``.
            mask: which token sees which, bool ``[T, T]``.
        """
        keys = seen + position
        q, k, v = (
            self._split(one)
            for one in (self.query(asking + position), self.key(keys), self.value(seen))
        )
        mixed = F.scaled_dot_product_attention(
            q.expand_as(k), k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        """``[B, T, width]`` to ``[B, heads, T, width / heads]``."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers at every token."""

    def __init__(self, config: UniadConfig) -> None:
        super().__init__(
            nn.Linear(config.width, config.feedforward),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feedforward, config.width),
        )


class Added(nn.Module):
    """Dropout, sum with what it is added to, layer normalisation (post-norm)."""

    def __init__(self, config: UniadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, change: Tensor) -> Tensor:
        """``[B, T, width]`` each."""
        out: Tensor = self.norm(tokens + self.dropout(change))
        return out


class EncoderLayer(nn.Module):
    """Attention among the tokens, then a feed-forward network."""

    def __init__(self, config: UniadConfig) -> None:
        super().__init__()
        self.attention, self.mixed = Attention(config), Added(config)
        self.feedforward, self.out = FeedForward(config), Added(config)

    def forward(self, tokens: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """``[B, T, width]`` to the same shape; arguments as of ``Attention``."""
        tokens = self.mixed(tokens, self.attention(tokens, tokens, position, mask))
        out: Tensor = self.out(tokens, self.feedforward(tokens))
        return out


class DecoderLayer(nn.Module):
    """A query learned for every place asks the encoder's memory, then the layer before."""

    def __init__(self, tokens: int, config: UniadConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(tokens, config.width))
        self.of_memory, self.asked = Attention(config), Added(config)
        self.of_before, self.mixed = Attention(config), Added(config)
        self.feedforward, self.out = FeedForward(config), Added(config)

    def forward(self, before: Tensor, memory: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        """Output of the layer before and of the encoder, ``[B, T, width]`` each, to the same."""
        query = self.query[None]
        found = self.asked(query, self.of_memory(query, memory, position, mask))
        found = self.mixed(found, self.of_before(found, before, position, mask))
        out: Tensor = self.out(found, self.feedforward(found))
        return out


class Uniad(nn.Module):
    """Reconstructs feature maps of one size."""

    def __init__(self, channels: int, grid: int, config: UniadConfig) -> None:
        super().__init__()
        half = config.width // 2
        self.entry = nn.Linear(channels, config.width)
        self.rows = nn.Parameter(torch.rand(grid, half))
        self.columns = nn.Parameter(torch.rand(grid, half))
        self.register_buffer("mask", neighbour_mask(grid, config.neighbourhood), persistent=False)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(grid**2, config) for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.exit = nn.Linear(config.width, channels)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def position(self) -> Tensor:
        """What tells places apart, ``[grid ** 2, width]``: half of the column, half of the row."""
        grid = len(self.rows)
        columns = self.columns[None].expand(grid, -1, -1)
        rows = self.rows[:, None].expand(-1, grid, -1)
        return torch.cat([columns, rows], dim=2).flatten(0, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Feature maps ``[B, C, grid, grid]`` to their reconstruction, same shape."""
        mask = self.get_buffer("mask")
        position = self.position()
        memory = self.entry(features.flatten(2).transpose(1, 2))
        for layer in self.encoder:
            memory = layer(memory, position, mask)
        found = memory
        for layer in self.decoder:
            found = layer(found, memory, position, mask)
        out: Tensor = self.exit(self.norm(found))
        return out.transpose(1, 2).unflatten(2, features.shape[2:])
