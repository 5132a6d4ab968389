"""The streaming engine for NumPy: exact attention block by block, in O(T) memory.

For each block of queries the blocks of keys pass by once. A running maximum m, a running sum l of
``exp(score − m)`` and a running weighted sum of values are all that is kept (Milakov & Gimelshein
2018, arXiv 1805.02867; Rabe & Staats 2021, arXiv 2112.05682; Dao et al. 2022, arXiv 2205.14135).
Blocks that the mask empties are skipped.

Three things make it fast. Blocks stay in the cache. Threads take blocks of queries over all heads,
with one BLAS thread each. And where ``‖q‖ · max ‖k‖`` bounds all scores of a block of queries
well inside the range of exp (Cauchy–Schwarz), the running maximum is not needed: m stays 0, which
changes no weight beyond rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.equation.blas import available_cores
from atento.equation.computed import Computed
from atento.equation.dropout import kept
from atento.equation.request import Request
from atento.equation.running import SAFE_SCORE, Running
from atento.equation.workers import share_out
from atento.masks import ALL, NONE, Coverage, Mask
from atento.positions.distance_bias import DistanceBias

__all__ = ["stream"]

Array = npt.NDArray[Any]

ROWS, COLS = 512, 512
"""Queries × keys in a block: with the scores of a block (1 MB in float32) and the keys and values
that it reads, about a half of a core's second-level cache is filled."""

SAFE_VALUE = 1e20
"""And values up to this size cannot overflow when multiplied by such a weight."""


@dataclass(frozen=True, eq=False)
class _Head:
    """One (batch, head): its arrays, and everything that does not change from block to block."""

    unit: int
    query: Array
    key: Array
    value: Array
    bias: Array | DistanceBias | None
    sink: float | None
    mask: Mask | None
    longest_key: float
    largest_value: float
    largest_bias: float
    output: Array
    lse: Array


class _Buffers:
    """Memory that one thread uses again for every block: fresh pages would cost more than sums."""

    def __init__(self, request: Request) -> None:
        Tk = max(request.key.shape[-2], 1)
        d, dv = request.key.shape[-1], request.value.shape[-1]
        dtype = request.compute_dtype
        self.query = np.empty((ROWS, d), dtype)
        self.scores = np.empty(ROWS * min(COLS, Tk), dtype)
        self.product = np.empty((ROWS, dv), dtype)
        self.ones = np.ones(min(COLS, Tk), dtype)


def stream(request: Request) -> Computed:
    """Compute output and log-sum-exp without holding the weights.

    Memory beyond inputs and outputs: a few blocks per thread. Half-precision inputs are converted
    head by head.
    """
    output = np.zeros(request.output_shape, request.query.dtype)
    lse = np.full(request.output_shape[:-1], -np.inf, request.compute_dtype)
    Tq, Tk = request.weights_shape[-2:]
    if (not output.size and not lse.size) or Tk == 0:
        return Computed(output, lse)

    def work(tasks: Iterator[tuple[_Head, range]]) -> None:
        buffers = _Buffers(request)
        # NaN and ∞ in the inputs are passed on as numbers are, without NumPy's warnings.
        with np.errstate(all="ignore"):
            for head, rows in tasks:
                _attend(request, head, rows, buffers)

    blocks = len(range(0, Tq, ROWS)) * int(np.prod(request.query.shape[:-2]))
    share_out(_tasks(request, output, lse), work, threads=min(available_cores(), blocks))
    return Computed(output, lse)


def _tasks(request: Request, output: Array, lse: Array) -> Iterator[tuple[_Head, range]]:
    """All (head, block of queries), the last queries first.

    Under a causal mask those are the longest, and the short ones fill the gaps at the end.
    """
    Tq = request.query.shape[-2]
    blocks = [range(start, min(start + ROWS, Tq)) for start in range(0, Tq, ROWS)]
    for unit, index in enumerate(np.ndindex(request.query.shape[:-2])):
        head = _head(request, unit, index, output, lse)
        for rows in reversed(blocks):
            yield head, rows


