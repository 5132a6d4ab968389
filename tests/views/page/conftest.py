"""A real Chromium and a real node for the page's tests; where CI is set they must be there."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from atento.records import Explanation
from atento.views.page import render_page
from atento.views.page_bundle import asset, modules

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must run these tests")
    pytest.skip(f"{what} is not installed here")


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """tests/views/page/samples.py: with importlib mode, test folders are no packages."""
    path = Path(__file__).with_name("samples.py")
    spec = importlib.util.spec_from_file_location("page_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
    if chromium is None:
        _missing("Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield running
        running.close()


@dataclass
class Opened:
    """A page in the browser, and everything that it did which a page must not do."""

    page: Any
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

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
        record: Explanation | str, *, lang: str = "en", loud: bool = False, **options: Any
    ) -> Opened:
        html = record if isinstance(record, str) else render_page(record, lang=lang)
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(html, encoding="utf-8", newline="\n")
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        opened = Opened(context.new_page(), path.as_uri())
        if not loud:
            opened_pages.append(opened)
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
        opened.page.goto(opened.url)
        if not loud and options.get("java_script_enabled", True):
            opened.page.wait_for_selector("#app:not([hidden])", state="attached", timeout=10_000)
        return opened

    yield open_
    quiet = [(one.requests, one.complaints) for one in opened_pages]
    urls = [one.url for one in opened_pages]
    for context in contexts:
        context.close()
    assert quiet == [([url], []) for url in urls]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Any]:
    """Run a module of JavaScript beside the assets: it gets ``given`` and fills ``answer``."""
    program = shutil.which("node")
    if program is None:
        _missing("node")
    folder = tmp_path_factory.mktemp("assets")
    for name in modules("main.js"):
        (folder / name).write_text(asset(name), encoding="utf-8")
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
