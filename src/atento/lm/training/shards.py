"""A model whose weights lie in parts on several devices, and the whole of it again.

torch's ``fully_shard``: each process keeps its rows of every weight, of its gradient and of its
moments, and has a block whole only while it computes it (Zhao et al. 2023, arXiv 2304.11277).
"""

import torch
import torch.distributed as dist
from torch import Tensor

from atento.lm.transformer import Transformer

__all__ = ["like", "sharded", "whole", "whole_model"]


def sharded(model: Transformer, device: torch.device) -> Transformer:
    """The model, in place: its blocks one by one, then what is outside them.

    Args:
        model: with the same weights in each process.
        device: where each process keeps its part.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may lie in parts, put together; all processes ask for it at the same time."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(full: Tensor, given: Tensor) -> Tensor:
    """A whole tensor in the same parts as another, of which each process takes its own."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(given, DTensor):
        return full.to(given.device)
    mesh, placements = given.device_mesh, given.placements
    return distribute_tensor(full.to(mesh.device_type), mesh, placements, src_data_rank=None)


def whole_model(model: Transformer, *, wanted: bool) -> Transformer | None:
    """A plain copy of a sharded model in this process' memory; None where it is not wanted.

    All processes ask at the same time: each weight is gathered, and dropped where not wanted.
    """
    state: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        full = whole(weight).cpu()
        if wanted:
            state[name] = full
    if not wanted:
        return None
    with torch.device("meta"):
        made = Transformer(model.config)
    made.load_state_dict(state, assign=True)
    made.tokenizer = model.tokenizer
    return made.train(model.training)
