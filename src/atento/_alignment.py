"""Alignment: which key stands under query 0 when there are more keys than queries, or fewer."""

from typing import Literal

from atento._errors import InputError, ShapeError

__all__ = ["Align", "check_align", "key_offset"]

Align = Literal["start", "end"] | None


def check_align(rule: str, align: object) -> None:
    """Refuse an alignment other than "start", "end" and None."""
    if align not in (None, "start", "end"):
        raise InputError(f'{rule}: align must be "start" or "end"; got {align!r}.')


def key_offset(rule: object, align: Align, Tq: int, Tk: int) -> int:
    """The key position under query 0: key j is ``j − i − offset`` away from query i.

    Raises:
        ShapeError: when there are more or fewer queries than keys and no alignment is said.
    """
    if align is None and Tq != Tk:
        raise ShapeError(
            f"{rule!r} needs align= when the lengths differ: there are {Tq} queries and {Tk} "
            f'keys. align="start": query i stands at key i (as PyTorch\'s is_causal). '
            f'align="end": the last query stands at the last key (decoding with a cache).'
        )
    return Tk - Tq if align == "end" else 0
