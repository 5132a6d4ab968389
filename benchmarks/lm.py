"""Training, generation and resuming of `atento.lm`, beside what they are measured against.

All of it takes some ten minutes. ``LM_PARTS=training,generation python -m benchmarks lm`` runs
some parts, ``LM_QUICK=1`` a fraction of each: to try, not to report.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from atento.lm import CharTokenizer, Transformer, TransformerConfig, generate, save_model, train
from atento.lm.corpus.corpus import sentences
from atento.lm.training.loop import Loop
from atento.lm.training.speed import precision_for
from atento.lm.training.team import Team
from benchmarks.harness import Row, ratio, row, seconds

PARTS = ("training", "curve", "generation", "kills")
QUICK = bool(os.environ.get("LM_QUICK"))

SHAPES = {
    "4 layers, 4 heads, 128 wide, block 64, batch 12": (4, 4, 128, 64, 12, 120),
    "6 layers, 6 heads, 384 wide, block 256, batch 8": (6, 6, 384, 256, 8, 14),
}
"""Layers, heads, width, block, batch; and how many updates are timed."""

PRECISIONS = {"float32": None, precision_for("auto", torch.device("cpu"), 384): None}
"""And bfloat16 where the processor multiplies it: elsewhere a step takes minutes."""

STEPS = 200 if QUICK else 2000
KILLS = 4 if QUICK else 20
RATE, WARM_UP, SEED = 1e-3, 100, 1


def rows() -> Iterator[Row]:
    """The parts asked for."""
    asked = os.environ.get("LM_PARTS", ",".join(PARTS)).split(",")
    for part in PARTS:
        if part in asked:
            yield from globals()[part]()


# The peer: a GPT as it is usually written, with torch's own attention.


class PeerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        made = self.qkv(self.norm_1(x)).split(C, dim=2)
        q, k, v = (one.view(B, T, self.heads, C // self.heads).transpose(1, 2) for one in made)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Peer(nn.Module):
    def __init__(self, vocabulary: int, layers: int, heads: int, width: int, block: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.blocks = nn.ModuleList(PeerBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def take(self, ours: Transformer) -> "Peer":
        """Our weights."""
        state = ours.state_dict()
        names = {
            "norm_1": "attention_norm",
            "norm_2": "feed_forward_norm",
            "out": "attention.output",
            "up": "feed_forward.expand",
            "down": "feed_forward.contract",
        }
        made = {
            "tokens.weight": state["token_embedding.weight"],
            "places.weight": state["position_embedding.table"],
            "norm.weight": state["norm.weight"],
            "norm.bias": state["norm.bias"],
        }
        for number in range(len(self.blocks)):
            at = f"blocks.{number}."
            for kind in ("weight", "bias"):
                roles = [
                    state[f"{at}attention.{role}.{kind}"] for role in ("query", "key", "value")
                ]
                made[f"{at}qkv.{kind}"] = torch.cat(roles)
                made |= {f"{at}{k}.{kind}": state[f"{at}{v}.{kind}"] for k, v in names.items()}
        self.load_state_dict(made)
        return self


class PeerTraining:
    """Its loop: rows at random, one update, no more."""

    def __init__(self, peer: Peer, tokens: Any, block: int, batch: int, steps: int) -> None:
        self.peer, self.tokens, self.block, self.batch, self.steps = (
            peer, tokens, block, batch, steps,
        )  # fmt: skip
        groups = [
            {"params": [p for p in peer.parameters() if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in peer.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)

    def step(self, number: int, *, half: bool = False) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)
        random = np.random.default_rng([SEED, number])
        starts = random.integers(0, len(self.tokens) - self.block, self.batch)
        cut = np.stack([self.tokens[s : s + self.block + 1] for s in starts]).astype(np.int64)
        ids = torch.from_numpy(cut)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = self.peer(ids[:, :-1], ids[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(self.peer.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def rate(self, number: int) -> float:
        if number < WARM_UP:
            return RATE * (number + 1) / WARM_UP
        done = (number - WARM_UP) / max(1, self.steps - WARM_UP)
        return RATE / 10 + 0.9 * RATE * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def text(size: int) -> str:
    """So many characters of the corpus that `mini` learnt from."""
    made, languages = "", [sentences(language, SEED) for language in ("en", "es")]
    while len(made) < size:
        made += "\n".join(
            islice(chain(*zip(*(islice(one, 500) for one in languages), strict=True)), 1000)
        )
    return made[:size]


def trained(folder: Path, corpus: str, shape: tuple[int, ...], **settings: Any) -> Any:
    layers, heads, width, block, batch, _ = shape
    config = TransformerConfig(1, block, width, layers, heads)
    given = {"batch": batch, "learning_rate": RATE, "warm_up": WARM_UP, "seed": SEED}
    given |= {"precision": "float32", "compile": False, "evaluate_every": 10**6, "progress": False}
    return train([corpus], out=folder, config=config, **(given | settings))


def training() -> Iterator[Row]:
    """Whole updates: rows, forward, backward, clipping, AdamW."""
    corpus = text(200_000)
    for name, shape in SHAPES.items():
        for precision in PRECISIONS:
            yield speed(f"tokens/s, ours / plain, {precision}, {name}", corpus, shape, precision)


def speed(name: str, corpus: str, shape: tuple[int, ...], precision: str) -> Row:
    layers, heads, width, block, batch, steps = shape
    half = precision == "bfloat16"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = trained(folder, corpus, shape, steps=1, precision=precision).settings
        # Step by step in turn, which no public name does: runs differ by more than the figure.
        ours = Loop(folder, settings, Team(), torch.device("cpu"), progress=False)
        peer = Peer(len(set(corpus)), layers, heads, width, block).take(ours.model)
        plain = PeerTraining(peer, np.load(folder / "training.npy"), block, batch, STEPS)
        numbers = range(max(3, steps // 4) if QUICK else steps)
        pairs = [(seconds(ours._step), seconds(partial(plain.step, n, half=half))) for n in numbers]
    own, their = (median(column) for column in zip(*pairs[2:], strict=True))
    return row(
        name,
        [theirs / mine for mine, theirs in pairs[2:]],
        "×",
        at_least=1.0,
        detail=f"{batch * block / own:,.0f} over {batch * block / their:,.0f}, {len(pairs)} pairs",
    )


def curve() -> Iterator[Row]:
    """2000 steps of both from the same weights on the same rows."""
    shape = next(iter(SHAPES.values()))
    layers, heads, width, block, batch, _ = shape
    corpus = text(100_000 if QUICK else 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        run = trained(
            Path(folder), corpus, shape, steps=STEPS, evaluate_every=STEPS // 4, evaluate_rows=256
        )
        log = run.log
        tokens = np.load(run.folder / "training.npy")
    torch.manual_seed(SEED)
    vocabulary = len(set(corpus))
    ours = Transformer(TransformerConfig(vocabulary, block, width, layers, heads))
    peer = Peer(vocabulary, layers, heads, width, block).take(ours)
    plain = PeerTraining(peer, tokens, block, batch, STEPS)
    losses = [plain.step(number) for number in range(STEPS)]
    begun, far = 0, []
    for line in log:
        mean = sum(losses[begun : line["step"]]) / (line["step"] - begun)
        far.append(abs(line["loss"] - mean))
        begun = line["step"]
        if line["validation"] is not None:
            shown = f"validation {line['validation']:.4f}"
            print(f"     step {begun}: {line['loss']:.4f}, plain {mean:.4f}, {shown}", flush=True)
    yield row(
        f"loss, ours and plain, apart at most, {STEPS} steps, {len(corpus) / 1e6:.1f} MB",
        [max(far)],
        "",
        at_most=0.02,
        detail=f"last {log[-1]['loss']:.4f}, plain {mean:.4f}; means of {log[0]['step']} steps",
    )


def generation() -> Iterator[Row]:
    """200 tokens after a prompt by both: the likeliest each time, and drawn.

    Of weights that know nothing, the likeliest soon run in circles, which drafts of the text so far
    foretell; what is drawn is noise, which nothing foretells: the two ends of what a text can be.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(SEED)
    tokenizer = CharTokenizer()
    model = Transformer(TransformerConfig(100, 1024, 384, 6, 6)).eval()
    model.tokenizer = tokenizer
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        peer = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompt = "Once upon a time"
    ids = torch.tensor([tokenizer.encode(prompt)])
    options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    options |= {"eos_token_id": None, "do_sample": False}

    def ours(tokens: int, temperature: float = 0) -> str:
        torch.manual_seed(SEED)
        written: str = generate(model, prompt, max_tokens=tokens, temperature=temperature)
        return written

    def theirs(tokens: int, **more: Any) -> str:
        torch.manual_seed(SEED)
        written = peer.generate(ids, max_new_tokens=tokens, **(options | more))
        return tokenizer.decode(written[0, ids.shape[1] :].tolist())

    @torch.no_grad()
    def without_cache(tokens: int) -> str:
        text = ids
        for _ in range(tokens):
            text = torch.cat((text, model(text)[:, -1:].argmax(-1)), 1)
        return tokenizer.decode(text[0, ids.shape[1] :].tolist())

    some = 40 if QUICK else 200
    pairs = 3 if QUICK else 9
    assert ours(some) == theirs(some)
    yield ratio(
        f"transformers' generate / ours, 6 × 384, {some} tokens, the likeliest",
        lambda: theirs(some),
        lambda: ours(some),
        at_least=2.0,
        pairs=pairs,
    )
    lookup = {"prompt_lookup_num_tokens": 10}
    yield ratio(
        "the same, with its own drafts (prompt_lookup_num_tokens=10)",
        lambda: theirs(some, **lookup),
        lambda: ours(some),
        at_least=1.0,
        pairs=pairs,
    )
    drawn = {"do_sample": True, "top_k": 0}
    assert ours(some, 1.0) == theirs(some, **drawn)
    yield ratio(
        "the same, drawn at temperature 1",
        lambda: theirs(some, **drawn),
        lambda: ours(some, 1.0),
        at_least=1.0,
        pairs=pairs,
    )
    many = 128 if QUICK else 512
    assert without_cache(20) == ours(20)
    timed = [
        (seconds(lambda: without_cache(many)), seconds(lambda: ours(many)))
        for _ in range(1 if QUICK else 3)
    ]
    yield row(
        f"without a cache / with, {many} tokens",
        [slow / fast for slow, fast in timed],
        "×",
        at_least=4.0,
        detail=f"{timed[-1][0]:.1f} s over {timed[-1][1]:.1f} s",
    )


