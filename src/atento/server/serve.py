"""Starting the server: a socket on the loopback address, a token, and the address to open."""

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache

from atento._errors import InputError
from atento._optional import require
from atento.server.readers import Reader
from atento.server.readings import Readings
from atento.views.live_page import render_live

__all__ = ["serve"]

AT_ONCE = 256
"""Connections that are kept; further ones are told to come back."""


def serve(
    readers: Sequence[Reader],
    recordings: Sequence[tuple[str, str]] = (),
    *,
    lang: str = "en",
    port: int = 0,
    readings: Readings | None = None,
    opened: Callable[[str], None] = print,
) -> None:
    """Serve until interrupted.

    Args:
        readers: the models that texts can be read with.
        recordings: (id, name) of readings that the page offers.
        lang: the language in which the page opens.
        port: 0 takes any free one.
        readings: those that are held from the start.
        opened: called with the address, its token in it, once the port is bound.

    Raises:
        InputError: when the port cannot be had.
        MissingLibraryError: when starlette or uvicorn is not installed.
    """
    require("starlette", "to serve")
    uvicorn = require("uvicorn", "to serve")
    from atento.server.app import make_app

    with closing(_bound(port)) as bound:
        port = bound.getsockname()[1]
        token = secrets.token_urlsafe(24)
        names = [reader.name for reader in readers]
        page = cache(lambda: render_live(names, recordings, lang=lang))
        app = make_app(readers, page, token=token, port=port, readings=readings)
        settings = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            limit_concurrency=AT_ONCE,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=2**16,
        )
        opened(f"http://127.0.0.1:{port}/?token={token}")
        uvicorn.Server(settings).run(sockets=[bound])


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(AT_ONCE)  # a browser that is opened now waits until it is answered
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"Port {port} cannot be had: {why}. Choose another, or 0 for any free one.",
            name="serve_port",
            port=port,
            why=why,
        ) from None
    return listening
