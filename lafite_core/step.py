"""One optimisation step: forward and backward in pieces of the batch, then one update."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lafite_core.checkpoint import TrainState
from lafite_core.config import LafiteConfig
from lafite_core.device import autocast, halving
from lafite_core.distributed import Group
from lafite_core.learning import Learner
from lafite_core.parallel import on_each_core, single_threaded
from lafite_core.progress import Notice

PIECE = 8
"""Images of a forward and backward pass on a CPU, which one thread works on. Every pass reads all
weights and writes a gradient of each, which is why small ones do not pay: with the ``cpu`` preset,
two passes of 8 images take a sixth more processor time than one of 16, and four of 4 take half as
much again."""


class Stepper:
    """Takes optimisation steps and remembers how large a part of a batch fits into memory.

    On a CPU the result does not depend on the number of cores: a batch is cut by its size alone,
    every piece is worked on by one thread, several side by side, and their gradients are added in
    the order of the pieces.

    Attributes:
        micro: images per forward and backward pass; halved when memory runs out.
        compiled: whether ``torch.compile`` is in use.
    """

    def __init__(
        self,
        state: TrainState,
        learner: Learner,
        config: LafiteConfig,
        device: str,
        group: Group,
        notice: Notice,
    ) -> None:
        self.state = state
        self.config = config
        self.learner = learner
        self.device = device
        self.group = group
        self.notice = notice
        self.parameters = list(state.network.parameters())
        group.send(self.parameters)
        own = math.ceil(config.train.batch_size / group.size)
        self.micro = min(own, config.train.micro_batch or (PIECE if device == "cpu" else own))
        switch = config.train.compile
        self.compiled = switch == "on" or (switch == "auto" and device.startswith("cuda"))
        # Every pass has as many images, so that one graph is compiled; see ``_predict``.
        self._call: Callable[..., Tensor] = (
            torch.compile(state.network, dynamic=False) if self.compiled else state.network
        )

    def __call__(self, x0: Tensor, drawn: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Update the network on one batch.

        Args:
            x0: ``[B, C, h, w]`` on the device, the same in every process of the group.
            drawn: what is random in the examples, ``[B, ...]`` each.

        Returns:
            This process's part of the batch's mean loss, and the norm of the whole gradient
            before clipping; scalars on the device.

        Raises:
            torch.OutOfMemoryError: memory runs out for a single image.
        """
        loss = self._backward(x0, drawn)
        with single_threaded(self.device):
            self.group.add_all([p.grad for p in self.parameters if p.grad is not None])
            norm = nn.utils.clip_grad_norm_(self.parameters, self.config.train.clip_norm)
            self.state.optimiser.step()
        return loss, norm

    def _backward(self, x0: Tensor, drawn: tuple[Tensor, ...]) -> Tensor:
        """Gradients of the batch's mean loss, tried again in smaller pieces if memory runs out."""

        def gradients(micro: int) -> Tensor:
            self.state.optimiser.zero_grad(set_to_none=True)
            first, step = self.group.rank, self.group.size
            pieces = [
                slice(at, at + micro * step, step) for at in range(first, len(x0), micro * step)
            ]
            return self._accumulate(x0, drawn, pieces)

        try:
            return halving(gradients, min(self.micro, len(x0)), halved=self._halved)
        except Exception as error:
            if not (self.compiled and _of_compiler(error)):
                raise
            self._without_compile(error)
        return self._backward(x0, drawn)

    def _accumulate(self, x0: Tensor, drawn: tuple[Tensor, ...], pieces: list[slice]) -> Tensor:
        """Leave the sum of the gradients of some pieces in the parameters; returns their loss."""

        def one_pass(rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = self._loss(x0[rows], *(one[rows] for one in drawn)) / x0.numel()
            return loss.detach(), torch.autograd.grad(loss, self.parameters)

        total = torch.zeros((), device=x0.device)
        # Dropout draws from the one global generator, in the order of the pieces.
        in_turn = self.compiled or self.learner.dropout > 0
        with single_threaded(self.device) if in_turn else nullcontext():
            for loss, gradients in on_each_core(one_pass, pieces, device=self.device):
                total += loss
                self._add(gradients)
        if not pieces:  # more processes than images: this one takes part with a gradient of zero
            self._add(tuple(torch.zeros_like(parameter) for parameter in self.parameters))
        return total

    @torch.no_grad()
    def _add(self, gradients: tuple[Tensor, ...]) -> None:
        """Add to the gradients of the parameters, which lie in memory as their parameters do."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if parameter.grad is not None:
                parameter.grad += gradient
            elif gradient.stride() == parameter.stride():
                parameter.grad = gradient
            else:
                parameter.grad = torch.empty_like(parameter).copy_(gradient)

    def _loss(self, x0: Tensor, *drawn: Tensor) -> Tensor:
        """Sum of squared errors of the prediction."""
        given, wanted = self.learner.example(x0, *drawn)
        with autocast(self.config.train.precision, self.device):
            predicted = self._predict(given)
        return F.mse_loss(predicted.float(), wanted, reduction="sum")

    def _predict(self, given: tuple[Tensor, ...]) -> Tensor:
        """What the network makes of ``[b, ...]``; compiled, of zeros up to ``micro`` as well.

        The last batch of an epoch, and each of few images, would be compiled once for every number
        of images that a category may have, which takes minutes; a pass takes a second at most.
        """
        count = len(given[0])
        missing = self.micro - count if self.compiled else 0
        if missing:
            given = tuple(F.pad(x, (0, 0) * (x.ndim - 1) + (0, missing)) for x in given)
        if self.device.startswith("cuda"):
            maps, *more = given
            given = (maps.contiguous(memory_format=torch.channels_last), *more)
        return self._call(*given)[:count]

    def _halved(self, before: int, after: int) -> None:
        self.micro = after
        self.notice(
            f"The GPU ran out of memory with {before} images at a time; going on with {after} at a "
            f"time and the same batch size of {self.config.train.batch_size}."
        )

    def _without_compile(self, error: Exception) -> None:
        self.compiled = False
        self._call = self.state.network
        reason = str(error).strip().splitlines() or [type(error).__name__]
        self.notice(f"torch.compile does not work here ({reason[0][:100]}); training without it.")


def _of_compiler(error: Exception) -> bool:
    """Whether it was raised in compiling: torch has no public name for all such errors."""
    rooms = ("torch._dynamo", "torch._inductor", "triton")
    return any(kind.__module__.startswith(rooms) for kind in type(error).__mro__)