CHILD = """
import sys
from atento.lm import TransformerConfig, train
from benchmarks.lm import text
new = sys.argv[2] == "new"
config = TransformerConfig(1, 16, 8, 1, 2)
given = dict(steps=int(sys.argv[3]), batch=4, evaluate_every=5, evaluate_rows=4, warm_up=2, seed=5)
print("began", flush=True)
if new:
    train([text(4000)], out=sys.argv[1], config=config, progress=False, **given)
else:
    train(out=sys.argv[1], resume=True, progress=False)
"""


def kills() -> Iterator[Row]:
    """A training that is killed again and again, beside one that was left in peace."""
    steps = 20 * KILLS
    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place) / "whole", Path(place) / "cut"
        _child(whole, steps).wait()
        expected = _told(whole)
        random, equal, killed = np.random.default_rng(SEED), 0, 0
        for _ in range(KILLS):
            process = _child(cut, steps)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(random.uniform(0, 0.6)))
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            so_far = _told(cut)
            equal += so_far == expected[: len(so_far)]
        process = _child(cut, steps)
        done = process.wait() == 0 and _told(cut) == expected
        names = ("model.safetensors", f"checkpoints/step-{steps:08d}/optimizer.safetensors")
        done = done and all((whole / n).read_bytes() == (cut / n).read_bytes() for n in names)
    yield row(
        f"of {KILLS} kill -9, on the same curve, bit for bit",
        [equal if done else 0],
        "",
        at_least=KILLS,
        detail=f"{killed} while it was at work; model and moments at the end are "
        + ("equal" if done else "not equal"),
    )


def _child(folder: Path, steps: int) -> "subprocess.Popen[str]":
    kind = "resume" if (folder / "run.json").exists() else "new"
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), kind, str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _told(folder: Path) -> list[tuple[Any, ...]]:
    """Step, loss, validation and gradient of each row of a log."""
    path = folder / "log.json"
    if not path.exists():
        return []
    names = ("step", "loss", "validation", "gradient")
    return [tuple(line[name] for name in names) for line in json.loads(path.read_text())]
