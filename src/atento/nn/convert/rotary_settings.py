"""Rotary positions as a configuration of transformers says them, read and written."""

from collections.abc import Callable, Mapping
from typing import Any

from atento._errors import InputError
from atento.positions import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    Rotary,
    RotaryScaling,
    YarnScaling,
)

__all__ = ["rotary_of", "rotary_settings"]

THETA = 10000.0  # of a config that does not say

Setting = Callable[[str, Any], Any]


def rotary_of(caller: str, setting: Setting, head_dim: int) -> Rotary:
    """The rotation that a config asks for.

    Args:
        caller: for messages.
        setting: the config's entry of a name, or what is given where there is none.
        head_dim: features of a head.

    Raises:
        InputError: for a rotation of some features only, or a scaling that we do not have.
    """
    # Since release 5 all is in rope_parameters; config.json files of before have two entries.
    rope = setting("rope_parameters", None) or {
        "rope_theta": setting("rope_theta", THETA),
        **(setting("rope_scaling", None) or {}),
    }
    partial = rope.get("partial_rotary_factor")
    if partial is not None and int(head_dim * partial) != head_dim:
        raise InputError(
            f"{caller}: a LlamaAttention rotates all features of a head; this config asks for "
            f"{partial} of them (partial_rotary_factor)."
        )
    return Rotary(
        base=float(rope.get("rope_theta", THETA)), scaling=_scaling(caller, setting, rope)
    )


def _scaling(caller: str, setting: Setting, rope: Mapping[str, Any]) -> RotaryScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    longest = setting("max_position_embeddings", 2048)
    original = rope.get("original_max_position_embeddings") or longest
    factor = rope.get("factor")
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(float(rope["factor"]))
    if kind == "dynamic":
        return DynamicNTKScaling(float(rope["factor"]), longest)
    if kind == "yarn":
        return YarnScaling(
            float(longest / original if factor is None else factor),
            original,
            beta_fast=float(rope.get("beta_fast") or 32),
            beta_slow=float(rope.get("beta_slow") or 1),
            attention_factor=rope.get("attention_factor"),
            mscale=rope.get("mscale"),
            mscale_all_dim=rope.get("mscale_all_dim"),
            truncate=rope.get("truncate", True),
        )
    if kind == "llama3":
        return Llama3Scaling(
            float(rope["factor"]),
            float(rope["low_freq_factor"]),
            float(rope["high_freq_factor"]),
            original,
        )
    raise InputError(
        f"{caller}: this config scales rotary positions by {kind!r}; we have default, linear, "
        "dynamic, yarn and llama3."
    )


def rotary_settings(rotary: Rotary) -> dict[str, Any]:
    """The ``rope_parameters`` of a rotation: what `rotary_of` reads."""
    theta = {"rope_theta": rotary.base}
    scaling = rotary.scaling
    if scaling is None:
        return theta | {"rope_type": "default"}
    kinds = {
        LinearScaling: "linear",
        DynamicNTKScaling: "dynamic",
        YarnScaling: "yarn",
        Llama3Scaling: "llama3",
    }
    said = {
        "original_max_position_embeddings" if name == "original_length" else name: value
        for name, value in vars(scaling).items()
        if value is not None
    }
    return theta | {"rope_type": kinds[type(scaling)]} | said
