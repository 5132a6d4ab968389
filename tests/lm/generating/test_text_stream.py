"""Text as it comes: whole characters only, and nothing of a stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from atento.lm import BPETokenizer
from atento.lm.generating.text_stream import TextStream

TOKENIZER = BPETokenizer.train(["a b"], 257)  # bytes, so that characters come in parts

MERGED = BPETokenizer.train(["🦊🐻🦊🐻🐼🦊 é🦊é ñandú 東京都 東京 🏳️‍🌈 👨‍👩‍👧‍👦 " * 30], 400)
"""Its tokens end one character and begin another."""


def fallback():
    """As Llama's: a token for some characters, and one for each byte of all others."""
    known = {f"<0x{byte:02X}>": byte for byte in range(256)}
    known |= {character: 256 + at for at, character in enumerate("▁abé")}
    tokenizer = Tokenizer(models.BPE(known, [], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return tokenizer


FALLBACK = fallback()


def pieces_of(decode, ids, stop=(), past=()):
    stream = TextStream(decode, stop, past)
    return [*[stream.push(token) for token in ids], stream.end()]


def told(text, stop=(), past=()):
    return pieces_of(TOKENIZER.decode, TOKENIZER.encode(text), stop, past)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30))
def test_pieces_make_the_text_and_no_character_is_broken(text):
    pieces = told(text)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


@given(st.lists(st.integers(1, MERGED.vocabulary_size - 1), max_size=120))
def test_pieces_of_any_tokens_make_their_text(ids):
    assert "".join(pieces_of(MERGED.decode, ids)) == MERGED.decode(ids)


@given(st.lists(st.integers(128, 256), min_size=40, max_size=120))
def test_broken_bytes_without_an_end_are_told_meanwhile(ids):
    pieces = pieces_of(TOKENIZER.decode, ids)
    text = TOKENIZER.decode(ids)
    assert "".join(pieces) == text
    assert len(text) - len("".join(pieces[:-1])) <= 4


@given(st.text("ab é東京都🦊🐻ñ", max_size=40), st.text("ab é東京都🦊🐻ñ", max_size=5))
def test_characters_in_single_bytes_are_told_whole(text, begun):
    ids = FALLBACK.encode(begun + text, add_special_tokens=False).ids
    past = ids[: len(FALLBACK.encode(begun, add_special_tokens=False).ids)]
    before, whole = FALLBACK.decode(past), FALLBACK.decode(ids)
    pieces = pieces_of(FALLBACK.decode, ids[len(past) :], past=past)
    assert "".join(pieces) == whole[len(before) :]
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
