"""The application without a socket, and a server on a port of its own in a thread."""

import asyncio
import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass
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

TOKEN = "the-token-of-these-tests"  # noqa: S105
PAGE = "<!doctype html><title>page</title>", "default-src 'none'"


def made_recording(tokens=47, heads=3, size=5):
    """One causal layer of random queries and keys."""
    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, 1, heads, tokens, size)).astype(np.float32)
    scores = np.einsum("bhqd,bhkd->bhqk", query, key, dtype=np.float64) / np.sqrt(size)
    scores[..., ~np.tri(tokens, dtype=bool)] = -np.inf
    recording = Recording()
    recording.add(
        LayerRecord(
            layer="only",
            kind="self",
            side=None,
            way="made",
            query=query,
            key=key,
            lse=np.log(np.exp(scores).sum(-1)).astype(np.float32),
            mask=Causal(),
            scale=size**-0.5,
        )
    )
    return recording


@pytest.fixture
def recording_of():
    return made_recording


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """An application, asked without a socket."""

    app: Any
    readings: Readings
    workshop: Workshop
    pinned: str
    port: int = 4711

    def ask(self, path, body=None, method=None, headers=()):
        return asyncio.run(self.asked(path, body, method, headers))

    async def asked(self, path, body=None, method=None, headers=(), leave_after=None):
        """The answer; with `leave_after` the client goes after so many seconds."""
        path, _, query = path.partition("?")
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        own = [
            ("host", f"127.0.0.1:{self.port}"),
            ("authorization", f"Bearer {TOKEN}"),
            ("content-type", "application/json"),
            *headers,
        ]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method or ("GET" if body is None else "POST"),
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in own],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", self.port),
        }
        came = [{"type": "http.request", "body": data, "more_body": False}]
        sent: list[Any] = []

        async def receive():
            if came:
                return came.pop()
            await asyncio.sleep(3600 if leave_after is None else leave_after)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        start, *rest = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(m.get("body", b"") for m in rest))


@pytest.fixture(scope="session")
def mini_reader():
    return MiniReader()


@pytest.fixture
def served(mini_reader):
    readings, workshop = Readings(), Workshop()
    pinned = readings.pin(HeldReading("made", "", made_recording()))
    app = make_app(
        [mini_reader],
        lambda: PAGE,
        token=TOKEN,
        port=4711,
        readings=readings,
        workshop=workshop,
    )
    yield Served(app, readings, workshop, pinned)
    workshop.close()


@dataclass
class Running:
    """A server that listens."""

    port: int
    pinned: str
    workshop: Workshop
    token: str = TOKEN

    def ask(self, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = None if body is None else json.dumps(body)
        own = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            **dict(headers),
        }
        connection.request("GET" if body is None else "POST", path, data, own)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer


@pytest.fixture
def running(mini_reader):
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listening.getsockname()[1]
    readings, workshop = Readings(), Workshop()
    pinned = readings.pin(HeldReading("made", "", made_recording(300)))
    app = make_app(
        [mini_reader], lambda: PAGE, token=TOKEN, port=port, readings=readings, workshop=workshop
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield Running(port, pinned, workshop)
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()
