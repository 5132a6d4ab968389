"""Exact attention over many keys: every key is read once, block by block, and none is left out.

``scores = (scale · q · k + bias) / temperature``, ``weights = softmax(scores)``,
``value = Σ weights · values``.

Threads take runs of keys. Each run keeps what the streaming engine keeps (`Running`), and the rows
of its largest scores (`Best`). Where a run begins and ends does not depend on the threads, so nor
do the results. The scores of the rows that are listed are computed again in float64: rows that are
nearly equal are told apart, whatever the blocks were.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento.equation.blas import available_cores
from atento.retrieval.candidates import Candidates, proposed
from atento.retrieval.keys import Keys
from atento.retrieval.passing import nothing_else, passed
from atento.retrieval.question import Question, checked_question, whole_number
from atento.retrieval.ranking import ranking, ranking_among
from atento.retrieval.weighing import Fields, shared, weighed

__all__ = ["Scan", "scan"]

Array = npt.NDArray[Any]

QUERIES = 256
"""Queries that are asked at once."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What queries see of the keys.

    Attributes:
        rows: (query, rank) int64, the keys of the largest scores, largest first, of equals the
            lower row; −1 where there are fewer.
        weights, scores: of these, (query, rank); 0 and −∞ where there are fewer. At temperature 0
            the scores are not divided by it.
        lse: (query,), the logarithm of the softmax's denominator: weights = exp(scores − lse),
            also of those that are not listed. At temperature 0 it is that of the largest scores.
        value: (query, value feature), or None.
        mass: (query,), the weight that the listed rows hold together.
    """

    lse: Array
    rows: Array
    weights: Array
    scores: Array
    value: Array | None
    mass: Array


def scan(
    queries: Any,
    keys: Keys,
    values: Any = None,
    *,
    scale: float,
    bias: Any = None,
    top_k: int = 10,
    temperature: float = 1.0,
    candidates: Candidates | None = None,
    proposals: int = 256,
    threads: int | None = None,
) -> Scan:
    """Exact attention of some queries over many keys, which are read block by block.

    ``scores = (scale · q · k + bias) / temperature``, ``weights = softmax(scores)``,
    ``value = Σ weights · values``.

    Args:
        queries: (query, feature).
        keys: (key, feature), wherever they lie.
        values: (key, value feature), or None: no value is wanted.
        scale: multiplies q · k.
        bias: (key,), added to the scores before they are divided; −∞ hides a key.
        top_k: how many rows are listed.
        temperature: ≥ 0. At 0, the limit, the keys of the largest score share all weight equally.
        candidates: who proposes the keys that are looked at: the softmax is then exact over them,
            and says nothing of the others (`recall` measures what they would have held).
        proposals: how many keys are asked for.
        threads: how many share the keys; all cores when left out. The results are the same bits.

    Returns:
        A `Scan`, in float32, or float64 where queries or keys are. NaN is passed on.

    Raises:
        InputError, ShapeError, DTypeError: what was expected and what came.

    Memory: a few blocks per thread, and (query, top_k) of results.

    >>> from atento.retrieval.keys import HeldKeys
    >>> keys = HeldKeys([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> seen = scan(np.array([[0.0, 1.0]]), keys, np.array([[1.0], [2.0], [3.0]]), scale=1, top_k=2)
    >>> seen.rows, seen.weights.round(4), seen.value.round(4)
    (array([[1, 2]]), array([[0.4573, 0.3744]]), array([[2.2062]]))
    """
    whole_number("proposals", proposals)
    if candidates is not None and scale <= 0:
        raise InputError(f"candidates are the nearest keys: scale must be above 0; got {scale}.")
    question = checked_question(
        queries,
        keys,
        values,
        scale=scale,
        bias=bias,
        top_k=top_k,
        temperature=temperature,
        threads=available_cores() if threads is None else threads,
    )
    parts = [
        _answered(question.part(slice(start, start + QUERIES)), candidates, proposals)
        for start in range(0, max(len(question.queries), 1), QUERIES)
    ]
    joined: list[Any] = [
        None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
    ]
    return Scan(*joined)


def _answered(question: Question, candidates: Candidates | None, proposals: int) -> Fields:
    """The fields of the answer to some queries."""
    # NaN and ∞ in the inputs are passed on as numbers are, without NumPy's warnings.
    with np.errstate(all="ignore"):
        if candidates is None:
            sums, near = passed(question)
            found = ranking(question, near)
        else:
            count = max(proposals, question.top_k)
            rows = proposed(candidates, question.queries, count, question.keys.size)
            sums, found = nothing_else(question), ranking_among(question, rows)
        return (weighed if question.temperature else shared)(question, found, sums)
