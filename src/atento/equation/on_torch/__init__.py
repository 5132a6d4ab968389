"""The engines that compute PyTorch tensors: the only files of this room that name torch."""

from atento.equation.on_torch.fused import fuse
from atento.equation.on_torch.streaming import stream

__all__ = ["fuse", "stream"]
