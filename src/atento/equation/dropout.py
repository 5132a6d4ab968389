"""Which weights dropout keeps: a function of the seed and the pair, and of nothing else.

So blocking, threads, devices and the engine chosen cannot change it.
"""

from typing import Any

__all__ = ["column_words", "kept", "mixed", "row_words", "threshold"]

WORD = 2**32 - 1
FIRST, SECOND = 0x7FEB352D, 0x846CA68B
GOLDEN = 0x9E3779B9


def kept(seed: Any, rate: float, unit: Any, query: Any, key: Any, xp: Any) -> Any:
    """The pairs that dropout keeps, each with probability ``1 − rate``.

    The seed, the unit and the query make one 32-bit word, the key another; their exclusive or is
    mixed once more and compared with the rate. The mixing is C. Wellons' ``lowbias32`` (Hash
    Prospector, 2018).

    Args:
        seed: an int, or an integer tensor without axes.
        rate: the probability of being dropped.
        unit: int64 array that broadcasts with the two below: batch and head, counted in row-major
            order.
        query: int64 array of positions.
        key: int64 array of positions.
        xp: the namespace of that library.

    Returns:
        Bools of the shape to which the three broadcast.
    """
    word = mixed(row_words(seed, unit, query, xp), column_words(key, xp), xp)
    pairs: Any = word >= threshold(rate)
    return pairs


def row_words(seed: Any, unit: Any, query: Any, xp: Any) -> Any:
    """The int32 word of each unit and query."""
    source = _mix((seed & WORD) ^ _mix((seed >> 32) & WORD))
    return xp.astype(_mix(query ^ _mix(unit ^ source)), xp.int32)


def column_words(key: Any, xp: Any) -> Any:
    """The int32 word of each key."""
    return xp.astype(_mix((key + GOLDEN) & WORD), xp.int32)


def mixed(rows: Any, columns: Any, xp: Any, out: Any = None, spare: Any = None) -> Any:
    """The int32 word of each pair; in ``out`` where one is given, with room for a step."""
    word = xp.bitwise_xor(rows, columns, out=out)
    word *= FIRST
    word ^= xp.bitwise_right_shift(word, 15, out=spare)
    word *= SECOND - 2**32
    return word


def threshold(rate: float) -> int:
    """A pair is kept when its word is not below this."""
    return round(rate * 2**32) - 2**31


def _mix(word: Any) -> Any:
    """Spread near words far apart: each bit of the result depends on all 32 of the argument."""
    word = word ^ (word >> 16)
    word = (word * FIRST) & WORD
    word = word ^ (word >> 15)
    word = (word * SECOND) & WORD
    return word ^ (word >> 16)
