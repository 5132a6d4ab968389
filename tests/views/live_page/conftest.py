"""The live page in a browser: a server on a port of its own, and all that a page may not do."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn

from atento.masks import Causal
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.server.app import make_app
from atento.server.readers import MiniReader
from atento.server.readings import HeldReading, Readings
from atento.server.work import Workshop
from atento.views.live_page import render_live

TOKEN = "the-token-of-these-tests"  # noqa: S105


@dataclass
class Live:
    """A page of the server, and what it did."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    under_way: int = 0

    def quiet(self, milliseconds: int = 500) -> None:
        """Wait until nothing has been under way between page and server for so long."""
        for _ in range(240):
            before = len(self.requests)
            self.page.wait_for_timeout(milliseconds)
            if not self.under_way and len(self.requests) == before:
                return
        pytest.fail(f"{self.under_way} requests are still under way")

    def asked(self, address: str) -> None:
        self.requests.append(address)
        self.under_way += 1

    def answered(self) -> None:
        self.under_way -= 1

    def read(self, text: str) -> None:
        """Have a text read, and wait until it is."""
        self.page.fill("#live-text", text)
        self.page.locator("#live-read").click()
        self.settled()

    def settled(self) -> None:
        self.page.wait_for_function(
            "() => /^\\D*\\d+ tokens\\.$|leído/.test("
            "document.getElementById('live-status').textContent.replace(/.*(read|leído)/, 'x'))"
            " || document.getElementById('live-status').classList.contains('wrong')"
        )
        self.page.wait_for_timeout(30)

    def look(self, **state: Any) -> None:
        """Look at something else, by the address."""
        self.hash()
        self.page.evaluate(
            """(state) => {
              const said = new URLSearchParams(location.hash.slice(1));
              for (const [name, value] of Object.entries(state)) said.set(name, value);
              location.hash = said;
            }""",
            state,
        )

    def status(self) -> str:
        return str(self.page.locator("#live-status").inner_text())

    def predictions(self) -> list[list[str]]:
        """The rows of the table of next tokens."""
        rows = self.page.locator(".next tbody tr").all()
        return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]

    def hash(self) -> str:
        self.page.wait_for_timeout(350)  # the address is written a moment after
        return str(self.page.evaluate("location.hash"))


def made_recording(tokens: int = 40, heads: int = 2, size: int = 4) -> Recording:
    """One causal layer whose log-sum-exp are those of its rows, also of long ones."""
    rng = np.random.default_rng(tokens)
    query, key = rng.standard_normal((2, 1, heads, tokens, size)).astype(np.float32)
    lse = np.empty((1, heads, tokens), np.float32)
    for head in range(heads):
        for first in range(0, tokens, 512):
            rows = slice(first, first + 512)
            scores = query[0, head, rows] @ key[0, head].T * size**-0.5
            seen = np.arange(tokens) <= np.arange(tokens)[rows, None]
            lse[0, head, rows] = np.log((np.exp(scores) * seen).sum(-1))
    recording = Recording()
    recording.add(
        LayerRecord(
            layer="only",
            kind="self",
            side=None,
            way="made",
            query=query,
            key=key,
            lse=lse,
            mask=Causal(),
            scale=size**-0.5,
        )
    )
    recording.name_tokens([f"t{i}" for i in range(tokens)])
    return recording


@pytest.fixture
def recording() -> Callable[..., Recording]:
    return made_recording


@pytest.fixture(scope="session")
def mini_reader() -> MiniReader:
    return MiniReader()


@pytest.fixture
def serving(mini_reader: MiniReader) -> Iterator[Callable[..., SimpleNamespace]]:
    """Starts a server with readers and recordings; it ends with the test."""
    running = []

    def start(
        readers: Any = None, recordings: dict[str, Recording] | None = None, lang: str = "en"
    ) -> SimpleNamespace:
        readers = readers or [mini_reader]
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        port = listening.getsockname()[1]
        readings, workshop = Readings(), Workshop()
        named = [
            (readings.pin(HeldReading(name, "", recording)), name)
            for name, recording in (recordings or {}).items()
        ]
        drawn = render_live([reader.name for reader in readers], named, lang=lang)
        app = make_app(
            readers, lambda: drawn, token=TOKEN, port=port, readings=readings, workshop=workshop
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread))
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        return SimpleNamespace(
            address=f"http://127.0.0.1:{port}/", readings=readings, workshop=workshop, server=server
        )

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def open_live(
    browser: Any, serving: Callable[..., SimpleNamespace]
) -> Iterator[Callable[..., Live]]:
    """Opens the page as the printed address does; it may ask its own server and nobody else."""
    opened: list[Live] = []

    def open_(place: str = "", *, served: Any = None, given: Any = None, **options: Any) -> Live:
        served = served or serving(**(given or {}))
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        live = Live(context.new_page(), served.address)
        opened.append(live)
        live.page.on("request", lambda request: live.asked(request.url))
        live.page.on("requestfinished", lambda _: live.answered())
        live.page.on("requestfailed", lambda _: live.answered())
        live.page.on("console", lambda message: live.complaints.append(message.text))
        live.page.on("pageerror", lambda error: live.complaints.append(str(error)))
        live.page.on("dialog", lambda dialog: live.complaints.append(dialog.message))
        live.page.goto(f"{served.address}?token={TOKEN}{place}")
        live.page.wait_for_selector("#app:not([hidden])", state="attached")
        if place:
            live.settled()
        return live

    yield open_
    for live in opened:
        live.page.context.close()
    foreign = [
        url
        for live in opened
        for url in live.requests
        if not url.startswith((live.address, "blob:", "data:"))
    ]
    assert foreign == []
    assert [complaint for live in opened for complaint in live.complaints] == []
