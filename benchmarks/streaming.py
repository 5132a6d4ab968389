"""The streaming engine against the formula in NumPy, and against torch's fused attention."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

import atento
from atento.masks import Causal, Window
from benchmarks.harness import Row, ratio, row


def formula(query, key, value):
    """softmax(Q Kᵀ/√d) V as one writes it in NumPy."""
    scores = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(query.shape[-1]))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ value


def formula_in_place(query, key, value):
    """The same by a careful hand: no array of weights is made twice."""
    scores = query @ key.swapaxes(-1, -2)
    scores *= np.float32(1 / np.sqrt(query.shape[-1]))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores @ value


def inputs(heads: int, tokens: int, features: int = 64, spread: float = 1.0):
    rng = np.random.default_rng(2017)
    query, key, value = (
        rng.standard_normal((heads, tokens, features), dtype=np.float32) for _ in range(3)
    )
    return query * np.float32(spread), key * np.float32(spread), value


def rows() -> Iterator[Row]:
    qkv = inputs(8, 4096)
    tensors = [torch.from_numpy(x)[None] for x in qkv]
    yield ratio(
        "formula in NumPy / streaming, 8 × 4096 × 64",
        lambda: formula(*qkv),
        lambda: atento.attention(*qkv, engine="streaming"),
        at_least=2.5,
    )
    yield ratio(
        "formula in place / streaming, the same",
        lambda: formula_in_place(*qkv),
        lambda: atento.attention(*qkv, engine="streaming"),
        at_least=2.0,
    )
    yield ratio(
        "streaming / torch's fused attention, 8 × 4096 × 64",
        lambda: atento.attention(*qkv, engine="streaming"),
        lambda: F.scaled_dot_product_attention(*tensors),
        at_most=1.5,
    )
    wide = inputs(8, 4096, spread=3.0)  # scores of ±70: the running maximum is needed
    wide_tensors = [torch.from_numpy(x)[None] for x in wide]
    yield ratio(
        "formula / streaming, scores too far apart to go without maximum",
        lambda: formula(*wide),
        lambda: atento.attention(*wide, engine="streaming"),
        at_least=2.0,
        pairs=5,
    )
    yield ratio(
        "streaming / torch's fused attention, the same",
        lambda: atento.attention(*wide, engine="streaming"),
        lambda: F.scaled_dot_product_attention(*wide_tensors),
        at_most=2.0,
        pairs=5,
    )
    long = inputs(2, 8192)
    yield ratio(
        "causal / not causal, 2 × 8192 × 64",
        lambda: atento.attention(*long, mask=Causal(), engine="streaming"),
        lambda: atento.attention(*long, engine="streaming"),
        at_most=0.6,
    )
    yield ratio(
        "causal window of 256 / not causal, 2 × 8192 × 64",
        lambda: atento.attention(*long, mask=Causal() & Window(left=255), engine="streaming"),
        lambda: atento.attention(*long, engine="streaming"),
        at_most=0.15,
    )
    yield row(
        "extra memory, causal, 1 × 32768 × 64",
        [extra_megabytes() for _ in range(3)],
        "MB",
        at_most=64,
        detail="the weights alone would be 4295 MB; output included",
    )
    yield from accuracy()


MEMORY = """
import numpy as np
import atento
from atento.masks import Causal
rng = np.random.default_rng(0)
small = [rng.standard_normal((2, 600, 64), dtype=np.float32) for _ in range(3)]
atento.attention(*small, mask=Causal(), engine="streaming")  # what the first call loads
qkv = [rng.standard_normal((1, 32768, 64), dtype=np.float32) for _ in range(3)]
def kilobytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
output = atento.attention(*qkv, mask=Causal(), engine="streaming")
print(kilobytes("VmHWM") - before)
"""


def extra_megabytes() -> float:
    """Peak of resident memory over one call, beyond what was there before it (Linux)."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, env=os.environ
    )
    return int(done.stdout) * 1024 / 1e6


def accuracy() -> Iterator[Row]:
    """The largest difference from float64 on the same inputs."""
    for spread, most in ((1.0, 2e-6), (3.0, 2e-5)):
        query, key, value = inputs(2, 2048, spread=spread)
        wide = [x.astype(np.float64) for x in (query, key, value)]
        exact = atento.attention(*wide, engine="dense")
        for engine in ("dense", "streaming"):
            single = atento.attention(query, key, value, engine=engine)
            yield row(
                f"float32 {engine} against float64, inputs of spread {spread:g}",
                [float(np.abs(single - exact).max())],
                "",
                at_most=most,
            )
