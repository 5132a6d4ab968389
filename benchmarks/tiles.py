"""Tiles of one head's weights at 131,072 tokens, from full resolution to the whole map."""

import time
from collections.abc import Iterator

import numpy as np

from atento.masks import Causal
from atento.reading.layer import LayerRecord
from benchmarks.harness import Row, row

TOKENS, FEATURES, SIZE = 131_072, 64, 256
BIN = 32
"""Queries and keys of a bin of the overview, as a capture of so many tokens folds it."""

TILES = 40
MOST = {"full": 10.0, "pooled": 50.0}
"""Milliseconds, of 95 tiles in 100."""


def record() -> LayerRecord:
    """A causal head of random queries and keys, and an overview of random bins.

    The log-sum-exp is that which scores of such queries have on average: the weights are of the
    right size, and nothing is timed that depends on their last digits.
    """
    rng = np.random.default_rng(2017)
    query, key = (rng.standard_normal((1, 1, TOKENS, FEATURES), np.float32) for _ in range(2))
    lse = np.log(np.arange(1, TOKENS + 1)) + (query**2).sum(-1) / (2 * FEATURES)
    bins = TOKENS // BIN
    mean = rng.random((1, 1, bins, bins), np.float32)
    made = LayerRecord(
        layer="layer",
        kind="self",
        side=None,
        way="sdpa",
        query=query,
        key=key,
        lse=lse.astype(np.float32),
        mask=Causal(),
        scale=FEATURES**-0.5,
        statistics={"overview_mean": mean, "overview_max": mean},
        axes=dict.fromkeys(("overview_mean", "overview_max"), ("head", "row bin", "column bin")),
    )
    made.check()
    return made


def corners(zoom: int, count: int) -> list[tuple[int, int]]:
    """Corners of tiles that lie wholly under the diagonal, where there are such."""
    rng = np.random.default_rng(zoom)
    cells = TOKENS >> zoom
    last = cells - SIZE
    rows = rng.integers(min(cells // 2, last), last + 1, count) << zoom
    cols = rng.integers(0, min(cells // 2, last) + 1, count) << zoom
    return [(int(i), int(j)) for i, j in zip(rows, cols, strict=True)]


def rows() -> Iterator[Row]:
    """The figure is the 95th of 100 tiles; the spread goes from the median to the slowest."""
    made = record()
    for zoom in range(10):
        for pool in ("mean",) if not zoom else ("mean", "max"):
            made.tile(0, 0, 0, zoom, SIZE, pool)
            times = [_milliseconds(made, i, j, zoom, pool) for i, j in corners(zoom, TILES)]
            middle, most = np.percentile(times, [50, 95])
            yield row(
                f"tile {SIZE} × {SIZE} of {TOKENS:,}², zoom {zoom}" + f", {pool}" * bool(zoom),
                [middle, most, max(times)],
                "ms",
                at_most=MOST["pooled" if zoom else "full"],
                detail=f"p95; p50 {middle:.3g} ms, {TILES} tiles",
            )


def _milliseconds(made: LayerRecord, row0: int, col0: int, zoom: int, pool: str) -> float:
    start = time.perf_counter()
    made.tile(0, row0, col0, zoom, SIZE, pool)
    return 1000 * (time.perf_counter() - start)
