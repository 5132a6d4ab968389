"""What the server answers: pages, readings, tiles and tokens."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from atento._errors import AtentoError
from atento.equation.blas import one_blas_thread
from atento.reading.layer import LayerRecord
from atento.reading.pyramid import MAPS
from atento.reading.recording import Recording
from atento.server.guard import Guard
from atento.server.mistakes import language_of, said_of, wrong
from atento.server.parameters import choice, heads_off, number, places, real, text_of, whole
from atento.server.readers import Reader, predictions
from atento.server.readings import HeldReading, Readings, UnknownReadingError
from atento.server.tile_pools import both_pools
from atento.server.work import BusyError, GoneError, Stop, StoppedError, Workshop

__all__ = ["make_app"]

MOST_CELLS = 1024
"""Cells a side in the largest tile."""

MOST_TILES = 16
"""Tiles in one answer, which have no more cells than the largest tile."""


def make_app(
    readers: Sequence[Reader],
    page: Callable[[], tuple[str, str]],
    *,
    token: str,
    port: int,
    readings: Readings | None = None,
    workshop: Workshop | None = None,
) -> Guard:
    """The server as an ASGI application.

    Args:
        readers: the models that texts can be read with.
        page: gives the page at ``/`` and its Content-Security-Policy.
        token: the secret that the page must bring.
        port: that the server listens on.
        readings: those that are held from the start.
        workshop: where computations run.
    """
    answers = _Answers(readers, page, readings or Readings(), workshop or Workshop())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Set and put back for each tile, on threads that come and go, it takes ten times as long.
        with one_blas_thread():
            yield
        answers.workshop.close()

    reading = "/api/readings/{name}"
    head = reading + "/layers/{layer:int}/heads/{head:int}"
    app = Starlette(
        routes=[
            Route("/", answers.page),
            Route("/api/models", answers.models),
            Route("/api/readings", answers.read, methods=["POST"]),
            Route("/api/readings", answers.held, methods=["GET"]),
            Route(reading, answers.reading),
            Route(f"{reading}/record", answers.record),
            Route(f"{reading}/arrays/{{place:int}}", answers.array),
            Route(f"{head}/tile", answers.tile),
            Route(f"{head}/tiles", answers.tiles),
            Route(f"{head}/row", answers.row),
            Route(f"{head}/pair", answers.pair),
            Route("/api/generate", answers.generate, methods=["POST"]),
        ],
        exception_handlers={
            UnknownReadingError: _told(404),
            BusyError: _told(503),
            AtentoError: _told(422),
            GoneError: _nobody,
            HTTPException: _no_such_page,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    return Guard(app, token, port)


def _told(status: int) -> Callable[[Request, Exception], Response]:
    """An error of ours, in its own words."""

    def tell(request: Request, error: Exception) -> Response:
        headers = {"retry-after": "1"} if status == 503 else None
        return _json({"error": _in_words(request, error)}, status, headers)

    return tell


def _in_words(request: Request, error: Exception) -> str:
    """The error in the language that the page speaks, where there are words for it."""
    accepted = request.headers.get("accept-language", "")
    lang = language_of(request.query_params.get("lang"), accepted)
    return said_of(error, lang) if isinstance(error, AtentoError) else str(error)


async def _no_such_page(request: Request, error: Exception) -> Response:
    """No route leads there, or not by this method."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _json({"error": _in_words(request, wrong("no_page"))}, status)


async def _broken(request: Request, error: Exception) -> Response:
    """A mistake of ours; what it was is printed where the server was started."""
    del error
    return _json({"error": _in_words(request, wrong("broken"))}, 500)


def _nobody(_: Request, error: Exception) -> Response:
    del error
    return Response(status_code=499)  # the client has gone: nobody reads it


