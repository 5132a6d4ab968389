"""Characters: numbers and back, what is unknown, and the file that others read too."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from atento import InputError
from atento.lm import CharTokenizer
from atento.lm.tokenizers import load_tokenizer


def test_hello_is_the_five_numbers_of_string_printable():
    tokenizer = CharTokenizer()
    assert tokenizer.vocabulary_size == 100
    ids = tokenizer.encode("Hello")
    assert ids == [string.printable.index(c) for c in "Hello"] == [43, 14, 21, 21, 24]
    assert tokenizer.decode(ids) == "Hello"
    assert tokenizer.tokens(ids) == list("Hello")


@given(st.text(min_size=1, max_size=60))
def test_a_text_s_own_characters_bring_it_back(text):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocabulary_size == len(set(text))


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(InputError, match=r"'ñ' \(U\+00F1\), at place 2 of the text.*unknown="):
        CharTokenizer().encode("niño")
    assert CharTokenizer(unknown="?").decode(CharTokenizer(unknown="?").encode("niño")) == "ni?o"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CharTokenizer(""), "at least one"),
        (lambda: CharTokenizer("abca"), "'a' comes again"),
        (lambda: CharTokenizer("abc", unknown="?"), "one of the characters; got '\\?'"),
        (lambda: CharTokenizer("abc").encode(5), "takes a text; got int"),
        (lambda: CharTokenizer("abc").decode([0, 3]), "from 0 to 2; got 3"),
        (lambda: CharTokenizer("abc").decode([-1]), "from 0 to 2; got -1"),
    ],
)
def test_wrong_use_is_told(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize("unknown", [None, "?"])
def test_the_file_brings_it_back_and_tokenizers_reads_it(tmp_path, unknown):
    tokenizer = CharTokenizer.from_text('a?\n\t \r\u2028é🦊"\\<|b', unknown=unknown)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path) == tokenizer
    text = 'ab\n\r 🦊\u2028é"\\'
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(text).ids == tokenizer.encode(text)
    assert theirs.decode(theirs.encode(text).ids) == text


def test_a_lone_surrogate_is_a_character_like_others(tmp_path):
    tokenizer = CharTokenizer.from_text("a\ud800")
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.decode(again.encode("\ud800a")) == "\ud800a"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"model": 5}', '{"model": {"type": "WordLevel"}, "decoder": 5}', "[" * 9000],
)
def test_a_broken_file_is_told(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_a_file_of_words_or_with_gaps_is_not_of_characters(tmp_path):
    stored = json.loads(CharTokenizer("abc").to_json())
    for vocabulary in ({"a": 0, "bc": 1}, {"a": 0, "b": 2}):
        stored["model"]["vocab"] = vocabulary
        (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
        with pytest.raises(InputError, match="not of characters"):
            load_tokenizer(tmp_path)


def test_no_tokenizer_there(tmp_path):
    with pytest.raises(InputError, match="no tokenizer at"):
        load_tokenizer(tmp_path)


def test_what_stands_for_others_is_added_where_the_text_lacks_it():
    tokenizer = CharTokenizer.from_text("abc", unknown="?")
    assert tokenizer.characters == "?abc"
    assert tokenizer.decode(tokenizer.encode("aé")) == "a?"
