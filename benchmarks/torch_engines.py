"""The engines for torch against torch's own attention, and against the formula where that fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F

import atento
from atento.masks import Causal, KeyPadding, Segments, Window
from benchmarks.harness import Row, ratio, row, seconds

sdpa = F.scaled_dot_product_attention
HEADS, LONG, SLOW = 8, 8192, 4096


def inputs(tokens: int, heads: int = HEADS, dv: int = 64, grad: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(2017)
    return [torch.randn(1, heads, tokens, d, requires_grad=grad) for d in (64, 64, dv)]


def both_ways(call: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> Callable[[], object]:
    """Forward and backward."""

    def run() -> object:
        output = call()
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return run


def formula(query, key, value, softcap):
    """Softcapped attention as one writes it."""
    scores = query @ key.mT * query.shape[-1] ** -0.5
    scores = softcap * torch.tanh(scores / softcap)
    return torch.softmax(scores, dim=-1) @ value


def rows() -> Iterator[Row]:
    yield from overhead()
    yield from plain()
    yield from masked()
    yield from slow_path()
    yield from one_head()
    yield from decoding()
    yield from memory()


def overhead() -> Iterator[Row]:
    """What one call costs beyond torch's own, where there is nothing to compute."""
    tiny = [torch.randn(1, 2, 8, 16) for _ in range(3)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # otherwise the time to wake the others is measured
    for name, ours, peer in (
        ("", {}, {}),
        (", causal", {"mask": Causal()}, {"is_causal": True}),
    ):
        figures = []
        for _ in range(15):
            calls = partial(atento.attention, *tiny, **ours), partial(sdpa, *tiny, **peer)
            own, theirs = (median(seconds(call) for _ in range(300)) for call in calls)
            figures.append((own - theirs) * 1e6)
        yield row(f"overhead of one call{name}", figures, "µs", at_most=30)
    torch.set_num_threads(threads)


def plain() -> Iterator[Row]:
    for tokens in (1024, 2048, 4096, 8192):
        qkv = inputs(tokens)
        pairs = 41 if tokens <= 2048 else 7
        yield ratio(
            f"sdpa / attention, {HEADS} × {tokens}",
            lambda qkv=qkv: sdpa(*qkv),
            lambda qkv=qkv: atento.attention(*qkv),
            at_least=0.97,
            pairs=pairs,
        )
        yield ratio(
            f"sdpa / attention, {HEADS} × {tokens}, causal",
            lambda qkv=qkv: sdpa(*qkv, is_causal=True),
            lambda qkv=qkv: atento.attention(*qkv, mask=Causal()),
            at_least=0.97,
            pairs=pairs,
        )


def masked() -> Iterator[Row]:
    qkv = inputs(LONG, grad=True)
    at = torch.arange(LONG)
    distance = at[:, None] - at
    real, document = at < LONG // 2, at // (LONG // 8)
    for name, mask, given, forward, both in (
        ("window 256", Causal() & Window(left=255), (distance >= 0) & (distance < 256), 8.0, 4.0),
        ("half padding", KeyPadding(real[None]), real[None, None, None], 1.5, 1.5),
        ("8 documents", Segments(document), document[:, None] == document, 4.0, 4.0),
    ):
        ours = lambda mask=mask: atento.attention(*qkv, mask=mask)  # noqa: E731
        peer = lambda given=given: sdpa(*qkv, attn_mask=given)  # noqa: E731
        with torch.no_grad():
            yield ratio(
                f"sdpa with mask / attention, {LONG}, {name}",
                peer,
                ours,
                at_least=forward,
                pairs=5,
            )
        yield ratio(
            "   the same, forward and backward",
            both_ways(peer, qkv),
            both_ways(ours, qkv),
            at_least=both,
            pairs=3,
        )


def slow_path() -> Iterator[Row]:
    """What torch computes by the formula, holding every weight."""
    qkv, wide = inputs(SLOW, grad=True), inputs(SLOW, dv=128, grad=True)
    shared = torch.randn(SLOW, SLOW, requires_grad=True)
    own = torch.randn(HEADS, SLOW, SLOW, requires_grad=True)
    for name, ours, peer, leaves in (
        (
            "learned bias, one for all heads",
            lambda: atento.attention(*qkv, bias=shared),
            lambda: sdpa(*qkv, attn_mask=shared[None, None]),
            [*qkv, shared],
        ),
        (
            "learned bias, one per head",
            lambda: atento.attention(*qkv, bias=own),
            lambda: sdpa(*qkv, attn_mask=own[None]),
            [*qkv, own],
        ),
        (
            "dropout 0.1",
            lambda: atento.attention(*qkv, dropout=0.1),
            lambda: sdpa(*qkv, dropout_p=0.1),
            qkv,
        ),
        (
            "softcap (peer: the formula)",
            lambda: atento.attention(*qkv, softcap=20.0),
            lambda: formula(*qkv, 20.0),
            qkv,
        ),
        (
            "values of 128 features",
            lambda: atento.attention(*wide),
            lambda: sdpa(*wide),
            wide,
        ),
    ):
        yield ratio(
            f"sdpa / attention, both ways, {SLOW}, {name}",
            both_ways(peer, leaves),
            both_ways(ours, leaves),
            at_least=2.0,
            pairs=5,
        )


def one_head() -> Iterator[Row]:
    qkv = inputs(LONG, heads=1, grad=True)
    for name, ours, peer in (
        ("", lambda: atento.attention(*qkv), lambda: sdpa(*qkv)),
        (
            ", causal",
            lambda: atento.attention(*qkv, mask=Causal()),
            lambda: sdpa(*qkv, is_causal=True),
        ),
    ):
        yield ratio(
            f"sdpa / attention, backward, 1 × {LONG}{name}",
            _backward(peer, qkv),
            _backward(ours, qkv),
            at_least=1.2,
            pairs=9,
        )


def _backward(call: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> Callable[[], object]:
    """Backward alone, of a forward that was computed before."""
    output = call()
    grad = torch.ones_like(output)
    return lambda: torch.autograd.grad(output, leaves, grad, retain_graph=True)


def decoding() -> Iterator[Row]:
    query = torch.randn(1, HEADS, 1, 64)
    key, value = (torch.randn(1, HEADS, 32768, 64) for _ in range(2))
    yield ratio(
        "sdpa / attention, one query and 32,768 cached keys",
        lambda: sdpa(query, key, value),
        lambda: atento.attention(query, key, value, mask=Causal(align="end")),
        at_least=1.0,
        pairs=101,
    )


MEMORY = """
import ctypes, sys, torch, atento
import torch.nn.functional as F
name, who = sys.argv[1:]
sdpa, T = F.scaled_dot_product_attention, 4096
def formula(query, key, value, softcap):
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return torch.softmax(softcap * torch.tanh(scores / softcap), dim=-1) @ value
def run(tokens):
    qkv = [torch.randn(1, 8, tokens, d, requires_grad=True)
           for d in (64, 64, 128 if name == "dv" else 64)]
    bias = torch.randn((8, tokens, tokens) if name == "bias8" else (tokens, tokens),
                       requires_grad=True) if "bias" in name else None
    leaves = qkv if bias is None else [*qkv, bias]
    ours = {"bias": dict(bias=bias), "bias8": dict(bias=bias), "dropout": dict(dropout=0.1),
            "softcap": dict(softcap=20.0), "dv": {}}[name]
    peer = {"bias": lambda: sdpa(*qkv, attn_mask=bias[None, None]),
            "bias8": lambda: sdpa(*qkv, attn_mask=bias[None]),
            "dropout": lambda: sdpa(*qkv, dropout_p=0.1),
            "softcap": lambda: formula(*qkv, 20.0), "dv": lambda: sdpa(*qkv)}[name]
    def work():
        output = atento.attention(*qkv, **ours) if who == "ours" else peer()
        torch.autograd.grad(output, leaves, torch.ones_like(output))
    return work
def kilobytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1])
run(2900)()  # what the first call of such a size loads, compiled kernels among it
ctypes.CDLL(None).malloc_trim(0)  # and what it left behind goes back
work = run(T)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
work()
print(kilobytes("VmHWM") - before)
"""


def memory() -> Iterator[Row]:
    """Peak of resident memory over forward and backward, beyond the inputs (Linux)."""
    for name, what in (
        ("bias", "learned bias, one for all heads"),
        ("bias8", "learned bias, one per head"),
        ("dropout", "dropout"),
        ("softcap", "softcap"),
        ("dv", "values of 128 features"),
    ):
        peaks = {}
        for who in ("ours", "peer"):
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, name, who],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ,
            )
            peaks[who] = int(done.stdout) * 1024 / 1e6
        yield row(
            f"peak memory over sdpa's, {SLOW}, {what}",
            [peaks["ours"] / peaks["peer"]],
            "×",
            at_most=0.125,
            detail=f"{peaks['ours']:.0f} MB over {peaks['peer']:.0f} MB",
        )
