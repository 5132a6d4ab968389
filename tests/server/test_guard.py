"""The guard: who is answered, who is not, and what every answer carries."""

import asyncio

import pytest

from atento.server.guard import Guard

TOKEN, PORT = "s3cret-token", 4711
HOST = ("host", f"127.0.0.1:{PORT}")
COOKIE = ("cookie", f"theme=dark; atento-{PORT}={TOKEN}")
JSON = ("content-type", "application/json")


async def echo(scope, receive, send):
    """Answers with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['path']} {length}".encode()})


def ask(method="GET", path="/api/models", query="", headers=(HOST, COOKIE), body=(b"",), **options):
    """(status, headers, body) of one request."""
    sent = []
    parts = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(body)}
        for i, part in enumerate(body)
    ]

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }
    asyncio.run(Guard(echo, TOKEN, PORT, **options)(scope, receive, send))
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, b"".join(message["body"] for message in rest).decode()


def test_who_brings_the_cookie_is_answered():
    assert ask()[::2] == (200, "/api/models 0")
    assert ask(headers=(HOST, ("authorization", f"Bearer {TOKEN}")))[0] == 200
    for name in ("localhost", "127.0.0.1", "[::1]"):
        own = ("host", f"{name}:{PORT}"), ("origin", f"http://{name}:{PORT}")
        assert ask(headers=(*own, ("sec-fetch-site", "same-origin"), COOKIE))[0] == 200


def test_the_printed_address_sets_the_cookie_and_leaves_no_token_in_the_address():
    status, headers, _ = ask(path="/", query=f"token={TOKEN}", headers=(HOST,))
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"] == f"atento-{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "token=",
        "token=wrong",
        f"token={TOKEN}x",
        f"token={TOKEN}&token={TOKEN}",
        f"toke={TOKEN}",
        "token=%ff%fe",
        "&".join(f"a{i}=1" for i in range(100)) + f"&token={TOKEN}",
    ],
)
def test_any_other_address_does_not(query):
    status, headers, text = ask(path="/", query=query, headers=(HOST,))
    assert status == 401
    assert "set-cookie" not in headers
    assert text == "This page needs its token: open the address that atento serve printed.\n"


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "atento-4711=",
        "atento-4711=wrong",
        f"atento-4712={TOKEN}",
        f"atento={TOKEN}",
        "atento-4711=\xff",
        ";;;=;",
        "atento-4711",
    ],
)
def test_a_cookie_that_is_not_ours_is_refused(cookie):
    assert ask(headers=(HOST, ("cookie", cookie)))[0] == 401
    assert ask(path="/api/models", query=f"token={TOKEN}", headers=(HOST,))[0] == 401
    assert ask(headers=(HOST, ("authorization", f"Basic {TOKEN}")))[0] == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1",
        f"evil.example:{PORT}",
        "127.0.0.1:80",
        f"127.0.0.1:{PORT}.x",
        "",
    ],
)
def test_a_name_that_was_bent_to_this_address_is_refused(host):
    assert ask(headers=(("host", host), COOKIE))[0] == 421
    assert ask(path="/", query=f"token={TOKEN}", headers=(("host", host),))[0] == 421


def test_a_missing_or_doubled_host_is_refused():
    assert ask(headers=(COOKIE,))[0] == 421
    assert ask(headers=(HOST, ("host", "evil.example"), COOKIE))[0] == 421


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", f"https://127.0.0.1:{PORT}"),
        ("origin", "http://127.0.0.1:80"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ],
)
def test_requests_of_other_pages_are_refused(header):
    assert ask(headers=(HOST, COOKIE, header))[0] == 403
    assert ask("POST", headers=(HOST, COOKIE, JSON, header))[0] == 403
    assert ask(path="/", query=f"token={TOKEN}", headers=(HOST, header))[0] == 403


def test_a_form_cannot_post():
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert ask("POST", headers=(HOST, COOKIE, ("content-type", kind)))[0] == 415
    assert ask("POST", headers=(HOST, COOKIE))[0] == 415
    assert ask("POST", headers=(HOST, COOKIE, ("content-type", "Application/JSON; a=b")))[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_are_refused(method):
    assert ask(method)[0] == 405


def test_a_long_body_is_refused_whether_it_says_so_or_not():
    own = (HOST, COOKIE, JSON)
    assert ask("POST", headers=own, body=[b"x" * 9, b"y"], most_bytes=10)[::2] == (
        200,
        "/api/models 10",
    )
    assert ask("POST", headers=own, body=[b"x" * 9, b"yz"], most_bytes=10)[0] == 413
    for said in ("11", "-1", "1e3", "²", "x", "9" * 5000):
        assert ask("POST", headers=(*own, ("content-length", said)), most_bytes=10)[0] == 413


def test_every_answer_forbids_what_it_does_not_need():
    for answer in (ask(), ask(headers=()), ask(path="/", query=f"token={TOKEN}", headers=(HOST,))):
        headers = answer[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"


def test_a_web_socket_is_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(echo, TOKEN, PORT)({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
