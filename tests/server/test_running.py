"""A real server: many clients at once, clients that go, and bounded memory."""

import asyncio
import gc
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from atento.server.readings import HeldReading, Readings, UnknownReadingError
from atento.server.work import BusyError, GoneError, Workshop


def test_two_hundred_clients_at_once_are_all_answered(running):
    path = f"/api/readings/{running.pinned}/layers/0/heads"
    found = []

    def client(number):
        head = number % 3
        answers = [
            running.ask(f"{path}/{head}/tile?row={number}&size=64"),
            running.ask("/api/readings", {"text": f"one step {number}"}),
            running.ask(f"{path}/{head}/row?row=x"),
        ]
        found.append([answer.status for answer in answers])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 200
    for tile, reading, mistake in found:
        assert tile in (200, 503)
        assert reading in (200, 503)
        assert mistake == 422
    assert sum(tile == 200 for tile, _, _ in found) > 66
    assert running.ask("/api/models").json() == {"models": ["mini"]}
    assert running.workshop.under_way == 0


def test_tokens_come_as_they_are_made_and_end_with_the_client(running, mini_reader, monkeypatch):
    made = []

    def generate(text, off, options, stop):
        for number in range(1000):
            time.sleep(0.01)
            stop.check()
            made.append(number)
            yield {"id": number, "text": text}

    monkeypatch.setattr(mini_reader, "generate", generate)
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
        body = b'{"text": "a"}'
        client.sendall(
            b"POST /api/generate HTTP/1.1\r\n"
            + f"host: 127.0.0.1:{running.port}\r\n".encode()
            + f"authorization: Bearer {running.token}\r\n".encode()
            + b"content-type: application/json\r\n"
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        came = b""
        while b'"id": 3' not in came:
            came += client.recv(4096)
    assert came.startswith(b"HTTP/1.1 200")
    time.sleep(0.5)
    so_far = len(made)
    time.sleep(0.3)
    assert len(made) == so_far < 200
    assert running.workshop.under_way == 0
    assert running.ask("/api/models").status == 200


def test_what_nobody_waits_for_is_stopped(served, mini_reader, monkeypatch):
    started, stopped = threading.Event(), threading.Event()

    def read(text, off, stop):
        started.set()
        try:
            while True:
                time.sleep(0.005)
                stop.check()
        finally:
            stopped.set()

    monkeypatch.setattr(mini_reader, "read", read)

    async def leave():
        return await served.asked("/api/readings", {"text": "a"}, leave_after=0.2)

    answer = asyncio.run(leave())
    assert answer.status == 499
    assert started.is_set()
    assert stopped.wait(10)


def test_what_waits_for_a_client_that_has_gone_never_runs():
    workshop, ran, free = Workshop(at_once=1), [], threading.Event()

    class Client:
        def __init__(self, stays):
            self.stays = stays

        async def receive(self):
            await asyncio.sleep(3600 if self.stays else 0.05)
            return {"type": "http.disconnect"}

    async def scene():
        first = asyncio.ensure_future(workshop.run(Client(True), lambda stop: free.wait(30)))
        await asyncio.sleep(0.05)
        with pytest.raises(GoneError):
            await workshop.run(Client(False), lambda stop: ran.append(1))
        free.set()
        assert await first
        await asyncio.sleep(0.05)
        assert workshop.under_way == 0

    asyncio.run(scene())
    workshop.close()
    assert not ran


def test_more_than_can_wait_is_told_to_come_back():
    workshop, free = Workshop(at_once=1, waiting=1), threading.Event()

    class Client:
        async def receive(self):
            await asyncio.sleep(3600)

    async def scene():
        two = [
            asyncio.ensure_future(workshop.run(Client(), lambda stop: free.wait(30)))
            for _ in range(2)
        ]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError, match="try again in a moment"):
            await workshop.run(Client(), lambda stop: None)
        free.set()
        assert all(await asyncio.gather(*two))

    asyncio.run(scene())
    workshop.close()


def test_readings_are_let_go_of_by_number_and_by_size(recording_of):
    readings = Readings(most=3)
    pinned = readings.pin(HeldReading("made", "", recording_of()))
    names = [readings.add(HeldReading("made", str(i), recording_of())) for i in range(3)]
    assert readings[names[0]].text == "0"  # used again: 1 is now the oldest
    names.append(readings.add(HeldReading("made", "3", recording_of())))
    assert readings.names() == [pinned, names[2], names[0], names[3]]
    with pytest.raises(UnknownReadingError, match="not held any longer: read it again"):
        readings[names[1]]
    size = 4 * 3 * 47 * (5 + 5 + 1)
    small = Readings(most_bytes=2 * size)
    for i in range(5):
        small.add(HeldReading("made", str(i), recording_of()))
    assert len(small.names()) == 2
    alone = Readings(most_bytes=1)
    alone.add(HeldReading("made", "", recording_of()))
    assert len(alone.names()) == 1  # the one that was just asked for
    assert np.isfinite(small[small.names()[0]].recording[0].lse).all()


def test_a_mistake_of_ours_is_told_in_words_and_printed(running, mini_reader, monkeypatch, caplog):
    def broken(text, off, stop):
        raise RuntimeError("of ours")

    monkeypatch.setattr(mini_reader, "read", broken)
    answer = running.ask("/api/readings", {"text": "a"}, headers=[("Accept-Language", "es")])
    assert answer.status == 500
    assert answer.json()["error"].startswith("Aquí ha fallado algo")
    assert "of ours" not in answer.body.decode()
    assert running.ask("/api/models").status == 200
    assert "of ours" in caplog.text


def test_what_was_stopped_with_its_client_is_not_printed(caplog):
    ended = threading.Event()

    def work(stop):
        try:
            while True:
                time.sleep(0.005)
                stop.check()
        finally:
            ended.set()

    async def gone():
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def scenario():
        workshop = Workshop()
        with pytest.raises(GoneError):
            await workshop.run(SimpleNamespace(receive=gone), work)
        while workshop.under_way:
            await asyncio.sleep(0.005)
        gc.collect()
        workshop.close()

    asyncio.run(scenario())
    assert ended.is_set()
    assert [record.getMessage() for record in caplog.records] == []
