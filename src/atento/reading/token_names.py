"""The token ids of each forward pass of a recording, and what the tokens are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._arrays import to_numpy
from atento._errors import InputError, ShapeError

__all__ = ["UNKNOWN", "Names", "TokenNames", "as_ids"]

Names = list[str] | list[list[str]]

UNKNOWN, NOT_SEEN = -1, "…"
"""The id of a token that came in before anybody looked on, and what it is called."""

TOKENIZER_WAYS = ("convert_ids_to_tokens", "id_to_token", "decode")


class TokenNames:
    """Token ids, and their texts or what gives them texts.

    Attributes:
        ids: (batch, token) for each forward pass.
        names: texts of the first pass's tokens, as they were given; None: they are the ids'.
        tokenizer: names ids, where there are no such texts; or None.
    """

    def __init__(
        self,
        ids: Sequence[npt.NDArray[np.int64]] = (),
        names: Names | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.ids, self.names, self.tokenizer = list(ids), names, tokenizer

    def add(self, ids: Any, first: int) -> None:
        """As `Recording.add_token_ids`."""
        ids = as_ids(ids)
        last = self.ids[-1] if self.ids else None
        if last is not None and first == last.shape[1] > 0 and len(last) == len(ids):
            self.ids[-1] = np.concatenate([last, ids], axis=1)
        else:
            self.ids.append(ids)

    def of_pass(self, k: int, count: int) -> TokenNames:
        """What is known of the k-th of so many passes."""
        shared = not self.ids or count % len(self.ids)
        ids = [] if shared else [self.ids[k * len(self.ids) // count]]
        return TokenNames(ids, self.names if k == 0 else None, self.tokenizer)

    def copy(self) -> TokenNames:
        """The same as it stands: what is added to either is not in the other."""
        return TokenNames(self.ids, self.names, self.tokenizer)

    @property
    def named(self) -> bool:
        """Whether tokens have texts other than their ids."""
        return self.names is not None or self.tokenizer is not None

    def texts(self) -> Names:
        """As `Recording.tokens`."""
        if self.names is not None:
            return self.names
        if not self.ids:
            return []
        named = [_named(self.tokenizer, row.tolist()) for row in self.ids[0]]
        return named[0] if len(named) == 1 else named

    def name(self, names: Any, batch: int | None, length: int | None) -> None:
        """As `Recording.name_tokens`, for so many batch items and tokens where that is known."""
        if isinstance(names, Sequence) and not isinstance(names, str):
            self.names = _checked(list(names), batch, length)
            return
        if not any(hasattr(names, way) for way in TOKENIZER_WAYS):
            raise InputError(
                "name_tokens takes a list of texts or a tokenizer (with one of "
                f"{', '.join(TOKENIZER_WAYS)}); got {type(names).__name__}."
            )
        if not self.ids:
            raise InputError(
                "this recording has no token ids that the tokenizer could name: give the texts "
                "as a list, or set recording.token_ids first."
            )
        self.tokenizer, self.names = names, None


def as_ids(ids: Any) -> npt.NDArray[np.int64]:
    """(batch, token) of whole numbers.

    Raises:
        InputError, ShapeError: when it is nothing of the kind.
    """
    array = to_numpy(ids)
    if array.dtype.kind not in "iu":
        raise InputError(f"token_ids must be whole numbers; got {array.dtype}.")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2:
        raise ShapeError(f"token_ids must be (batch, token) or (token,); got {array.shape}.")
    return array.astype(np.int64)


def _checked(names: list[Any], batch: int | None, length: int | None) -> Names:
    rows = [list(row) for row in names] if _is_nested(names) else [names]
    if not all(isinstance(text, str) for row in rows for text in row):
        raise InputError("name_tokens: every token's text must be a str.")
    if batch is not None and len(rows) not in (1, batch):
        raise ShapeError(f"name_tokens: {len(rows)} lists of texts for {batch} batch items.")
    for row in rows:
        if length is not None and len(row) != length:
            raise ShapeError(
                f"name_tokens: {len(row)} texts for {length} tokens. Special tokens and "
                "padding need a text too."
            )
    return rows[0] if len(rows) == 1 else rows


def _is_nested(names: list[Any]) -> bool:
    return bool(names) and all(isinstance(row, list | tuple) for row in names)


def _named(tokenizer: Any, ids: list[int]) -> list[str]:
    known = iter(_by_tokenizer(tokenizer, [i for i in ids if i != UNKNOWN]))
    return [NOT_SEEN if i == UNKNOWN else next(known) for i in ids]


def _by_tokenizer(tokenizer: Any, ids: list[int]) -> list[str]:
    if tokenizer is None:
        return [str(i) for i in ids]
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        return [str(text) for text in tokenizer.convert_ids_to_tokens(ids)]
    if hasattr(tokenizer, "id_to_token"):
        return [_or_id(tokenizer.id_to_token(i), i) for i in ids]
    return [str(tokenizer.decode([i])) for i in ids]


def _or_id(text: str | None, i: int) -> str:
    return str(i) if text is None else text
