"""Text as it comes: whole characters only, and nothing of a stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atento.lm import BPETokenizer
from atento.lm.generating.text_stream import TextStream

TOKENIZER = BPETokenizer.train(["a b"], 257)  # bytes, so that characters come in parts


def told(text, stop=(), past=()):
    stream = TextStream(TOKENIZER.decode, stop, past)
    pieces = [stream.push(token) for token in TOKENIZER.encode(text)]
    return [*pieces, stream.end()]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30))
def test_pieces_make_the_text_and_no_character_is_broken(text):
    pieces = told(text)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_a_character_comes_when_it_is_whole():
    assert told("é🦊") == ["", "é", "", "", "", "🦊", ""]


def test_broken_bytes_are_told_as_such():
    stream = TextStream(TOKENIZER.decode)
    half = TOKENIZER.encode("🦊")[:2]
    pieces = [stream.push(token) for token in [*half, *half]]
    assert set("".join([*pieces, stream.end()])) == {"\ufffd"}


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello world", ["wor"], "hello "),
        ("hello world", ["zzz", "o"], "hell"),
        ("hello wo", ["world"], "hello wo"),
        ("aaab", ["aab"], "a"),
        ("a🦊b", ["🦊"], "a"),
        ("abcabd", ["abd"], "abc"),
    ],
)
def test_a_stop_ends_it(text, stop, expected):
    assert "".join(told(text, stop)) == expected


def test_after_a_stop_nothing_comes():
    stream = TextStream(TOKENIZER.decode, ["b"])
    for token in TOKENIZER.encode("abcd"):
        stream.push(token)
    assert stream.stopped
    assert stream.push(TOKENIZER.encode("x")[0]) == stream.end() == ""
