"""The processes that train one model together: torchrun starts them, each computes some rows."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atento._errors import InputError

__all__ = ["Team", "teamed"]

RELEASE = 0.2
"""Seconds that gloo's threads have to let go of their last tensors: torch 2.13 leaves the threads
alive at the end, and one that takes Python's lock while Python ends aborts the process."""


@dataclass(frozen=True)
class Team:
    """One process among `size`; alone, it is the whole team.

    Attributes:
        rank: its number, from 0 on; 0 writes the files.
        size: how many there are.
        shards: whether each keeps a part of the weights, instead of all of them.
    """

    rank: int = 0
    size: int = 1
    shards: bool = False

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
                "that is a multiple of them.",
                name="lm_share",
                rows=len(rows),
                processes=self.size,
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
        if self.size == 1 or self.shards:  # parts are averaged by `fully_shard` itself
            return model
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model)

    def quiet(self, model: nn.Module, last: bool) -> Any:
        """While parts of a batch are added up, gradients are averaged with the last one only."""
        if self.size == 1 or self.shards or last:
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
def teamed(device: torch.device, *, shard: bool = False) -> Iterator[Team]:
    """The team that torchrun's environment tells of; alone without one.

    Args:
        device: of this process.
        shard: whether each keeps a part of the weights.

    Raises:
        InputError: parts are asked for, and there is one process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    began = dist.is_initialized()
    if shard and (dist.get_world_size() if began else size) == 1:
        raise InputError(
            "train: shard=True (--shard) keeps a part of the model in each of several processes, "
            "and this is one: start it by torchrun, or leave it out.",
            name="lm_shard",
        )
    if size == 1 or began:
        yield Team(dist.get_rank(), dist.get_world_size(), shard) if began else Team()
        return
    # Flags and losses go from CPU to CPU, also where gradients do not.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), size, shard)
        dist.barrier()
        time.sleep(RELEASE)
    finally:
        dist.destroy_process_group()
