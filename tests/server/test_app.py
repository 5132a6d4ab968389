"""What the server answers: readings, tiles, pairs and tokens; mistakes in words, never a 500."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atento.embedded import load_mini
from atento.embedded.recording import record_mini

SENTENCE = "Your journey starts with one step"


def numbers(answer):
    shape = int(answer.headers["x-rows"]), int(answer.headers["x-cols"])
    return np.frombuffer(answer.body, "<f4").reshape(shape)


def test_the_page_comes_with_its_policy(served):
    answer = served.ask("/")
    assert answer.status == 200
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.body.startswith(b"<!doctype html>")


def test_a_sentence_is_read_and_every_weight_can_be_asked_for(served):
    mini = load_mini()
    ids = mini.encode(SENTENCE).ids
    recording = record_mini(mini, ids)
    reading = served.ask("/api/readings", {"model": "mini", "text": SENTENCE}).json()
    assert reading["tokens"] == ["Your", "journey", "starts", "with", "one", "step"]
    assert [layer["name"] for layer in reading["layers"]] == recording.names
    assert len(reading["summary"]) == 12
    logits = mini(ids)[-1]
    assert reading["next"][0]["id"] == int(logits.argmax())
    assert sum(each["probability"] for each in reading["next"]) <= 1
    base = f"/api/readings/{reading['id']}/layers/1/heads/2"
    weights = recording[1].weights(2)
    np.testing.assert_array_equal(numbers(served.ask(f"{base}/tile")), weights)
    row = numbers(served.ask(f"{base}/row?row=3"))
    np.testing.assert_allclose(row, weights[3:4], atol=1e-6)
    np.testing.assert_array_equal(
        numbers(served.ask(f"{base}/tile?row=2&col=1&zoom=1&size=2&pool=max")),
        recording[1].tile(2, 2, 1, 1, 2, "max"),
    )
    pair = served.ask(f"{base}/pair?row=4&col=2").json()
    assert pair["weight"] == pytest.approx(float(weights[4, 2]), rel=1e-6)
    score = np.dot(pair["query"], pair["key"]) * pair["scale"]
    assert np.exp(score - pair["lse"]) == pytest.approx(float(weights[4, 2]), rel=1e-5)
    assert served.ask(f"/api/readings/{reading['id']}").json() == reading


def test_a_head_that_is_switched_off_changes_what_comes_next(served):
    plain = served.ask("/api/readings", {"text": SENTENCE}).json()
    changed = served.ask("/api/readings", {"text": SENTENCE, "off": [[0, 1], [2, 3]]}).json()
    assert changed["off"] == [[0, 1], [2, 3]]
    mini = load_mini()
    ids = mini.encode(SENTENCE).ids
    expected = mini.run(ids, off=[(0, 1), (2, 3)]).logits[-1].astype(np.float64)
    assert changed["next"][0]["id"] == int(expected.argmax())
    chances = np.exp(expected - expected.max())
    chances /= chances.sum()
    assert changed["next"][0]["probability"] == pytest.approx(chances.max(), rel=1e-9)
    assert changed["next"] != plain["next"]


def test_tokens_come_one_by_one_with_the_weights_of_the_watched_head(served):
    body = {"text": SENTENCE, "tokens": 4, "layer": 1, "head": 2}
    lines = served.ask("/api/generate", body).body.decode().splitlines()
    events = [json.loads(line) for line in lines]
    assert len(events) == 5
    assert events[0]["tokens"] == SENTENCE.split()
    assert events[-1] == {"text": SENTENCE + "".join(event["token"] for event in events[:-1])}
    mini = load_mini()
    ids = list(mini.encode(SENTENCE).ids)
    for event in events[:-1]:
        assert event["id"] == int(mini(ids)[-1].argmax())
        weights = record_mini(mini, ids)[1].weights(2, -1)[0]
        np.testing.assert_allclose(event["weights"], weights, atol=1e-6)
        ids.append(event["id"])


def test_the_same_seed_draws_the_same_tokens(served):
    body = {"text": SENTENCE, "tokens": 12, "temperature": 1.5, "top_k": 50, "seed": 7}
    first = served.ask("/api/generate", body).body
    assert served.ask("/api/generate", body).body == first
    assert served.ask("/api/generate", {**body, "seed": 8}).body != first


MISTAKES = {
    "no text": ({}, "text is missing: write a sentence."),
    "blank": ({"text": " \n"}, "text is missing: write a sentence."),
    "number": ({"text": 3}, "text is missing: write a sentence."),
    "endless": (
        {"text": "a" * 400_001},
        "the text has 400,001 characters; 400,000 are read at most here.",
    ),
    "long": (
        {"text": "one " * 200},
        "The model reads at most 128 tokens and the text has 200. Shorten it.",
    ),
    "model": (
        {"text": "a", "model": "/etc/passwd"},
        "model must be one of mini; got '/etc/passwd'.",
    ),
    "model of a list": (
        {"text": "a", "model": ["mini"]},
        "model must be one of mini; got ['mini'].",
    ),
    "off": ({"text": "a", "off": [[0]]}, "off must be a list of pairs"),
    "off true": ({"text": "a", "off": [[True, 0]]}, "off must be a list of pairs"),
    "head": ({"text": "a", "off": [[0, 99]]}, "there is no head 99 in layer 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_sentence(served, mistake):
    body, words = MISTAKES[mistake]
    for path in ("/api/readings", "/api/generate"):
        answer = served.ask(path, body)
        assert answer.status == 422
        assert answer.json()["error"].startswith(words)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'"text"'])
def test_a_body_that_is_no_object_is_told(served, body):
    answer = served.ask("/api/readings", body)
    assert answer.status == 422
    assert answer.json()["error"].startswith("the body ")


PLACES = (
    "at must be 1 to {} places row.column with commas between them, of rows 0 to 46 and columns "
    "0 to 46; got {}."
)
MANY = "'0.0,0.0,0.0,0.0,0.0'"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("layers/9/heads/0/tile", "there is no layer 9: there are 0 to 0."),
        ("layers/0/heads/9/tile", "there is no head 9 in layer only."),
        ("layers/0/heads/0/tile?row=47", "row must be a whole number from 0 to 46; got 47."),
        ("layers/0/heads/0/tile?row=-1", "row must be a whole number from 0 to 46; got -1."),
        ("layers/0/heads/0/tile?col=1e3", "col must be a whole number from 0 to 46; got '1e3'."),
        ("layers/0/heads/0/tile?zoom=41", "zoom must be a whole number from 0 to 40; got 41."),
        ("layers/0/heads/0/tile?size=0", "size must be a whole number from 1 to 1024; got 0."),
        ("layers/0/heads/0/tile?pool=both", "pool must be one of mean, max; got 'both'."),
        ("layers/0/heads/0/tiles", PLACES.format(16, "''")),
        ("layers/0/heads/0/tiles?at=0.0,47.0", PLACES.format(16, "'0.0,47.0'")),
        ("layers/0/heads/0/tiles?at=0.0,", PLACES.format(16, "'0.0,'")),
        ("layers/0/heads/0/tiles?at=1.2.3", PLACES.format(16, "'1.2.3'")),
        ("layers/0/heads/0/tiles?at=-1.0", PLACES.format(16, "'-1.0'")),
        ("layers/0/heads/0/tiles?at=0.%C2%B2", PLACES.format(16, "'0.²'")),
        ("layers/0/heads/0/tiles?size=512&at=" + "0.0,0.0,0.0,0.0,0.0", PLACES.format(4, MANY)),
        (
            "layers/0/heads/0/tiles?zoom=41&at=0.0",
            "zoom must be a whole number from 0 to 40; got 41.",
        ),
        ("layers/0/heads/0/row", "row is missing: a whole number from 0 to 46."),
        ("layers/0/heads/0/pair?row=0", "col is missing: a whole number from 0 to 46."),
    ],
)
def test_wrong_parameters_are_told(served, path, words):
    answer = served.ask(f"/api/readings/{served.pinned}/{path}")
    assert (answer.status, answer.json()) == (422, {"error": words})


def test_an_unknown_reading_is_not_found(served):
    for path in ("", "/layers/0/heads/0/tile"):
        answer = served.ask(f"/api/readings/nothing{path}")
        assert answer.status == 404
        assert "not held any longer" in answer.json()["error"]
    nowhere = served.ask("/api/readings/../../etc/passwd", headers=[("accept-language", "es")])
    assert (nowhere.status, nowhere.json()) == (404, {"error": "En esta dirección no hay nada."})


TEXTS = st.text(max_size=12) | st.sampled_from(["9" * 30, "NaN", "1e309", "\x00", "²", "%00", "-"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    part=st.sampled_from(["tile", "row", "pair", "nothing", ""]),
    layer=st.integers(-2, 3) | TEXTS,
    head=st.integers(-2, 5) | TEXTS,
    query=st.dictionaries(
        st.sampled_from(["row", "col", "zoom", "size", "pool", "x"]), st.integers() | TEXTS
    ),
)
def test_no_query_makes_the_server_fail(served, part, layer, head, query):
    from urllib.parse import quote, urlencode

    path = (
        f"/api/readings/{served.pinned}/layers/{quote(str(layer))}/heads/{quote(str(head))}/{part}"
    )
    assert served.ask(f"{path}?{urlencode(query)}").status in (200, 404, 422)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(["/api/readings", "/api/generate"]),
    body=st.dictionaries(
        st.sampled_from(
            ["text", "model", "off", "tokens", "temperature", "top_k", "seed", "layer", "head"]
        ),
        VALUES,
    ),
)
def test_no_body_makes_the_server_fail(served, path, body):
    assert served.ask(path, json.dumps(body).encode()).status in (200, 422)
