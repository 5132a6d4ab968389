"""What statistics ask of a few rows of scores, compiled by Numba.

Rows are short enough to stay in the first-level cache from the first sum to the last. Those that
are folded over queries too come by four, so that sums and places are read once for all four.
"""
# mypy: disallow_untyped_decorators=False
# Numba's have no types.

from typing import Any

import numba
import numpy as np

from atento.statistics.exponential import (
    LOWEST,
    NONE,
    NOWHERE,
    SUMS,
    ZERO,
    bits,
    exp,
    held,
    larger,
    smaller,
    where,
)

__all__ = ["fold_rows"]

Array = Any
njit: Any = numba.njit  # their types know nothing of calls from one compiled function to another


@njit(fastmath=SUMS)
def _weigh(row: Array, lse: Any) -> Any:
    """Turn scores into weights; Σ p log p, and the bits of the largest."""
    total, most = ZERO, NONE
    for j in range(row.shape[0]):
        log = held(row[j] - lse)
        weight = exp(log)
        row[j] = weight
        total += weight * log
        most = larger(most, bits(weight))
    return total, most


@njit(fastmath=SUMS)
def _weigh_visible(row: Array, lse: Any, visible: Array) -> Any:
    """`_weigh`, where only some keys are seen. What is hidden may be NaN."""
    total, most = ZERO, NONE
    for j in range(row.shape[0]):
        log = held(row[j] - lse)
        log = log if visible[j] else LOWEST
        weight = exp(log) if visible[j] else ZERO
        row[j] = weight
        total += weight * log
        most = larger(most, bits(weight))
    return total, most


@njit
def _first(row: Array, most: Any) -> Any:
    """Where the first number with these bits stands."""
    place = NOWHERE
    for j in range(row.shape[0]):
        place = smaller(place, where(row[j], most, j))
    return place


@njit(fastmath=SUMS)
def _moments(row: Array, places: Array, into: Array) -> None:
    """Add Σ p, Σ p x and Σ p x² of one row, in float64."""
    zeroth, first, second = 0.0, 0.0, 0.0
    for j in range(row.shape[0]):
        weight, x = np.float64(row[j]), places[j]
        product = weight * x
        zeroth += weight
        first += product
        second += product * x
    into[0] += zeroth
    into[1] += first
    into[2] += second


@njit(fastmath=SUMS)
def _moments_of_four(
    row_a: Array, row_b: Array, row_c: Array, row_d: Array, places: Array, into: Array
) -> None:
    """The same of four rows: places are read once for all."""
    a0, a1, a2, b0, b1, b2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    c0, c1, c2, d0, d1, d2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(row_a.shape[0]):
        x = places[j]
        a, b = np.float64(row_a[j]), np.float64(row_b[j])
        c, d = np.float64(row_c[j]), np.float64(row_d[j])
        ax, bx, cx, dx = a * x, b * x, c * x, d * x
        a0, b0, c0, d0 = a0 + a, b0 + b, c0 + c, d0 + d
        a1, b1, c1, d1 = a1 + ax, b1 + bx, c1 + cx, d1 + dx
        a2, b2, c2, d2 = a2 + ax * x, b2 + bx * x, c2 + cx * x, d2 + dx * x
    into[0, 0] += a0
    into[0, 1] += a1
    into[0, 2] += a2
    into[1, 0] += b0
    into[1, 1] += b1
    into[1, 2] += b2
    into[2, 0] += c0
    into[2, 1] += c1
    into[2, 2] += c2
    into[3, 0] += d0
    into[3, 1] += d1
    into[3, 2] += d2


@njit
def _add(row: Array, sums: Array) -> None:
    for j in range(row.shape[0]):
        sums[j] += row[j]


@njit
def _raise(row: Array, maxima: Array) -> None:
    for j in range(row.shape[0]):
        maxima[j] = larger(maxima[j], bits(row[j]))


# Sums and maxima in loops of their own: LLVM checks at run time that arrays do not overlap before
# it uses vector instructions, and gives up where there are more than eight pairs to compare.


