"""Weights of a block and all that statistics ask of them, in one pass, compiled by Numba.

Only `compiled.py` imports this file; importing it compiles, or loads what was compiled before.
"""

from typing import Any

import numba
from numba import types

from atento.statistics.row_kernels import fold_rows
from atento.statistics.tile_product import PANEL, TILE, product_tile

__all__ = ["STRIP", "reduce_products", "reduce_scores"]

Array = Any
njit: Any = numba.njit  # their types know nothing of calls from one compiled function to another

STRIP = 2 * TILE, 512 + PANEL
"""Queries × keys whose scores are made at a time: 28 KB, less than a first-level cache holds."""

RUN = (
    types.int64,
    types.int64,
    types.int64,
    types.float64[::1],
    types.int32[::1],
    types.int64[::1],
    types.float64[::1],
    types.float64[:, ::1],
    types.float32[:, ::1],
    types.int32[:, ::1],
    types.int64[:, ::1],
    types.float64[:, ::1],
    types.int32[::1],
    types.int32[:, ::1],
    types.int64[::1],
    types.float64[:, ::1],
)
"""What describes a run of blocks, and what is added up in it: the same for both kernels."""


@njit(
    types.void(types.float32[:, ::1], types.float32[:], types.boolean[:, ::1], types.boolean, *RUN),
    nogil=True,
    cache=True,
)
def reduce_scores(
    scores: Array,
    lse: Array,
    visible: Array,
    masked: bool,
    column: int,
    before: int,
    height: int,
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
    """Turn a block of scores into weights, in place, and add it to the reductions of a run.

    A run is some blocks of the same queries, from the first key on. An array without elements
    stands for what nobody asks for.

    Args:
        scores: (query, key).
        lse: (query,), −∞ for a query that sees no key.
        visible: (query, key), read where `masked`.
        masked: whether some are hidden.
        column: where in the run the block's first key stands.
        before: how many queries of the first bin stand before the block.
        height: queries in a bin.
        entropy: (query,), Σ p log p.
        largest: (query,), the bits of the largest weight.
        keys: (query,), where in the run it stands first.
        places: (key of the run,), what moments are taken of.
        moments: (query, power).
        sums: (bin, key of the run), of the queries of each bin.
        maxima: the same, the bits of the largest weights.
        picks: (kind, query), where in the run a weight is wanted; a place outside is none.
        picked: the same, those weights.
        own: (query,), the queries' tokens.
        tokens: (kind, key of the run), those that they are compared with.
        until: (kind,), the first key of the run that is not, for query 0; one more for each other.
        matched: (kind, query), Σ p over the keys where both are the same.
    """
    queries, length = scores.shape
    start = 0
    while start < queries:
        inside = (before + start) // height
        stop = min(start + 4, queries, (inside + 1) * height - before)
        fold_rows(
            scores[start:stop],
            0,
            start,
            inside,
            lse,
            visible,
            masked,
            0,
            column,
            length,
            entropy,
            largest,
            keys,
            places,
            moments,
            sums,
            maxima,
            picks,
            picked,
            own,
            tokens,
            until,
            matched,
        )
        start = stop


@njit
def _span(visible: Array, top: int, bottom: int) -> Any:
    """From which key to which some of these queries see any."""
    first, last = visible.shape[1], 0
    for i in range(top, bottom):
        j = 0
        while j < first and not visible[i, j]:
            j += 1
        first = min(first, j)
        j = visible.shape[1]
        while j > last and not visible[i, j - 1]:
            j -= 1
        last = max(last, j)
    return first, last


@njit
def _fill(strip: Array, query: Array, row: int, panels: Array, start: int, stop: int) -> None:
    """Products of the strip's queries with the keys from `start` to `stop`, panel by panel."""
    features = query.shape[1]
    first, size = query.ctypes.data + row * features * 4, features * PANEL * 4
    for n in range(start // PANEL, (stop - 1) // PANEL + 1):
        into = strip.ctypes.data + (n - start // PANEL) * PANEL * 4
        for i in range(0, strip.shape[0], TILE):
            product_tile(
                first + i * features * 4,
                panels.ctypes.data + n * size,
                into + i * strip.shape[1] * 4,
                strip.shape[1],
                features,
            )


@njit(
    types.void(
        types.float32[:, ::1],
        types.float32[:, :, ::1],
        types.int64,
        types.int64,
        types.int64,
        types.float32[:, ::1],
        types.float32[:, ::1],
        types.float32[:],
        types.boolean[:, ::1],
        types.boolean,
        *RUN,
    ),
    nogil=True,
    cache=True,
)
def reduce_products(
    query: Array,
    panels: Array,
    row: int,
    key: int,
    length: int,
    strip: Array,
    weights: Array,
    lse: Array,
    visible: Array,
    masked: bool,
    column: int,
    before: int,
    height: int,
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
    """`reduce_scores` of products that are made on the way: no block of scores is in memory.

    Args:
        query: all queries of the head, times the scale (`padded_queries`).
        panels: all its keys (`packed_keys`).
        row: the block's first query.
        key: its first key.
        length: how many keys it has.
        strip: room for some scores, `STRIP`.
        weights: (query, key), filled if it has elements.
        lse: (query,), −∞ for a query that sees no key.
        visible: (query, key), read where `masked`.
        masked: whether some are hidden.
        column: where in the run the block's first key stands.
        before: how many queries of the first bin stand before the block.
        height: queries in a bin.
        entropy: (query,), Σ p log p.
        largest: (query,), the bits of the largest weight.
        keys: (query,), where in the run it stands first.
        places: (key of the run,), what moments are taken of.
        moments: (query, power).
        sums: (bin, key of the run), of the queries of each bin.
        maxima: the same, the bits of the largest weights.
        picks: (kind, query), where in the run a weight is wanted; a place outside is none.
        picked: the same, those weights.
        own: (query,), the queries' tokens.
        tokens: (kind, key of the run), those that they are compared with.
        until: (kind,), the first key of the run that is not, for query 0; one more for each other.
        matched: (kind, query), Σ p over the keys where both are the same.
    """
    queries = lse.shape[0]
    wide = strip.shape[1] - PANEL
    for top in range(0, queries, strip.shape[0]):
        bottom = min(top + strip.shape[0], queries)
        first, last = _span(visible, top, bottom) if masked else (0, length)
        if weights.size:
            weights[top:bottom] = 0
        for left in range(first, last, wide):
            width = min(wide, last - left)
            lead = (key + left) % PANEL
            _fill(strip, query, row + top, panels, key + left, key + left + width)
            start = top
            while start < bottom:
                inside = (before + start) // height
                stop = min(start + 4, bottom, (inside + 1) * height - before)
                fold_rows(
                    strip[start - top : stop - top],
                    lead,
                    start,
                    inside,
                    lse,
                    visible,
                    masked,
                    left,
                    column + left,
                    width,
                    entropy,
                    largest,
                    keys,
                    places,
                    moments,
                    sums,
                    maxima,
                    picks,
                    picked,
                    own,
                    tokens,
                    until,
                    matched,
                )
                if weights.size:
                    for i in range(start, stop):
                        weights[i, left : left + width] = strip[i - top][lead : lead + width]
                start = stop
