"""Text to ids and places: equal to `tokenizers`, verbatim for any text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from atento.embedded import WordPiece, load_mini
from atento.embedded.load import MINI

HUGGING_FACE = Tokenizer.from_file(str(MINI / "tokenizer.json"))
OURS = load_mini().tokenizer

LATIN = st.text(alphabet="abcdeéhilmnñorstuüyzAÉÑŁßİK0129 .,¿?¡!'-\t\n", max_size=60)
# Everything but lone surrogates, which `tokenizers` cannot be given.
ANY = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60)

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\u202egnirts desrever\u202c \u2066isolated\u2069",
    "👩‍👩‍👧‍👦 family 🇪🇸",
    "nul\x00nul",
    "\ud800 lone \udfff",
    "e\u0301 combining",
    "İstanbul ǅ ß ẞ K",
    "漢字 and кириллица",
]


@settings(max_examples=300, deadline=None)
@given(st.one_of(LATIN, ANY))
def test_ids_and_places_equal_hugging_face(text: str) -> None:
    ours, theirs = OURS.encode(text), HUGGING_FACE.encode(text)
    assert list(ours.ids) == theirs.ids
    assert list(ours.spans) == theirs.offsets


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_tokens_are_the_text_verbatim_and_nothing_visible_is_lost(text: str) -> None:
    encoding = OURS.encode(text)
    assert encoding.tokens == tuple(text[a:b] for a, b in encoding.spans)
    covered = {at for a, b in encoding.spans for at in range(a, b)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_read_and_kept(text: str) -> None:
    encoding = OURS.encode(text)
    assert "".join(encoding.tokens) == "".join(text.split())


def test_a_word_of_ten_thousand_letters_is_one_unknown_token() -> None:
    text = "a" * 10_000
    encoding = OURS.encode(text)
    assert encoding.ids == (OURS.unknown,)
    assert encoding.tokens == (text,)
    assert HUGGING_FACE.encode(text).ids == [OURS.unknown]


def test_a_hundred_letters_are_still_read_in_pieces() -> None:
    text = "xq" * 50
    encoding = OURS.encode(text)
    assert OURS.unknown not in encoding.ids
    assert list(encoding.ids) == HUGGING_FACE.encode(text).ids


def test_greedy_longest_match_by_hand() -> None:
    vocabulary = {"[UNK]": 0, "sun": 1, "##s": 2, "##set": 3, "s": 4, "!": 5, "##un": 6}
    encoding = WordPiece(vocabulary).encode("Sunsets! suns q")
    assert encoding.ids == (1, 3, 2, 5, 1, 2, 0)
    assert encoding.tokens == ("Sun", "set", "s", "!", "sun", "s", "q")
    assert encoding.spans == ((0, 3), (3, 6), (6, 7), (7, 8), (9, 12), (12, 13), (14, 15))


@pytest.mark.parametrize(
    "text",
    [
        "Your journey starts with one step",
        "The cat sat on the mat because it was tired.",
        "El gato se sentó en la alfombra porque estaba cansado.",
        "Hola, ¿cómo estás?",
        "Vivo en México y mi hermana vive en Alemania.",
    ],
)
def test_everyday_sentences_are_whole_words(text: str) -> None:
    encoding = OURS.encode(text)
    assert OURS.unknown not in encoding.ids
    pieces = {i for piece, i in OURS.vocabulary.items() if piece.startswith("##")}
    assert not pieces & set(encoding.ids)


def test_the_file_reads_as_json_and_names_no_machine() -> None:
    record = json.loads((MINI / "tokenizer.json").read_text("utf-8"))
    ids = sorted(record["model"]["vocab"].values())
    assert ids == list(range(len(ids)))