@njit
def _add_four(a: Array, b: Array, c: Array, d: Array, sums: Array) -> None:
    for j in range(a.shape[0]):
        sums[j] += (a[j] + b[j]) + (c[j] + d[j])


@njit
def _raise_four(a: Array, b: Array, c: Array, d: Array, maxima: Array) -> None:
    for j in range(a.shape[0]):
        some, others = larger(bits(a[j]), bits(b[j])), larger(bits(c[j]), bits(d[j]))
        maxima[j] = larger(maxima[j], larger(some, others))


@njit(fastmath=SUMS)
def _on_same(row: Array, tokens: Array, own: Any) -> Any:
    """Σ p over the keys that have the query's own token."""
    total = ZERO
    for j in range(row.shape[0]):
        total += row[j] if tokens[j] == own else ZERO
    return total


@njit
def _weigh_row(row: Array, lse: Any, visible: Array, masked: bool) -> Any:
    """Turn the scores of a row into weights; Σ p log p, and the bits of the largest."""
    if lse == -np.inf:  # it sees no key
        row[:] = ZERO
        return ZERO, NONE
    if masked:
        return _weigh_visible(row, lse, visible)
    return _weigh(row, lse)


@njit
def _pick(row: Array, column: int, places: Array, into: Array, i: int) -> None:
    """The weights at some places of the run, where they lie in this row."""
    for kind in range(places.shape[0]):
        place = places[kind, i] - column
        if 0 <= place < row.shape[0]:
            into[kind, i] = row[place]


@njit
def _match(
    row: Array, column: int, own: Array, tokens: Array, until: Array, into: Array, i: int
) -> None:
    """Add the weights on the query's own token, of each kind up to another key."""
    for kind in range(tokens.shape[0]):
        length = min(row.shape[0], until[kind] + i - column)
        if length > 0:
            same = tokens[kind, column : column + length]
            into[kind, i] += _on_same(row[:length], same, own[i])


@njit
def fold_rows(
    rows: Array,
    lead: int,
    at: int,
    bin_of_run: int,
    lse: Array,
    visible: Array,
    masked: bool,
    left: int,
    column: int,
    width: int,
    entropy: Array,
    largest: Array,
    keys: Array,
    places: Array,
    moments: Array,
    sums: Array,
    maxima: Array,
    picks: Array,
    picked: Array,
    own: Array,
    tokens: Array,
    until: Array,
    matched: Array,
) -> None:
    """Turn at most four rows of scores, all of one bin, into weights, and add them to a run.

    `rows` (query, key) hold scores of `width` keys from key `lead` on, of queries of the block from
    query `at` on, all in the bin `bin_of_run`. Their first key is key `left` of the block and key
    `column` of the run. All else is as in `kernels.reduce_scores`.
    """
    stop = column + width
    for n in range(rows.shape[0]):
        i, row = at + n, rows[n][lead : lead + width]
        seen = visible[i if masked else 0][left : left + width]
        total, bits_of_most = _weigh_row(row, lse[i], seen, masked)
        entropy[i] += total
        if bits_of_most > largest[i]:
            largest[i] = bits_of_most
            if keys.size:
                keys[i] = column + _first(row, bits_of_most)
        _pick(row, column, picks, picked, i)
        _match(row, column, own, tokens, until, matched, i)
    if rows.shape[0] == 4:
        a, b = rows[0][lead : lead + width], rows[1][lead : lead + width]
        c, d = rows[2][lead : lead + width], rows[3][lead : lead + width]
        if moments.size:
            _moments_of_four(a, b, c, d, places[column:stop], moments[at : at + 4])
        if sums.size:
            _add_four(a, b, c, d, sums[bin_of_run][column:stop])
            _raise_four(a, b, c, d, maxima[bin_of_run][column:stop])
        return
    for n in range(rows.shape[0]):
        row = rows[n][lead : lead + width]
        if moments.size:
            _moments(row, places[column:stop], moments[at + n])
        if sums.size:
            _add(row, sums[bin_of_run][column:stop])
            _raise(row, maxima[bin_of_run][column:stop])
