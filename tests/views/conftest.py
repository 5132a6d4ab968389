"""A real Chromium and a real node for the pages' tests; where CI is set they must be there."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atento.records import Explanation
from atento.views.page import render_page
from atento.views.recording_page import render_recording

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

_CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text)
      .map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      const alpha = rgb(colour)[3] ?? 1;
      if (alpha === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const kinds = "td, th, p, h1, h2, a, button, .chip, .term, .result, summary, label";
  return [...document.querySelectorAll(kinds)]
    .filter((node) => node.textContent.trim() && node.offsetParent && !node.closest(".unseen"))
    .map((node) => {
      const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
      const what = `${node.tagName}.${node.className} ${node.textContent.slice(0, 20)}`;
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), what];
    }).filter(([ratio]) => ratio < 4.5);
}"""


# Pages draw once in a frame, so a gesture is over when the frame after it has been drawn.
_DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"

PATIENCE = 120_000
"""Milliseconds that anything may take which comes about at all: a busy machine is no fault."""

_GESTURES = (
    "click",
    "dblclick",
    "tap",
    "hover",
    "focus",
    "press",
    "fill",
    "select_option",
    "check",
)


def _drawn_after(gesture: Callable[..., Any], page_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """The gesture, and then what the page draws: a busy machine must not be looked at too soon."""

    from playwright.sync_api import Error

    @functools.wraps(gesture)
    def drawn(*args: Any, **options: Any) -> Any:
        result = gesture(*args, **options)
        with contextlib.suppress(Error):  # the gesture led to another page
            page_of(*args).evaluate(_DRAWN)
        return result

    return drawn


def _patient_context(new_context: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(new_context)
    def made(*args: Any, **options: Any) -> Any:
        context = new_context(*args, **options)
        context.set_default_timeout(PATIENCE)
        if options.get("java_script_enabled", True):
            context.on("page", _patient_waits)
        return context

    return made


def _patient_waits(page: Any) -> None:
    """Its waits end when frames are drawn again: on a busy machine that is later."""
    wait = page.wait_for_timeout

    def waited(milliseconds: float) -> None:
        wait(milliseconds)
        page.evaluate(_DRAWN)

    page.wait_for_timeout = waited


@contextlib.contextmanager
def _patient_gestures() -> Iterator[None]:
    """Playwright's gestures on parts of a page wait until they are drawn, and no wait is short."""
    from playwright.sync_api import Browser, Locator

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Browser, "new_context", _patient_context(Browser.new_context))
        for name in _GESTURES:
            patch.setattr(
                Locator, name, _drawn_after(getattr(Locator, name), lambda at, *_: at.page)
            )
        yield


def _patient_devices(page: Any) -> None:
    """The same for the keyboard and the mouse, which do not know their page."""
    for device, names in (
        (page.keyboard, ("press", "type")),
        (page.mouse, ("move", "down", "up", "click", "dblclick", "wheel")),
        (page, ("click", "tap", "hover", "focus", "press", "fill", "select_option")),
    ):
        for name in names:
            setattr(device, name, _drawn_after(getattr(device, name), lambda *_: page))


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must run these tests")
    pytest.skip(f"{what} is not installed here")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if chromium is None:
        _missing("Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        with _patient_gestures():
            yield running
        running.close()


@dataclass
class Opened:
    """A page in the browser, and everything that it did which a page must not do."""

    page: Any
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def asked(self) -> list[str]:
        """What was loaded, but for the worker that the page makes of its own script."""
        return [url.partition("#")[0] for url in self.requests if not url.startswith("blob:null/")]

    def result(self) -> str:
        """The number that the panel explains, as it stands there."""
        return str(self.page.locator("#panel .result").last.inner_text())

    def value(self) -> float:
        return self.number(self.result())

    @staticmethod
    def number(text: str) -> float:
        """A number as the page writes it, in either language."""
        text = text.strip().replace("−", "-").replace(",", ".").replace("∞", "inf")
        mantissa, _, power = text.partition("×10")
        raised = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
        return float(mantissa) * 10.0 ** int(raised or 0)

    @staticmethod
    def digits(value: float) -> str:
        """NumPy's number, to the digits that the page shows."""
        if value == 0:
            return "0"
        return "−∞" if value == -np.inf else f"{value:.4f}".replace("-", "−")

    def unreadable(self) -> list[Any]:
        """Texts whose contrast with what is under them is below 4.5 : 1."""
        return list(self.page.evaluate(_CONTRASTS))

    def panel(self) -> str:
        return str(self.page.locator("#panel .panel-content").inner_text())

    def cell(self, step: str, row: int, col: int) -> Any:
        return self.page.locator(f'#step-{step} td[data-row="{row}"][data-col="{col}"]')


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Write a page, open it, and check at the end that it was quiet: no request, no complaint."""
    contexts = []
    opened_pages: list[Opened] = []

    def open_(
        record: Any,
        *,
        lang: str = "en",
        loud: bool = False,
        place: str = "",
        first: str = "",
        **options: Any,
    ) -> Opened:
        if isinstance(record, str):
            html = record
        else:
            draw = render_page if isinstance(record, Explanation) else render_recording
            html = draw(record, lang=lang)
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8", newline="\n")
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.add_init_script(first)
        opened = Opened(context.new_page(), path.as_uri())
        _patient_devices(opened.page)
        if not loud:
            opened_pages.append(opened)
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
        opened.page.goto(opened.url + place)
        if not loud and options.get("java_script_enabled", True):
            opened.page.wait_for_selector("#app:not([hidden])", state="attached")
        return opened

    yield open_
    quiet = [(one.asked(), one.complaints) for one in opened_pages]
    urls = [one.url for one in opened_pages]
    for context in contexts:
        context.close()
    assert quiet == [([url], []) for url in urls]


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Check again and again until it holds: a busy machine takes longer, and may."""

    def wait(page: Any, check: Callable[[], bool], seconds: float = PATIENCE / 1000) -> None:
        end = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < end, "it never came about"
            page.wait_for_timeout(40)

    return wait


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Any]:
    """Run a module of JavaScript beside the assets: it gets ``given`` and fills ``answer``."""
    program = shutil.which("node")
    if program is None:
        _missing("node")
    folder = tmp_path_factory.mktemp("assets")
    for entry in (files("atento.views") / "assets").iterdir():
        if entry.name.endswith(".js"):
            (folder / entry.name).write_text(entry.read_text("utf-8"), encoding="utf-8")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text("null")

    def run(script: str, given: Any) -> Any:
        (folder / "given.json").write_text(json.dumps(given))
        (folder / "script.js").write_text(
            'import { readFileSync } from "node:fs";\n'
            'const given = JSON.parse(readFileSync("given.json", "utf8"));\n'
            f"let answer;\n{script}\nconsole.log(JSON.stringify(answer));\n",
            encoding="utf-8",
        )
        done = subprocess.run(
            [str(program), "script.js"],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