def _head(request: Request, unit: int, index: tuple[int, ...], output: Array, lse: Array) -> _Head:
    kv_index = (*index[:-1], index[-1] // request.group) if index else ()
    key = request.key[kv_index].astype(request.compute_dtype, copy=False)
    value = request.value[kv_index].astype(request.compute_dtype, copy=False)
    bias = request.bias
    if isinstance(bias, DistanceBias):
        own = np.broadcast_to(bias.values, (*request.weights_shape[:-2], bias.values.shape[-1]))
        bias = DistanceBias(own[index], bias.lengths)
    elif bias is not None:
        bias = np.broadcast_to(bias, request.weights_shape)[index]
    sink = None
    if request.sinks is not None:
        sink = float(request.sinks if request.sinks.ndim == 0 else request.sinks[index[-1:] or 0])
    return _Head(
        unit=unit,
        query=request.query[index],
        key=key,
        value=value,
        bias=bias,
        sink=sink,
        mask=None if request.mask is None else request.mask.at(index),
        longest_key=float(np.sqrt(np.einsum("td,td->t", key, key).max())),
        largest_value=_largest(value),
        largest_bias=0.0
        if bias is None
        else _largest(bias.values if isinstance(bias, DistanceBias) else bias),
        output=output[index],
        lse=lse[index],
    )


def _largest(array: Array) -> float:
    """The largest magnitude; NaN when there is one."""
    return float(np.maximum(array.max(initial=0), -array.min(initial=0)))


def _attend(request: Request, head: _Head, rows: range, buffers: _Buffers) -> None:
    """Fill output and log-sum-exp for one block of queries of one head."""
    span = slice(rows.start, rows.stop)
    query = buffers.query[: len(rows)]
    np.multiply(head.query[span], request.scale, out=query, casting="same_kind")
    state = Running(len(rows), head.value.shape[-1], query.dtype)
    bounded = _bounded(request, head, query)
    Tk = request.key.shape[-2]
    for start in range(0, Tk, COLS):
        cols = range(start, min(start + COLS, Tk))
        tile = ALL if head.mask is None else head.mask.block(rows, cols)
        if tile is NONE:
            continue
        visible = None if isinstance(tile, Coverage) else tile
        scores = _scores(request, head, query, rows, cols, buffers)
        if bounded:
            state.see(visible)
        else:
            scores = state.shifted(scores, visible)
        weights = np.exp(scores, out=scores)
        if visible is not None:
            weights *= visible
        state.total += weights @ buffers.ones[: len(cols), None]
        if request.dropout:
            query_index = np.arange(rows.start, rows.stop)[:, None]
            key_index = np.arange(cols.start, cols.stop)
            weights *= kept(request.seed, request.dropout, head.unit, query_index, key_index, np)
        state.summed += _weighted_values(head, weights, cols, visible, buffers)
    _finish(request, head, span, state)


def _bounded(request: Request, head: _Head, query: Array) -> bool:
    """Whether all scores of this block of queries surely lie within ±SAFE_SCORE.

    Cauchy–Schwarz: ``|q · k| <= ‖q‖ ‖k‖``. False where anything is NaN.
    """
    longest_query = float(np.sqrt(np.einsum("td,td->t", query, query).max()))
    bound = longest_query * head.longest_key
    if request.softcap is not None:
        bound = min(bound, request.softcap)
    return head.largest_value <= SAFE_VALUE and bound + head.largest_bias <= SAFE_SCORE


def _scores(
    request: Request, head: _Head, query: Array, rows: range, cols: range, buffers: _Buffers
) -> Array:
    """softcap(Q Kᵀ · scale) + bias for one block; the scale is in the query already."""
    scores = buffers.scores[: len(rows) * len(cols)].reshape(len(rows), len(cols))
    np.matmul(query, head.key[cols.start : cols.stop].T, out=scores)
    if request.softcap is not None:
        scores /= request.softcap
        np.tanh(scores, out=scores)
        scores *= request.softcap
    if head.bias is not None:
        if isinstance(head.bias, DistanceBias):
            scores += head.bias.tile(rows, cols)
        else:
            scores += head.bias[rows.start : rows.stop, cols.start : cols.stop]
    return scores


def _weighted_values(
    head: _Head, weights: Array, cols: range, visible: Array | None, buffers: _Buffers
) -> Array:
    """Weights V for one block, where a key that may not be seen adds nothing, even NaN or ∞."""
    value = head.value[cols.start : cols.stop]
    product = buffers.product[: len(weights)]
    if visible is None or head.largest_value < np.inf:
        return np.matmul(weights, value, out=product)
    finite = np.isfinite(value)
    np.matmul(weights, np.where(finite, value, 0), out=product)
    for j in np.flatnonzero(~finite.all(axis=1)):
        odd = np.where(finite[j], 0, value[j])
        product += np.where(visible[:, j, None], weights[:, j, None] * odd, 0)
    return product


def _finish(request: Request, head: _Head, span: slice, state: Running) -> None:
    """Output = summed / total, and the logarithm of the total; the sink joins the total here."""
    shift, total, summed, seen = state.shift, state.total, state.summed, state.seen
    if head.sink is not None:
        higher = np.maximum(shift, head.sink)
        shrink = np.exp(shift - higher)
        total = total * shrink + np.exp(head.sink - higher)
        summed = summed * shrink
        shift = higher
    kept_total = np.where(seen, total * (1 - request.dropout), 1)
    head.output[span] = np.where(seen, summed / kept_total, 0)
    head.lse[span] = np.where(seen, shift + np.log(np.where(seen, total, 1)), -np.inf)[:, 0]
