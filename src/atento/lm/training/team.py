"""The processes that train one model together: torchrun starts them, each computes some rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atento._errors import InputError

__all__ = ["Team", "teamed"]


@dataclass(frozen=True)
class Team:
    """One process among `size`; alone, it is the whole team.

    Attributes:
        rank: its number, from 0 on; 0 writes the files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    def part(self, rows: Tensor) -> Tensor:
        """This process's rows of a batch.

        Raises:
            InputError: when they cannot be shared evenly.
        """
        if len(rows) % self.size:
            raise InputError(
                f"{len(rows)} rows cannot be shared by {self.size} processes: choose a batch "
                "that is a multiple of them."
            )
        return rows[self.rank :: self.size]

    def mean(self, value: Tensor) -> float:
        """The mean of a number over all processes."""
        value = value.detach().double().clone()
        if self.size > 1:
            dist.all_reduce(value)
        return float(value) / self.size

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over all processes."""
        if self.size == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)

    def quiet(self, model: nn.Module, last: bool) -> Any:
        """While parts of a batch are added up, gradients are averaged with the last one only."""
        if self.size == 1 or last:
            return nullcontext()
        return model.no_sync()  # type: ignore[operator]

    def any(self, flag: bool) -> bool:
        """Whether it holds for one of them."""
        return flag if self.size == 1 else self.mean(torch.tensor(float(flag))) > 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def teamed(device: torch.device) -> Iterator[Team]:
    """The team that torchrun's environment tells of; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        alone = not dist.is_initialized()
        yield Team() if alone else Team(dist.get_rank(), dist.get_world_size())
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
