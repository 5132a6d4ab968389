"""Exact attention over a million keys of 384 numbers, against the formula, the machine and FAISS.

The limits. One query: every key is read once, 1.54 GB in float32, and two operations are done with
each number: memory is the limit, and the ceiling is how fast two threads can read. 64 queries:
2 · 64 · 384 · 10⁶ = 49 · 10⁹ operations for the product, 32 for every byte, so the ceiling is BLAS;
64 · 10⁶ exponentials and comparisons come on top, in the cache. From float16 half as much is read
and every number is converted once; memory beyond the map is one block for each thread.

The keys are a mixture, as embeddings of texts are: 5,000 topics, 200 keys each, whose cosine is
0.67 within a topic and about 0 ± 0.05 between them. At temperature 0.05 nearly all weight of a
query lies on its own topic; at 0.1 most would lie on the 999,800 others, and no 256 candidates
could hold it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
from threadpoolctl import threadpool_limits

from atento.retrieval.candidates import FaissCandidates, recall
from atento.retrieval.keys import HeldKeys, quantized
from atento.retrieval.mapped_keys import MappedKeys
from atento.retrieval.scan import scan
from benchmarks.harness import Row, ratio, row

SIZE, DIM, TOPICS = int(os.environ.get("ATENTO_BENCH_KEYS", "1000000")), 384, 5000
TEMPERATURE, TOP = 0.05, 10
PIECE = 50_000


def mixture(count: int, seed: int) -> np.ndarray:
    """Unit vectors around the topics."""
    middle = np.random.default_rng(2017).standard_normal((TOPICS, DIM), dtype=np.float32)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, DIM), dtype=np.float32) * np.float32(0.7 / DIM**0.5)
    rows += middle[rng.integers(0, TOPICS, count)]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def formula(queries: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, ...]:
    """What `scan` returns without values, as a careful hand writes it in NumPy."""
    scores = queries @ keys.T
    scores *= np.float32(1 / TEMPERATURE)
    top = scores.max(axis=1, keepdims=True)
    rows = np.argpartition(scores, len(keys) - TOP, axis=1)[:, -TOP:]
    listed = np.take_along_axis(scores, rows, axis=1)
    order = np.argsort(-listed, axis=1)
    rows, listed = (np.take_along_axis(x, order, axis=1) for x in (rows, listed))
    scores -= top
    np.exp(scores, out=scores)
    lse = top[:, 0] + np.log(scores.sum(axis=1))
    weights = np.exp(listed - lse[:, None])
    return lse, rows, weights, listed, weights.sum(axis=1)


def read(keys: np.ndarray) -> None:
    """Look at every number once, as fast as two threads can."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: keys[i : i + 4096].max(), range(0, len(keys), 4096)))


def rows() -> Iterator[Row]:
    keys = HeldKeys(dim=DIM)
    for start in range(0, SIZE, PIECE):
        keys.append(mixture(min(PIECE, SIZE - start), start + 1))
    queries = mixture(64, 0)
    yield from exact(keys, queries)
    with tempfile.TemporaryDirectory() as folder:
        yield from in_files(keys, queries, Path(folder))
    yield from beside_faiss(keys, queries)
    yield from among_candidates(keys, queries)


def ask(keys, queries, **options):
    return scan(queries, keys, scale=1.0, temperature=TEMPERATURE, top_k=TOP, **options)


def exact(keys: HeldKeys, queries: np.ndarray) -> Iterator[Row]:
    held = keys.block(0, SIZE)
    for count, at_most in ((1, 1.0), (64, 0.6)):
        own = queries[:count]
        yield ratio(
            f"exact, {count} quer{'y' if count == 1 else 'ies'} / formula in NumPy",
            lambda own=own: ask(keys, own),
            lambda own=own: formula(own, held),
            at_most=at_most,
            pairs=5,
        )
    yield ratio(
        "exact, 1 query / formula, each after a rest of 0.3 s",
        lambda: ask(keys, queries[:1]),
        lambda: formula(queries[:1], held),
        at_most=1.0,
        rest=0.3,
    )
    yield ratio(
        "reading all keys / exact, 1 query (memory)",
        lambda: read(held),
        lambda: ask(keys, queries[:1]),
        at_least=0.6,
    )
    columns, product = np.ascontiguousarray(queries.T), np.empty((SIZE, 64), np.float32)
    yield ratio(
        "product alone / exact, 64 queries (BLAS)",
        lambda: np.matmul(held, columns, out=product),
        lambda: ask(keys, queries),
        at_least=0.6,
        pairs=5,
    )


