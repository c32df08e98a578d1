"""One optimisation step: forward and backward in as many parts as memory asks for, one update."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lafite_core.checkpoint import TrainState
from lafite_core.config import LafiteConfig
from lafite_core.device import autocast, halving
from lafite_core.diffusion import add_noise, cosine_schedule, training_target
from lafite_core.distributed import Group
from lafite_core.errors import LafiteError
from lafite_core.progress import Notice


class Stepper:
    """Takes optimisation steps and remembers how large a part of a batch fits into memory.

    Attributes:
        micro: images per forward and backward pass; halved when memory runs out.
        compiled: whether ``torch.compile`` is in use.
    """

    def __init__(
        self,
        state: TrainState,
        config: LafiteConfig,
        device: str,
        group: Group,
        notice: Notice,
    ) -> None:
        self.state = state
        self.config = config
        self.alpha_bar = cosine_schedule(config.diffusion).to(device)
        self.device = device
        self.group = group
        self.notice = notice
        self.micro = config.train.micro_batch or config.train.batch_size
        switch = config.train.compile
        self.compiled = switch == "on" or (switch == "auto" and device.startswith("cuda"))
        self._call = self._network()

    def __call__(self, x0: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Update the network on one batch.

        Args:
            x0: ``[B, C, h, w]`` on the device, the same in every process of the group.
            t: ``[B]`` steps, 1 to T.
            noise: like ``x0``.

        Returns:
            This process's part of the batch's mean loss, and the norm of the whole gradient
            before clipping; scalars on the device.

        Raises:
            LafiteError: memory runs out for a single image, or in one of several processes.
        """
        loss = self._backward(x0, t, noise)
        parameters = self.state.network.parameters()
        norm = nn.utils.clip_grad_norm_(parameters, self.config.train.clip_norm)
        self.state.optimiser.step()
        return loss, norm

    def _backward(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Gradients of the batch's mean loss, tried again in smaller parts if memory runs out."""

        def gradients(micro: int) -> Tensor:
            self.state.optimiser.zero_grad(set_to_none=True)
            return self._accumulate(x0, t, noise, micro)

        size = min(self.micro, len(x0))
        try:
            if self.group.size > 1:  # the others would have to take smaller parts as well
                return gradients(size)
            return halving(gradients, size, halved=self._halved)
        except torch.OutOfMemoryError:
            raise self._out_of_memory(size) from None
        except Exception as error:
            if not self.compiled:
                raise
            self._without_compile(error)
        return self._backward(x0, t, noise)

    def _accumulate(self, x0: Tensor, t: Tensor, noise: Tensor, micro: int) -> Tensor:
        rows = torch.arange(len(x0), device=x0.device)[self.group.rank :: self.group.size]
        weight = 1.0
        if not len(rows):  # more processes than images: take part with a gradient of zero
            rows, weight = torch.zeros(1, dtype=torch.long, device=x0.device), 0.0
        # Processes average their gradients; times the size of the group that is a sum.
        scale = weight * self.group.size / x0.numel()
        total = torch.zeros((), device=x0.device)
        parts = rows.split(micro)
        for number, part in enumerate(parts, start=1):
            with self._quiet(number < len(parts)):
                loss = self._loss(x0[part], t[part], noise[part]) * scale
                loss.backward()
            total += loss.detach() / self.group.size
        return total

    def _loss(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Sum of squared errors of the prediction."""
        alpha_bar = self.alpha_bar[t]
        x = add_noise(x0, noise, alpha_bar)
        if self.device.startswith("cuda"):
            x = x.contiguous(memory_format=torch.channels_last)
        wanted = training_target(x0, noise, alpha_bar, self.config.diffusion.target)
        with autocast(self.config.train.precision, self.device):
            predicted = self._call(x, t)
        return F.mse_loss(predicted.float(), wanted, reduction="sum")

    def _network(self) -> nn.Module:
        network: nn.Module = self.state.network
        if self.group.size > 1:
            network = DistributedDataParallel(network)
        self._parallel = network
        if not self.compiled:
            return network
        # A graph for each of the few batch sizes: one for all sizes would be slower at each.
        return torch.compile(network, dynamic=False)  # type: ignore[return-value]

    def _quiet(self, quiet: bool) -> AbstractContextManager[None]:
        """Leave the exchange of gradients to the last part of a batch."""
        if quiet and isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return nullcontext()

    def _halved(self, before: int, after: int) -> None:
        self.micro = after
        self.notice(
            f"The GPU ran out of memory with {before} images at a time; going on with {after} at a "
            f"time and the same batch size of {self.config.train.batch_size}."
        )

    def _out_of_memory(self, size: int) -> LafiteError:
        if self.group.size > 1:
            return LafiteError(
                f"A GPU ran out of memory with {size} images at a time; with several processes "
                f"that is not mended on the way: set train.micro_batch={max(1, size // 2)} and go "
                "on with --resume."
            )
        return LafiteError(
            "The GPU ran out of memory with a single image; choose a smaller grid "
            "(features.grid) or network (unet.base_channels), or free memory on the GPU."
        )

    def _without_compile(self, error: Exception) -> None:
        self.compiled = False
        self._call = self._parallel
        reason = str(error).strip().splitlines() or [type(error).__name__]
        self.notice(f"torch.compile does not work here ({reason[0][:100]}); training without it.")
