"""The engines that compute PyTorch tensors: the only files of this room that name torch."""

import torch

__all__ = ["torch"]
