"""What is folded over, before any weight is known: sizes, where queries stand, and their tokens."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from atento._arrays import dtype_name, is_numpy, is_torch, library_name, to_numpy
from atento._errors import DTypeError, EngineError, InputError, ShapeError
from atento.equation.request import Request
from atento.masks import Mask
from atento.masks.band import Band
from atento.masks.mask import Both, Either, Not
from atento.statistics.block import Extent

__all__ = ["default_first_query", "extents_of", "position_of_query_0"]

Array = Any


def extents_of(request: Request, tokens: Any, first_query: int) -> Callable[[int], Extent]:
    """The extent of each batch item, by its number; what does not fit is refused at once."""
    _check_library(request)
    *batches, heads = request.query.shape[:-2] or (1,)
    Tq, Tk = request.weights_shape[-2:]
    of_query, of_key = _pair_of_tokens(tokens, first_query, Tq, Tk)
    ids = [
        None if own is None else _checked_tokens(request, name, own, tuple(batches), length)
        for name, own, length in (("query", of_query, Tq), ("key", of_key, Tk))
    ]

    def extent(item: int) -> Extent:
        own = [None if array is None else array[item] for array in ids]
        return Extent(
            heads=heads,
            queries=Tq,
            keys=Tk,
            first_query=first_query,
            xp=request.xp,
            dtype=request.compute_dtype,
            device=request.device,
            query_tokens=own[0],
            key_tokens=own[1],
        )

    return extent


def default_first_query(request: Request) -> int:
    """The position of query 0 where none is said.

    Keys − queries, so that the last of both stand together, as in decoding with a cache; 0 where a
    mask is aligned at the start, or there are more queries than keys.
    """
    Tq, Tk = request.weights_shape[-2:]
    return 0 if Tq > Tk or _starts_together(request.mask) else Tk - Tq


def position_of_query_0(request: Request, given: int | None) -> int:
    """The position that was given, or the default one."""
    if given is None:
        return default_first_query(request)
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise InputError(
            "first_query must be a whole number, the position of query 0 on the keys' axis; "
            f"got {given!r}."
        )
    return int(given)


def _starts_together(mask: Mask | None) -> bool:
    if isinstance(mask, Both | Either):
        return _starts_together(mask.first) or _starts_together(mask.second)
    if isinstance(mask, Not):
        return _starts_together(mask.rule)
    return isinstance(mask, Band) and getattr(mask.rule, "align", None) == "start"


def _check_library(request: Request) -> None:
    if not (is_torch(request.query) or is_numpy(request.query)):
        raise EngineError(
            "statistics are folded over NumPy arrays and PyTorch tensors; got "
            f"{library_name(request.query)} arrays. Convert query, key and value to one of these."
        )
    if request.opaque:
        raise EngineError(
            "statistics are folded over numbers and the mask, block by block, which cannot be done "
            "while torch traces the call or without numbers (meta device, torch.func). "
            "Call it outside of torch.compile, torch.export and torch.func."
        )


def _pair_of_tokens(tokens: Any, first_query: int, Tq: int, Tk: int) -> tuple[Any, Any]:
    """Token ids of the queries and of the keys, from one array or from a pair."""
    if tokens is None:
        return None, None
    if (
        isinstance(tokens, tuple)
        and len(tokens) == 2
        and not isinstance(tokens[0], int | np.integer)
    ):
        return tokens
    ids = _whole_numbers("tokens", tokens)
    if ids.ndim and ids.shape[-1] == Tk and 0 <= first_query <= Tk - Tq:
        return ids[..., first_query : first_query + Tq], ids
    raise ShapeError(
        f"tokens must hold one id per key, and the queries' from position {first_query} on: "
        f"there are {Tq} queries and {Tk} keys; got tokens {tuple(ids.shape)}. "
        "Where queries and keys are different tokens, give both: tokens=(query_ids, key_ids)."
    )


def _whole_numbers(name: str, tokens: Any) -> Any:
    try:
        ids = to_numpy(tokens)
    except ValueError:
        raise ShapeError(f"{name} must be (token,) or (batch, token), not ragged.") from None
    if not dtype_name(ids).startswith(("int", "uint")) and ids.size:
        raise DTypeError(
            f"{name} must be token ids, whole numbers as a tokenizer gives them; "
            f"got {dtype_name(ids)}."
        )
    return ids.astype(np.int64)


def _checked_tokens(
    request: Request, name: str, tokens: Any, batches: tuple[int, ...], length: int
) -> Array:
    """Token ids (batch item, token), in the request's library."""
    ids = _whole_numbers(f"the {name} tokens", tokens)
    if ids.shape not in ((length,), (*batches, length)):
        wanted = f"({length},)" + (f" or {(*batches, length)}" if batches else "")
        raise ShapeError(
            f"the {name} tokens must be one id per {name}, {wanted}; got {tuple(ids.shape)}."
        )
    each = np.broadcast_to(ids, (*batches, length)).reshape(prod(batches), length)
    if not len(each):
        each = np.zeros((1, length), np.int64)  # of an empty batch
    return request.xp.asarray(np.array(each), device=request.device)
