"""Byte pairs: every text comes back, the pieces are learnt, names of special tokens are text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from atento import InputError
from atento.lm import BPETokenizer
from atento.lm.tokenizers import load_tokenizer

TEXT = "the theme of the thesis is that these things thin there " * 4


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train([TEXT], vocabulary_size=300)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["<|endoftext|>", " a  b ", "\r\n\t\0", "e\u0301é", "🏳️\u200d🌈", "א\u202eb", "\ufeffx"]
)
def test_hard_texts_come_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(tokenizer.tokens(tokenizer.encode("plain"))) == "plain"


def test_frequent_neighbours_are_joined(tokenizer):
    assert len(tokenizer.encode(" the")) == 1
    assert len(tokenizer.encode("zqx")) == 3
    assert 257 < tokenizer.vocabulary_size <= 300


def test_special_tokens_are_beside_the_text(tokenizer):
    end = tokenizer.id_of("<|endoftext|>")
    assert end == 0
    assert end not in tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.decode([end]) == "<|endoftext|>"
    assert tokenizer.id_of("<|nothing|>") is None


def test_the_file_brings_it_back_and_transformers_reads_it(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in ("the thesis 🦊", "<|endoftext|>"):
        assert again.encode(text) == tokenizer.encode(text)
    assert theirs("the thesis 🦊")["input_ids"] == tokenizer.encode("the thesis 🦊")


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda t: t.encode("a\ud800"), "lone surrogate at place 1"),
        (lambda t: t.encode(b"a"), "takes texts; got bytes"),
        (lambda t: t.decode([10**6]), "got 1000000"),
        (lambda t: t.train([TEXT], vocabulary_size=200), "a whole number from 257 on; got 200"),
        (lambda t: t.train([5]), "takes texts; got int"),
        (lambda t: t.from_json("{}"), "cannot be read"),
    ],
)
def test_wrong_use_is_told(tokenizer, use, said):
    with pytest.raises(InputError, match=said):
        use(tokenizer)
