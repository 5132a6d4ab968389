"""Normalisation of queries and keys, each head on its own, before they are compared."""

from typing import Any

from torch import nn

from atento._errors import InputError

__all__ = ["qk_norm_layers"]

LAYERS: dict[str, Any] = {"rms": nn.RMSNorm, "layer": nn.LayerNorm}


def qk_norm_layers(
    owner: str, kind: str | None, head_dim: int, device: Any, dtype: Any
) -> tuple[nn.Module | None, nn.Module | None]:
    """The layers for queries and keys: over the features of one head, shared by all heads.

    ``"rms"``: ``q / √(mean(q²) + ε) · weight``; ``"layer"``: ``(q − mean) / √(var + ε) · weight +
    bias``; None: none.

    Source: Henry et al. 2020 (arXiv 2010.04245) for the idea; with layer norms Dehghani et al.
    2023 (arXiv 2302.05442), section 2; with RMS norms Qwen 3 and Gemma 3.

    Raises:
        InputError: for another kind.
    """
    if kind is None:
        return None, None
    if kind not in LAYERS:
        raise InputError(f'{owner}: qk_norm must be "rms", "layer" or None; got {kind!r}.')
    query, key = (
        LAYERS[kind](head_dim, eps=1e-6, device=device, dtype=dtype) for _ in ("query", "key")
    )
    return query, key