def in_files(keys: HeldKeys, queries: np.ndarray, folder: Path) -> Iterator[Row]:
    half, whole = folder / "half.vectors", folder / "bytes.vectors"
    error = write(keys, half, whole)
    mapped = MappedKeys(half, "float16", SIZE, DIM)
    for count in (1, 64):
        ask(mapped, queries[:count])
        yield ratio(
            f"float16 map, warm / float32 in memory, {count} quer{'y' if count == 1 else 'ies'}",
            lambda count=count: ask(mapped, queries[:count]),
            lambda count=count: ask(keys, queries[:count]),
            at_most=2.0,
            pairs=5,
        )
    yield row(
        "memory beyond a float16 map, 64 queries",
        [extra_megabytes(half)],
        "MB",
        at_most=300,
        detail=f"the map has {half.stat().st_size / 1e6:.0f} MB",
    )
    approximate = ask(MappedKeys(whole, "int8", SIZE, DIM), queries)
    listed = keys.rows(approximate.rows.ravel()).reshape(64, TOP, DIM)
    scores = np.einsum("qd,qkd->qk", queries, listed) / TEMPERATURE
    off = np.abs(approximate.scores - scores).max() * TEMPERATURE
    yield row(
        "int8: largest error of a listed q · k / the stated bound",
        [float(off / error)],
        "×",
        at_most=1,
        detail=f"stated {error:.2g}, measured {off:.2g}",
    )


def write(keys: HeldKeys, half: Path, whole: Path) -> float:
    """The keys in float16 and in bytes; the error that is stated for the latter."""
    error = 0.0
    with half.open("wb") as f, whole.open("wb") as g, whole.with_suffix(".scales").open("wb") as h:
        for start in range(0, SIZE, PIECE):
            block = keys.block(start, start + PIECE)
            f.write(block.astype("<f2").tobytes())
            few, scales, own = quantized(block)
            g.write(few.tobytes())
            h.write(scales.astype("<f4").tobytes())
            error = max(error, own)
    return error


MEMORY = """
import sys, threading, time
import numpy as np
from atento.retrieval.mapped_keys import MappedKeys
from atento.retrieval.scan import scan
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1])
path, size, dim = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
keys = MappedKeys(path, "float16", size, dim)
queries = np.random.default_rng(0).standard_normal((64, dim), dtype=np.float32)
before, most, done = anonymous(), 0, False
def watch():
    global most
    while not done:
        most = max(most, anonymous())
        time.sleep(0.003)
thread = threading.Thread(target=watch)
thread.start()
scan(queries, keys, scale=1.0)
scan(queries, keys, scale=1.0)
done = True
thread.join()
print(most - before)
"""


def extra_megabytes(path: Path) -> float:
    """Peak of memory that is no file's, over two scans of a map, beyond what was there (Linux)."""
    arguments = [sys.executable, "-c", MEMORY, str(path), str(SIZE), str(DIM)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024 / 1e6


def beside_faiss(keys: HeldKeys, queries: np.ndarray) -> Iterator[Row]:
    flat = faiss.IndexFlatIP(DIM)
    flat.add(keys.block(0, SIZE))
    yield ratio(
        f"top {TOP} and all of the softmax, 64 queries / faiss IndexFlatIP",
        lambda: ask(keys, queries),
        lambda: flat.search(queries, TOP),
        at_most=1.2,
        pairs=3,
    )


def among_candidates(keys: HeldKeys, queries: np.ndarray) -> Iterator[Row]:
    with threadpool_limits(2):
        candidates = FaissCandidates(keys, "ivf", cells=1024, looked_at=8)
    options = {"candidates": candidates, "proposals": 256}
    everything, few = ask(keys, queries), ask(keys, queries, **options)
    held = recall(everything, few)
    yield row(
        "IVF (8 of 1024 cells, 256 proposals): mean weight held",
        [float(held.mean())],
        "",
        at_least=0.95,
        detail=f"64 queries, temperature {TEMPERATURE:g}, least {held.min():.3f}, "
        f"same top {TOP}: {(few.rows == everything.rows).all(axis=1).mean():.0%}",
    )
    for count, at_least in ((1, 20), (64, 5)):
        yield ratio(
            f"exact / with IVF, {count} quer{'y' if count == 1 else 'ies'}",
            lambda count=count: ask(keys, queries[:count]),
            lambda count=count: ask(keys, queries[:count], **options),
            at_least=at_least,
            pairs=5,
        )
