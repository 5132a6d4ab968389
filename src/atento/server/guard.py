"""Who may speak to the server: a browser of this machine that was given the token.

A page of any site can make a browser send requests to 127.0.0.1, and can give its own host name
that address (DNS rebinding). So each request must name this server as its host, come from this
server's own page, and carry the token that was printed at the start.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from atento.server.mistakes import language_of, say

__all__ = ["MOST_BYTES", "Guard", "hosts_of"]

MOST_BYTES = 2**20
"""The longest body of a request: a text of a few hundred thousand words."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def hosts_of(port: int) -> frozenset[str]:
    """The names under which this machine alone reaches the port."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """Lets through what may be answered; everything else gets a short refusal in plain text.

    Opening ``/?token=…`` sets a cookie and leads to ``/``, so that the token stays in no history.

    Args:
        app: what answers.
        token: the secret that the start printed.
        port: that it listens on.
        most_bytes: of a request's body.
    """

    def __init__(self, app: App, token: str, port: int, most_bytes: int = MOST_BYTES) -> None:
        self.app, self.token, self.most_bytes = app, token, most_bytes
        self.hosts = hosts_of(port)
        self.origins = frozenset(f"http://{host}" for host in self.hosts)
        self.cookie = f"atento-{port}"  # browsers send cookies to every port of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, _with_headers(send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        refused = self._misplaced(scope, headers)
        lang = _language(scope, headers)
        if refused is not None:
            await _refuse(send, *refused, lang)
        elif self._brings_token(scope):
            cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            await _respond(send, 303, "", [("location", "/"), ("set-cookie", cookie)])
        elif not self._knows_token(headers):
            await _refuse(send, 401, "token", lang)
        else:
            await self._with_limit(scope, receive, send, headers, lang)

    def _misplaced(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        """Status and sentence by name, where the request is not of this server's own page."""
        if headers.get("host", [""]) not in [[host] for host in self.hosts]:
            return 421, "host"
        if any(origin not in self.origins for origin in headers.get("origin", [])):
            return 403, "origin"
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return 403, "origin"
        method = scope["method"]
        if method not in ("GET", "HEAD", "POST"):
            return 405, "method"
        kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 415, "media"
        return None

    def _brings_token(self, scope: Scope) -> bool:
        if scope["path"] != "/" or scope["method"] != "GET":
            return False
        query = scope.get("query_string", b"").decode("latin-1")
        try:
            given = parse_qs(query, max_num_fields=8).get("token", [])
        except ValueError:
            return False
        return len(given) == 1 and self._is_token(given[0])

    def _knows_token(self, headers: dict[str, list[str]]) -> bool:
        scheme, _, bearer = headers.get("authorization", [""])[0].partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        for header in headers.get("cookie", []):
            try:
                cookies: SimpleCookie = SimpleCookie(header)
            except CookieError:
                continue
            if self.cookie in cookies and self._is_token(cookies[self.cookie].value):
                return True
        return False

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    async def _with_limit(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[str, list[str]], lang: str
    ) -> None:
        """Hand on, as long as the body stays within its limit."""
        said = headers.get("content-length", ["0"])[0]
        short = said.isascii() and said.isdigit() and len(said) <= 15
        if not short or int(said) > self.most_bytes:
            await _refuse(send, 413, "body_long", lang, most=self.most_bytes)
            return
        came = 0
        started = False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self.most_bytes:
                raise _TooLongError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except _TooLongError:
            if not started:
                await _refuse(send, 413, "body_long", lang, most=self.most_bytes)


class _TooLongError(Exception):
    """A body went past its limit while it came."""


def _headers(scope: Scope) -> dict[str, list[str]]:
    """Values by name in small letters; a header that came twice has two."""
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", ())}
            more = [
                (name.encode(), value.encode())
                for name, value in HEADERS.items()
                if name.encode() not in own
            ]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


def _language(scope: Scope, headers: dict[str, list[str]]) -> str:
    """In which a refusal is written."""
    query = scope.get("query_string", b"").decode("latin-1")
    try:
        asked = parse_qs(query, max_num_fields=8).get("lang", [])
    except ValueError:
        asked = []
    return language_of(asked[0] if asked else None, headers.get("accept-language", [""])[0])


async def _refuse(send: Send, status: int, name: str, lang: str, **facts: object) -> None:
    text = f"{say(lang, name, **facts)}\n"
    await _respond(send, status, text, [("content-type", "text/plain; charset=utf-8")])


async def _respond(send: Send, status: int, text: str, headers: Iterable[tuple[str, str]]) -> None:
    body = text.encode()
    lines = [(name.encode(), value.encode()) for name, value in headers]
    lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
