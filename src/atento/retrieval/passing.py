"""One pass over all keys: running sums for the softmax, and the rows of the largest scores."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from atento.equation.running import Running, joined
from atento.equation.workers import share_out
from atento.retrieval.best import Best, ranked
from atento.retrieval.question import Question

__all__ = ["Blocks", "Near", "Sums", "nothing_else", "passed"]

Array = npt.NDArray[Any]

RUN = 32768
"""Keys that one thread takes at a time."""

SCORES = 131072
"""Scores in a block, 0.5 MB in float32: a quarter of a core's second-level cache."""

CONVERTED = 256
"""Keys at a time where they have to be converted: 0.4 MB where vectors have 384 numbers."""

FEW = 32
"""Queries below which a block of scores is turned, so that each query's lie side by side: what is
done with one number for each query is many times slower where only few lie next to each other."""

SLACK = 8
"""Rows kept beyond those that are listed: rounding may have put them in another order."""

Sums = tuple[Array, Array, Array]
Near = tuple[Array, Array]


def passed(question: Question) -> tuple[Sums, Near]:
    """Read all keys once.

    Returns:
        m (query, 1), Σ exp(score − m) (query, 1) and Σ exp(score − m) value (query, feature), in
        float64; without values at temperature 0, which has no use for them. And scores and rows
        (query, rank) of somewhat more keys than are listed, by the scores of this pass.
    """
    queries = len(question.queries)
    runs = range(0, question.keys.size if queries else 0, RUN)
    results: list[Any] = [None] * len(runs)
    floor = np.full(queries, -np.inf, question.queries.dtype)
    lock = Lock()

    def work(tasks: Iterator[tuple[int, int]]) -> None:
        worker = _Worker(question)
        with np.errstate(all="ignore"):  # each thread has its own setting
            for number, start in tasks:
                with lock:
                    known = floor.copy()
                results[number] = own = worker.run(start, known)
                with lock:
                    if own[1].scores.shape[1] == wanted:
                        np.maximum(floor, own[1].scores[:, -1], out=floor)

    wanted = question.top_k + SLACK
    share_out(enumerate(runs), work, threads=min(question.threads, len(runs)))
    near = _merged([best for _, best in results], (queries, min(wanted, question.keys.size)), floor)
    return joined([_no_sums(question), *(sums for sums, _ in results)]), near


def nothing_else(question: Question) -> Sums:
    """The sums of a pass over no keys at all."""
    return joined([_no_sums(question)])


def _no_sums(question: Question) -> Running:
    return Running(len(question.queries), _features(question), question.queries.dtype)


def _features(question: Question) -> int:
    """Numbers in a value that are summed up in the pass."""
    return 0 if question.values is None or not question.temperature else question.values.shape[1]


def _merged(lists: list[Best], shape: tuple[int, int], floor: Array) -> Near:
    pairs = [(floor[:0].astype(np.int64), floor[:0].astype(np.int64), floor[:0])]
    for best in lists:
        query, place = np.nonzero(best.rows >= 0)
        pairs.append((query, best.rows[query, place], best.scores[query, place]))
    return ranked(pairs, shape)


class _Worker:
    """What one thread uses again for every block: fresh memory would cost more than sums."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.query = question.scaled_queries()
        self.blocks = Blocks(question, len(self.query))

    def run(self, start: int, floor: Array) -> tuple[Running, Best]:
        """Sums and largest scores of one run of keys."""
        stop = min(start + RUN, self.question.keys.size)
        best = Best(floor, min(self.question.top_k + SLACK, stop - start))
        sums = _no_sums(self.question)
        for first, scores in self.blocks.scores(self.query, start, stop):
            best.add(scores, first)
            scores = sums.shifted(scores, None)
            weights = np.exp(scores, out=scores)
            if sums.summed.shape[1]:
                values = self.question.values[first : first + weights.shape[1]]  # type: ignore[index]
                sums.summed += weights @ values.astype(weights.dtype, copy=False)
            sums.total += _summed(weights)[:, None]
        best.settle()
        return sums, best


def _summed(terms: Array) -> Array:
    """The sums over keys of terms (query, key), which are lost.

    Half is added to half, so that rounding grows with the logarithm of their number; NumPy does so
    too, but only along what lies side by side.
    """
    if terms.flags.c_contiguous:
        sums: Array = terms.sum(axis=1)
        return sums
    terms = terms.T
    count = len(terms)
    while count > 1:
        half = count // 2
        terms[:half] += terms[count - half : count]
        count -= half
    total: Array = terms[0]
    return total


class Blocks:
    """Scores of some queries and all keys, block by block, in memory that is used again.

    The product is taken as keys · queriesᵀ: BLAS is a third faster than for its transpose, which is
    what comes back, where the keys are many and the queries few.
    """

    def __init__(self, question: Question, queries: int) -> None:
        self.question = question
        self.length = max(64, min(RUN, SCORES // max(queries, 1), max(question.keys.size, 1)))
        dtype = question.queries.dtype
        self.product = np.empty((self.length, queries), dtype)
        self.turned = np.empty(self.product.size if 1 < queries < FEW else 0, dtype)
        self.converted = np.empty((min(CONVERTED, self.length), question.keys.dim), np.float32)

    def scores(self, query: Array, start: int, stop: int) -> Iterator[tuple[int, Array]]:
        """Pairs of a block's first row and its scores (query, key), until the next is asked for."""
        for first in range(start, stop, self.length):
            product = self.product[: min(self.length, stop - first)]
            self._multiply(query.T, first, product)
            scores = product.T
            if 1 < len(scores) < FEW:
                scores = self.turned[: product.size].reshape(scores.shape)
                np.copyto(scores, product.T)
            bias = self.question.scaled_bias(first, first + len(product))
            if bias is not None:
                scores += bias
            yield first, scores

    def _multiply(self, query: Array, first: int, product: Array) -> None:
        """Product = keys · query (feature, query), of the keys from ``first`` on."""
        done, step = 0, len(self.converted)
        while done < len(product):
            some = product[done : done + step]
            start = first + done
            keys = self.question.keys.block(start, start + len(some), self.converted)
            np.matmul(keys.astype(query.dtype, copy=False), query, out=some)
            done += len(some)
            if not np.may_share_memory(keys, self.converted):
                step = self.length  # they lie there as they are: all at once