class _Answers:
    """One method for each route."""

    def __init__(
        self,
        readers: Sequence[Reader],
        page: Callable[[], tuple[str, str]],
        readings: Readings,
        workshop: Workshop,
    ) -> None:
        self.readers = {reader.name: reader for reader in readers}
        self.make_page, self.readings_held, self.workshop = page, readings, workshop

    async def page(self, _: Request) -> Response:
        text, policy = self.make_page()
        headers = {"content-security-policy": policy}
        return Response(text, media_type="text/html", headers=headers)

    async def models(self, _: Request) -> Response:
        return _json({"models": list(self.readers)})

    async def held(self, _: Request) -> Response:
        held = [
            {"id": name, "model": self.readings_held[name].model}
            for name in self.readings_held.names()
        ]
        return _json({"readings": held})

    async def read(self, request: Request) -> Response:
        body = await _body(request)
        text, off, reader = text_of(body), heads_off(body), self._reader(body)

        def work(stop: Stop) -> HeldReading:
            before = reader.read(text, (), stop)[1] if off else None
            recording, logits = reader.read(text, off, stop)
            told = () if logits is None else predictions(logits, before, reader.text_of)
            return HeldReading(reader.name, text, recording, tuple(told), off)

        reading = await self.workshop.run(request, work)
        name = self.readings_held.add(reading)
        return _json(_described(name, reading))

    async def reading(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _json(_described(name, self.readings_held[name]))

    async def record(self, request: Request) -> Response:
        held = self.readings_held[request.path_params["name"]]
        record = await self.workshop.run(request, lambda _: held.record.described)
        return _json(record)

    async def array(self, request: Request) -> Response:
        held, place = self.readings_held[request.path_params["name"]], request.path_params["place"]
        record = await self.workshop.run(request, lambda _: held.record)
        if place >= len(record.makers):
            raise wrong("no_array", place=place, count=len(record.makers))
        array = await self.workshop.run(request, lambda _: record.array(place))
        return _typed(array)

    async def tile(self, request: Request) -> Response:
        layer, head = self._head(request)
        asked = _query(request)
        row0 = whole(asked, "row", 0, layer.queries - 1, 0)
        col0 = whole(asked, "col", 0, layer.keys - 1, 0)
        zoom = whole(asked, "zoom", 0, 40, 0)
        size = whole(asked, "size", 1, MOST_CELLS, 256)
        pool = choice(asked, "pool", tuple(MAPS))
        tile = await self.workshop.run(
            request, lambda _: layer.tile(head, row0, col0, zoom, size, pool)
        )
        return _numbers(tile)

    async def tiles(self, request: Request) -> Response:
        """Mean and maximum of several tiles: of each the one, then the other."""
        layer, head = self._head(request)
        asked = _query(request)
        zoom = whole(asked, "zoom", 0, 40, 0)
        size = whole(asked, "size", 1, MOST_CELLS, 128)
        most = min(MOST_TILES, MOST_CELLS**2 // size**2)
        corners = places(asked, "at", layer.queries - 1, layer.keys - 1, most)

        def work(stop: Stop) -> list[Any]:
            each = (both_pools(layer, head, *at, zoom, size, stop.check) for at in corners)
            return list(chain.from_iterable(each))

        return _numbers(*await self.workshop.run(request, work))

    async def row(self, request: Request) -> Response:
        layer, head = self._head(request)
        row = whole(_query(request), "row", 0, layer.queries - 1)
        weights = await self.workshop.run(request, lambda _: layer.weights(head, row))
        return _numbers(weights)

    async def pair(self, request: Request) -> Response:
        layer, head = self._head(request)
        asked = _query(request)
        row = whole(asked, "row", 0, layer.queries - 1)
        col = whole(asked, "col", 0, layer.keys - 1)
        if layer.query is None or layer.key is None:
            raise wrong("not_kept")
        at = layer.head_numbers.index(head)
        query = np.asarray(layer.query[0, at, row], np.float64)
        key = np.asarray(layer.key[0, at // (layer.heads // layer.key.shape[1]), col], np.float64)
        weight = layer.weights(head, row, col)[0, 0]
        return _json(
            {
                "query": list(map(number, query)),
                "key": list(map(number, key)),
                "dot": number(query @ key),
                "scale": layer.scale,
                "softcap": layer.softcap,
                "lse": number(layer.lse[0, at, row]),
                "weight": number(weight),
            }
        )

    async def generate(self, request: Request) -> Response:
        body = await _body(request)
        text, off, reader = text_of(body), heads_off(body), self._reader(body)
        options = {
            "tokens": whole(body, "tokens", 1, 4096, 20),
            "temperature": real(body, "temperature", 0.0, 10.0, 0.0),
            "top_k": whole(body, "top_k", 0, 1_000_000, 0),
            "seed": whole(body, "seed", 0, 2**63 - 1, 0),
            "watch": (
                whole(body, "layer", 0, 2**20, 0),
                whole(body, "head", 0, 2**20, 0),
            ),
        }
        events = self.workshop.stream(
            request, lambda stop: reader.generate(text, off, options, stop)
        )
        first = await anext(events, None)  # mistakes are told before the answer begins

        async def lines() -> AsyncIterator[str]:
            if first is not None:
                yield _line(first)
            try:
                async for event in events:
                    yield _line(event)
            except AtentoError as error:
                yield _line({"error": _in_words(request, error)})
            except (GoneError, StoppedError):
                return

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def _reader(self, body: Mapping[str, Any]) -> Reader:
        return self.readers[choice(body, "model", tuple(self.readers))]

    def _head(self, request: Request) -> tuple[LayerRecord, int]:
        recording = self.readings_held[request.path_params["name"]].recording
        layer, head = request.path_params["layer"], request.path_params["head"]
        if layer >= len(recording):
            raise wrong("no_layer", layer=layer, last=len(recording) - 1)
        record = recording[layer]
        if head not in record.head_numbers:
            raise wrong("no_head", head=head, layer=record.layer)
        return record, head


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise wrong("body_no_json") from None
    if not isinstance(body, dict):
        raise wrong("body_no_object")
    return body


def _query(request: Request) -> dict[str, str]:
    return dict(request.query_params)


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, allow_nan=False) + "\n"


def _json(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """ASCII, so that half a character of a text (a lone surrogate) can be told as well."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")


def _numbers(*tiles: Any) -> Response:
    """Arrays (row, column) as little-endian float32, one after the other, and their shapes."""
    body = b"".join(np.ascontiguousarray(tile, "<f4").tobytes() for tile in tiles)
    rows, cols = (
        ",".join(map(str, counts)) for counts in zip(*(t.shape for t in tiles), strict=True)
    )
    headers = {"x-rows": rows, "x-cols": cols}
    return Response(body, media_type="application/octet-stream", headers=headers)


def _typed(array: Any) -> Response:
    """An array in its own type, little-endian; its type and shape are in the headers."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    headers = {"x-type": array.dtype.str[1:], "x-shape": ",".join(map(str, array.shape))}
    return Response(array.tobytes(), media_type="application/octet-stream", headers=headers)


def _described(name: str, reading: HeldReading) -> dict[str, Any]:
    """A reading without its arrays."""
    recording = reading.recording
    return {
        "id": name,
        "model": reading.model,
        "text": reading.text,
        "tokens": recording.tokens,
        "layers": [_layer(record) for record in recording],
        "summary": list(_rows(recording)),
        "next": list(reading.next),
        "off": [list(pair) for pair in reading.off],
    }


def _layer(record: LayerRecord) -> dict[str, Any]:
    return {
        "name": record.layer,
        "kind": record.kind,
        "side": record.side,
        "heads": list(record.head_numbers),
        "queries": record.queries,
        "keys": record.keys,
        "scale": record.scale,
        "softcap": record.softcap,
        "firstQuery": record.first_query,
    }


def _rows(recording: Recording) -> Iterator[dict[str, Any]]:
    for row in recording.summary().to_dict()["rows"]:
        yield {
            name: number(value) if isinstance(value, float) else value
            for name, value in row.items()
        }
