"""The map of a served recording at 131,072 tokens in a real Chromium: tiles after a pan.

`atento serve` runs in a process of its own, with a recording of one head of 64 features. At each
level of zoom the map is dragged, by 240 × 130 pixels in one go, from places where every tile is
there, after a rest of a second, and where tiles cost most (COSTLY, the last level that the
recording's overview does not serve) also at once. A pan's time runs from the move to the end of the
frame in which the last tile of the new view is drawn. Where there are fewer than ENOUGH pans, the
slowest stands for the 95th of 100.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from atento.reading.recording import Recording
from benchmarks.harness import Row, row
from benchmarks.pages import FLAGS
from benchmarks.tiles import TOKENS, record

LEVELS = range(8)
PANS, ENOUGH = 8, 20
COSTLY = 4
BY = (-240, -130)

WATCH = """
window.panned_ = null;
const map = () => document.querySelector(".map");
const drawn = (done) => requestAnimationFrame(() => setTimeout(done)); // behind the frame
addEventListener("pointermove", () => {
  const start = performance.now();
  window.panned_ = null;
  const look = () => {
    if (map().ariaBusy === "false") window.panned_ = performance.now() - start;
    else drawn(look);
  };
  drawn(() => drawn(look)); // the first frame says what is missing
}, true);
"""

QUIET = """() => new Promise((done) => {
  let frames = 0;
  const look = () => {
    frames = document.querySelector(".map").ariaBusy === "true" ? 0 : frames + 1;
    if (frames > 4) done(); else requestAnimationFrame(look);
  };
  look();
})"""

LOOK = """(state) => {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(state)) said.set(name, value);
  location.hash = said;
}"""


def rows() -> Iterator[Row]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "long.safetensors"
        Recording([record()]).save(path)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        with served(path) as address:
            yield from panned(browser, address)
        browser.close()


class served:  # noqa: N801  a context that reads as a word
    """The address of `atento serve` with one recording; it ends with the context."""

    def __init__(self, path: Path) -> None:
        program = "import sys; from atento.cli import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", str(path), "--no-open", "--lang", "en"],
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> str:
        assert self.process.stdout is not None
        found = re.search(r"http://\S+", self.process.stdout.readline())
        assert found is not None
        return found.group()

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def panned(browser: Any, address: str) -> Iterator[Row]:
    everything: list[float] = []
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    page.goto(address)
    page.wait_for_selector("#view canvas", state="attached")
    yield row(
        f"served map of {TOKENS:,} tokens: to the first map",
        [first_map(page)],
        "s",
        at_most=5,
        detail="q, k, log-sum-exp and overview over HTTP",
    )
    for level in LEVELS:
        pans = ENOUGH if level == COSTLY else PANS
        times = [one_pan(page, level, at) for at in range(pans)]
        everything += times
        yield figure(f"zoom {level}", times)
    yield figure("all zooms", everything)
    times = [one_pan(page, COSTLY, at, rest=0) for at in range(ENOUGH, 2 * ENOUGH)]
    yield figure(f"zoom {COSTLY}, without a rest", times)
    page.context.close()


def first_map(page: Any) -> float:
    taken = page.evaluate(
        """async () => {
          const start = performance.now();
          document.getElementById("tab-map").click();
          while (!document.querySelector(".map")?.ariaBusy)
            await new Promise(requestAnimationFrame);
          return performance.now() - start;
        }"""
    )
    page.evaluate(QUIET)
    return float(taken) / 1000


def one_pan(page: Any, level: int, at: int, rest: float = 1.0) -> float:
    """Milliseconds until all new tiles of one drag were on screen, after so many seconds' rest."""
    rng = np.random.default_rng((level, at))
    y = int(rng.integers(TOKENS // 2, TOKENS - (900 << level) if level < 6 else TOKENS * 3 // 4))
    x = int(rng.integers(y // 8, y // 2))
    page.evaluate(LOOK, {"view": "map", "zoom": level, "x": x, "y": y})
    page.wait_for_timeout(500 * min(rest, 1) + 50)
    page.evaluate(QUIET)
    page.locator(".map canvas").scroll_into_view_if_needed()
    box = page.locator(".map canvas").bounding_box()
    page.mouse.move(box["x"] + 700, box["y"] + 400)
    page.mouse.down()
    page.mouse.move(box["x"] + 690, box["y"] + 396)
    page.evaluate(QUIET)
    page.wait_for_timeout(1000 * rest)
    page.mouse.move(box["x"] + 690 + BY[0], box["y"] + 396 + BY[1])
    page.wait_for_function("() => window.panned_ !== null")
    page.mouse.up()
    return float(page.evaluate("window.panned_"))


def figure(what: str, times: list[float]) -> Row:
    middle, late = np.percentile(times, [50, 95])
    enough = len(times) >= ENOUGH
    most = late if enough else max(times)
    return row(
        f"served map, new tiles after a pan, {what}",
        [middle, most, max(times)],
        "ms",
        at_most=150,
        detail=f"{'p95' if enough else 'slowest'} of {len(times)} pans; p50 {middle:.3g} ms",
    )
