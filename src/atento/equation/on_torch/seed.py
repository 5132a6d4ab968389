"""Seeds for dropout on torch: from a generator, from a tensor, or from torch's own random state."""

from typing import Any

import torch

from atento._arrays import is_opaque
from atento._errors import InputError

__all__ = ["torch_seed"]


def torch_seed(seed: Any) -> Any:
    """An integer seed; while a compiler traces, the tensor that will hold it.

    None draws from torch's global generator, so that `torch.manual_seed` decides.

    Raises:
        InputError: when the seed is of another kind.
    """
    if isinstance(seed, torch.Tensor):
        if seed.ndim or seed.is_floating_point() or seed.dtype == torch.bool:
            raise InputError(
                "seed must be one whole number (a tensor without axes, of an integer dtype); got "
                f"shape {tuple(seed.shape)} and {seed.dtype}."
            )
        drawn = seed
    elif seed is None or isinstance(seed, torch.Generator):
        device = "cpu" if seed is None else seed.device
        drawn = torch.randint(2**63 - 1, (), generator=seed, device=device)
    elif hasattr(seed, "integers"):  # a numpy.random.Generator
        return int(seed.integers(2**63))
    else:
        raise InputError(
            "seed must be a whole number, a generator of torch or NumPy, or None; "
            f"got {type(seed).__name__}."
        )
    return drawn if is_opaque(drawn) else int(drawn)
