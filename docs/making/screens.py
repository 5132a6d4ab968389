"""Pages as Chromium draws them; where there is no Chromium, nothing is drawn."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Screens"]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SIZE = {"width": 1280, "height": 800}


class Screens:
    """A browser for as long as the ``with`` statement lasts."""

    def __init__(self) -> None:
        self.browser: Any = None
        self.playwright: Any = None

    def __enter__(self) -> "Screens":
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
        if program is not None:
            from playwright.sync_api import sync_playwright

            self.playwright = sync_playwright().start()
            self.browser = self.playwright.chromium.launch(executable_path=program, args=FLAGS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.browser is not None:
            self.browser.close()
            self.playwright.stop()

    def shoot(self, url: str, path: Path) -> bool:
        """A picture of a page; whether there is a browser to take it."""
        if self.browser is None:
            return False
        page = self.browser.new_page(viewport=SIZE, reduced_motion="reduce")
        page.goto(url)
        page.wait_for_selector("#app:not([hidden])", state="attached")
        page.wait_for_timeout(600)
        page.screenshot(path=path)
        page.close()
        return True

    def shoot_served(self, text: str, path: Path) -> bool:
        """A picture of what `atento serve` opens, with a text that it has read."""
        if self.browser is None:
            return False
        process = subprocess.Popen(
            [sys.executable, "-m", "atento", "serve", "--no-open", "--lang", "en"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            told = process.stdout.readline() if process.stdout else ""
            page = self.browser.new_page(viewport=SIZE, reduced_motion="reduce")
            page.goto(told.split()[-1])
            page.fill("#live-text", text)
            page.locator("#live-read").click()
            page.wait_for_timeout(3000)
            page.screenshot(path=path)
            page.close()
        finally:
            process.terminate()
            process.communicate(timeout=30)
        return True
