"""What the names of modules say: self or cross, encoder or decoder."""

import torch

from atento.reading.watching import Place

__all__ = ["kind_of", "named_attention", "side_of"]

CROSS = ("cross", "encoder_attn", "encdec", "enc_dec", "enc_attn")
"""Parts of names that modules of cross-attention have, without regard to case."""


def kind_of(place: Place) -> str:
    """Which kind of attention is called there: "self" or "cross".

    `nn.MultiheadAttention` is asked what it was given; a module may say it itself
    (``is_cross_attention``); otherwise the names of classes and attributes decide.
    """
    for i, (module, args, kwargs) in reversed(list(enumerate(place.modules))):
        if isinstance(module, torch.nn.MultiheadAttention):
            query = args[0] if args else kwargs.get("query")
            key = args[1] if len(args) > 1 else kwargs.get("key")
            return "self" if query is key else "cross"
        said = getattr(module, "is_cross_attention", None)
        if isinstance(said, bool):
            return "cross" if said else "self"
        name = type(module).__name__
        if i:
            name += " " + _name_within(place.modules[i - 1][0], module)
        if any(part in name.lower() for part in CROSS):
            return "cross"
        if named_attention(name):
            outer = place.modules[i - 1][0] if i else None
            if outer is None or "attention" not in type(outer).__name__.lower():
                return "self"
    return "self"


def named_attention(named: torch.nn.Module | str) -> bool:
    """Whether the name, or that of the module's class, is an attention's."""
    name = named if isinstance(named, str) else type(named).__name__
    return "attention" in name.lower() or "attn" in name.lower()


def side_of(path: str, has_both: bool) -> str | None:
    """Which stack it is in, "encoder" or "decoder": the first part of the path that says so.

    None where the model has one stack.
    """
    if not has_both:
        return None
    for part in path.split("."):
        if part in ("encoder", "decoder"):
            return part
    return None


def _name_within(outer: torch.nn.Module, inner: torch.nn.Module) -> str:
    """The attribute path of a module within another."""
    return next((name for name, module in outer.named_modules() if module is inner), "")
