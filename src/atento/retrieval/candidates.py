"""Candidates: which few keys are worth an exact look, proposed by an index made for that."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento._optional import require
from atento.retrieval.keys import Keys
from atento.retrieval.question import whole_number

__all__ = ["Candidates", "FaissCandidates", "proposed", "recall"]

Array = npt.NDArray[Any]

KINDS = ("ivf", "hnsw")
METRICS = ("product", "distance")

PIECE = 32768
"""Keys that are given to FAISS at a time."""

TRAINING = 64
"""Keys for each cell from which the cells are learned."""


class Candidates(Protocol):
    """Whatever proposes keys for a query: FAISS here; a vector database may stand in its place.

    Attributes:
        name: what it is, for reports.
    """

    @property
    def name(self) -> str:
        """What it is, for reports."""
        ...

    def propose(self, queries: Array, count: int) -> Array:
        """Rows of keys (query, count) int64 that may have the largest scores; −1 for none.

        Their order does not matter: scores and weights are computed exactly afterwards.
        """
        ...


def proposed(candidates: Candidates, queries: Array, count: int, size: int) -> Array:
    """What is proposed, after a check: rows (query, count), each at most once, −1 for none.

    Raises:
        InputError: for anything else, by the name of who proposed it.
    """
    rows = np.asarray(candidates.propose(queries, count))
    if rows.ndim != 2 or len(rows) != len(queries) or rows.dtype.kind not in "iu":
        raise InputError(
            f"{candidates.name} must propose whole numbers ({len(queries)}, n) for "
            f"{len(queries)} queries; got {rows.dtype} {rows.shape}."
        )
    rows = np.sort(rows.astype(np.int64), axis=1)
    if rows.size and (rows.min() < -1 or rows.max() >= size):
        wrong = int(rows.max() if rows.max() >= size else rows.min())
        raise InputError(
            f"{candidates.name} proposed row {wrong}, and there are {size} keys: its index belongs "
            "to other keys. Build it again."
        )
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
    return rows


def recall(exact: Any, among: Any) -> Array:
    """How much of the exact weight the candidates hold, (query,): 1 is all of it.

    ``exp(lse of the candidates − lse of all keys)``, of scans at one temperature above 0.

    Args:
        exact: the `Scan` of all keys.
        among: the `Scan` of the same queries among candidates.
    """
    if exact.lse.shape != among.lse.shape:
        raise InputError(
            f"both scans must be of the same queries; got {len(exact.lse)} and {len(among.lse)}."
        )
    share: Array = np.exp(among.lse.astype(np.float64) - exact.lse).clip(max=1)
    return share


class FaissCandidates:
    """Candidates from an index of FAISS (extra ``search``).

    FAISS holds the vectors once more, as bytes ("ivf") or float16 ("hnsw"). Keys that are added
    are indexed by `add`; after keys were replaced or dropped, make a new one.

    Args:
        keys: what is indexed.
        kind: "ivf" (cells around learned centres; a query looks into the nearest ones) or "hnsw"
            (a graph of neighbours; slow to build, fast to ask).
        metric: "product" (of vectors, also for cosines of vectors of length 1) or "distance".
        cells: for "ivf", how many; 4 √n when left out, fewer where there are few keys.
        looked_at: how many cells, or for "hnsw" nodes, a query looks at: more find more, and take
            longer. 1/64 of the cells and at least 8, or 128 nodes, when left out.
        neighbours: for "hnsw", the links of a node.
        seed: "ivf" learns its cells from keys that are drawn with it.

    Raises:
        MissingLibraryError: FAISS is not installed.
        InputError: what was expected and what came.

    Johnson, Douze & Jégou 2017 (arXiv 1702.08734); Malkov & Yashunin 2016 (arXiv 1603.09320).
    """

    def __init__(
        self,
        keys: Keys,
        kind: str = "ivf",
        *,
        metric: str = "product",
        cells: int | None = None,
        looked_at: int | None = None,
        neighbours: int = 32,
        seed: int = 0,
    ) -> None:
        faiss = require("faiss", "to propose candidates")
        for name, given, known in (("kind", kind, KINDS), ("metric", metric, METRICS)):
            if given not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}; got {given!r}.")
        if keys.size == 0:
            raise InputError("an index of candidates is learned from keys, and there are none yet.")
        self.keys, self.name, self.size = keys, f"faiss-{kind}", 0
        usual = max(1, min(round(4 * keys.size**0.5), keys.size // TRAINING))
        cells = min(usual if cells is None else whole_number("cells", cells), keys.size)
        if looked_at is None:
            looked_at = max(8, cells // 64) if kind == "ivf" else 128
        whole_number("looked_at", looked_at)
        whole_number("neighbours", neighbours)
        factory = f"IVF{cells},SQ8" if kind == "ivf" else f"HNSW{neighbours}_SQfp16"
        measure = faiss.METRIC_INNER_PRODUCT if metric == "product" else faiss.METRIC_L2
        self._index = faiss.index_factory(keys.dim, factory, measure)
        if kind == "ivf":
            self._index.cp.min_points_per_centroid = 1  # or it warns on standard error
        self._index.train(_sample(keys, TRAINING * cells, seed))
        if kind == "ivf":
            self._index.nprobe = looked_at
        else:
            self._index.hnsw.efSearch = looked_at
        self.add()

    def add(self) -> int:
        """Index the keys that came since the last time; how many."""
        first = self.size
        if self.keys.size < first:
            raise InputError(
                f"there were {first} keys and now there are {self.keys.size}: FAISS cannot follow "
                "keys that are dropped. Make new candidates."
            )
        for start in range(first, self.keys.size, PIECE):
            block = self.keys.block(start, min(start + PIECE, self.keys.size))
            self._index.add(np.ascontiguousarray(block, np.float32))
            self.size = start + len(block)
        return self.size - first

    def propose(self, queries: Array, count: int) -> Array:
        """Rows (query, count) int64 of keys that may be the nearest; −1 for none."""
        queries = np.ascontiguousarray(queries, np.float32)
        rows: Array = self._index.search(queries, min(count, self.size))[1]
        return rows


def _sample(keys: Keys, count: int, seed: int) -> Array:
    """At most that many keys, drawn without putting any back."""
    rows = np.arange(keys.size)
    if count < keys.size:
        rows = np.sort(np.random.default_rng(seed).choice(keys.size, count, replace=False))
    return np.ascontiguousarray(keys.rows(rows), np.float32)
