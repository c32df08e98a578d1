"""Several processes that train one model, as ``torchrun -m pseudoval train DATA`` starts them."""

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from lafite_core.errors import LafiteError

# The others wait while the first process extracts features and picks the core set.
PATIENCE = datetime.timedelta(days=1)

OF_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun`` sets beside ``WORLD_SIZE``."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes of one training; a group of one needs no communication."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads, writes and reports for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when every process of the group has come this far."""
        if self.size > 1:
            dist.barrier()

    def add(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over the processes, in all of them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def add_all(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes."""
        if self.size > 1:
            sums = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for one in sums:
                one.wait()

    def send(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the process that leads."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


ALONE = Group()


def join(device: str) -> tuple[Group, str]:
    """The group that ``torchrun`` started this process in, and the device that is its own.

    Outside of ``torchrun`` that is ``ALONE`` and ``device`` itself.

    Raises:
        LafiteError: the environment names a number of processes, but not which one this is.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return ALONE, device
    lacking = [name for name in OF_TORCHRUN if name not in os.environ]
    if lacking:
        raise LafiteError(
            f"WORLD_SIZE is {size} in the environment, but {' and '.join(lacking)} cannot be "
            "found there. Start the processes with torchrun, which sets them; for one process, "
            "unset WORLD_SIZE."
        )
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return Group(rank=dist.get_rank(), size=dist.get_world_size()), device


def leave() -> None:
    """Close the group, if there is one.

    Not for a process that failed: the others are in an exchange that it will never join, and to
    close the group might wait for them. It prints its error and ends; ``torchrun`` ends the others.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
