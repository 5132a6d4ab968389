"""Statistics of all weights: what they cost beside attention alone, in time and in memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from atento.equation.request import checked_request
from atento.masks import Causal
from atento.statistics import compiled
from atento.statistics.folding import fold
from atento.statistics.survey import survey
from atento.statistics.wishes import default_statistics
from benchmarks.harness import Row, ratio, row

sdpa = F.scaled_dot_product_attention
HEADS, SIZE = 8, 64
PAIRS = {1024: 15, 2048: 9, 4096: 7, 8192: 3, 16384: 1}


def inputs(tokens: int) -> list[torch.Tensor]:
    torch.manual_seed(2017)
    return [torch.randn(1, HEADS, tokens, SIZE) for _ in range(3)]


def rows() -> Iterator[Row]:
    yield from time()
    yield from second_pass()
    yield from memory()


@contextmanager
def path(name: str) -> Iterator[None]:
    """Within, the kernel serves wherever it can, or nowhere."""
    usual = compiled.WORTH
    compiled.WORTH = 0 if name == "compiled" else sys.maxsize
    try:
        yield
    finally:
        compiled.WORTH = usual


def paths() -> list[str]:
    return ["plain", *(["compiled"] if compiled.available() else [])]


AT_MOST = {"plain": 2.7, "compiled": 1.8}


def time() -> Iterator[Row]:
    """Output, log-sum-exp and all default statistics, over torch's attention alone."""
    for tokens, pairs in PAIRS.items():
        qkv = inputs(tokens)
        for name in paths():
            with path(name):
                yield ratio(
                    f"survey / sdpa, {HEADS} × {tokens}, causal, {name}",
                    lambda qkv=qkv: survey(*qkv, mask=Causal()),
                    lambda qkv=qkv: sdpa(*qkv, is_causal=True),
                    at_most=AT_MOST[name],
                    pairs=pairs,
                )


def second_pass() -> Iterator[Row]:
    """What the weights themselves cost, before anything is folded over them."""
    qkv = inputs(4096)
    options = {"bias": None, "scale": None, "softcap": None, "sinks": None, "dropout": 0.0}
    request = checked_request(*qkv, mask=Causal(), seed=None, **options)
    lse = survey(*qkv, mask=Causal(), statistics=[]).lse
    default = default_statistics()
    for name in paths():
        with path(name):
            yield ratio(
                f"statistics alone / sdpa, {HEADS} × 4096, causal, {name}",
                lambda: fold(request, lse, default),
                lambda: sdpa(*qkv, is_causal=True),
                at_most=AT_MOST[name] - 1,
                pairs=9,
            )


MEMORY = """
import sys, torch
from atento.masks import Causal
from atento.statistics.survey import survey
def run(tokens):
    torch.manual_seed(0)
    qkv = [torch.randn(1, 2, tokens, 16) for _ in range(3)]
    return lambda: survey(*qkv, mask=Causal())
def kilobytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1])
run(600)()  # what the first call loads
work = run(int(sys.argv[1]))
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
work()
print(kilobytes("VmHWM") - before)
"""


def memory() -> Iterator[Row]:
    """Peak of resident memory beyond the inputs (Linux), from 2k tokens to 32k: 16 times."""
    peaks = {tokens: _peak(tokens) for tokens in (2048, 4096, 8192, 16384, 32768)}
    yield row(
        "growth of memory where tokens grow 16 times, 2k to 32k",
        [peaks[32768] / peaks[2048]],
        "×",
        at_most=16,
        detail=", ".join(f"{tokens}: {size:.1f} MB" for tokens, size in peaks.items()),
    )


def _peak(tokens: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tokens)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    return int(done.stdout) * 1024 / 1e6
