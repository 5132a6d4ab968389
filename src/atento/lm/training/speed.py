"""What makes steps faster on a machine: bfloat16, and a compiler."""

import shutil
from typing import Any

import torch
from torch import nn

from atento._errors import InputError

__all__ = ["compiled", "is_worth_compiling", "precision_for"]

WIDE = 256
"""Features of a token from which bfloat16 pays on a CPU that multiplies it (EXPERIMENTS.md)."""

LONG = 1e14
"""Operations of a whole training from which compiling pays on a CPU: about half an hour."""


def precision_for(asked: str, device: torch.device, d_model: int) -> str:
    """What products are computed in: as asked for, or what is faster on this device.

    Args:
        asked: "float32", "bfloat16" or "auto".
        device: where it is computed.
        d_model: features of a token.

    Returns:
        "float32" or "bfloat16".
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        helps = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        helps = device.type == "cpu" and d_model >= WIDE and _multiplies_bfloat16()
    return "bfloat16" if helps else "float32"


def is_worth_compiling(
    asked: bool | str, device: torch.device, parameters: int, tokens: int
) -> bool:
    """Whether to let `torch.compile` make the steps: as asked for, or where it pays.

    Args:
        asked: True, False or "auto".
        device: where it is computed.
        parameters: of the model.
        tokens: of the whole training.
    """
    if asked != "auto":
        return bool(asked)
    if device.type == "cuda":
        return torch.utils._triton.has_triton()
    return device.type == "cpu" and _has_compiler() and 6 * parameters * tokens >= LONG


def compiled(model: nn.Module, device: torch.device) -> Any:
    """The model, compiled.

    Raises:
        InputError: there is no compiler.
    """
    if device.type == "cpu" and not _has_compiler():
        raise InputError("compile=True needs a C++ compiler, and none is found: leave it out.")
    return torch.compile(model)


def _has_compiler() -> bool:
    return any(map(shutil.which, ("c++", "g++", "clang++", "cl")))


def _multiplies_bfloat16() -> bool:
    """Whether the processor has tiles for products of bfloat16 (Intel's AMX)."""
    return bool(torch.cpu._is_amx_tile_supported())
