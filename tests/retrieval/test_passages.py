"""Passages of text files: nothing lost, nothing long, the right line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento.retrieval.passages import LONGEST, Passage, passages_of, read_passages


def words(text):
    return text.split()


def test_paragraphs_headings_and_lines():
    text = "# Perros\r\n\r\nEl perro\r\n  ladra.\n\n\n\nEl gato no.\n\nFin"
    assert passages_of(text, "a.md") == [
        Passage("# Perros El perro ladra.", "a.md", 1),
        Passage("El gato no.", "a.md", 8),
        Passage("Fin", "a.md", 10),
    ]


def test_a_long_paragraph_is_cut_between_sentences_and_knows_its_lines():
    sentences = [f"Sentence number {at} says 'something about dogs'." for at in range(40)]
    text = "\n" + "\n".join(sentences)
    found = passages_of(text)
    assert len(found) == 4
    for passage in found:
        assert 400 < len(passage.text) <= LONGEST
        assert passage.text.endswith("'.")
        assert passage.text.startswith(sentences[passage.line - 2])
    assert " ".join(passage.text for passage in found) == " ".join(sentences)


def test_words_and_a_word_without_end():
    found = passages_of("word " * 300 + "x" * 1200)
    assert [len(passage.text) for passage in found] == [499, 499, 499, 500, 500, 200]
    accents = passages_of("n\u0303" * 600)
    assert [passage.text[-1] for passage in accents] == ["\u0303"] * len(accents)


def test_a_heading_before_a_long_paragraph_stands_with_it_where_it_fits():
    assert [p.line for p in passages_of("Title\n\n" + "word " * 100)] == [1, 3]  # the rest
    assert [p.line for p in passages_of("Title\n\n" + "word " * 80)] == [1]
    assert passages_of("One\n\nTwo\n\nThree ends.") == [Passage("One Two Three ends.", "", 1)]


TEXT = st.text(st.sampled_from("ab .!?\n\r\t\u00a0\u2028«»é\u0301שא#"), max_size=1500)


@given(TEXT)
def test_no_word_is_lost_and_lines_are_right(text):
    found = passages_of(text)
    lines = text.split("\n")
    assert "".join("".join(words(p.text)) for p in found) == "".join(words(text))
    for passage in found:
        assert 0 < len(passage.text) <= LONGEST
        assert words(passage.text)[0][:3] in "".join(words(lines[passage.line - 1]))
    assert [p.line for p in found] == sorted(p.line for p in found)


def test_a_folder(tmp_path):
    (tmp_path / "b.md").write_text("Second.", "utf-8")
    (tmp_path / "a.txt").write_text("\ufeffFirst ñ.", "utf-8")
    (tmp_path / "c.pdf").write_bytes(b"\xff")
    (tmp_path / ".hidden.md").write_text("No.")
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.TXT").write_text("\n\nThird.")
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "e.md").write_text("No.")
    assert read_passages(tmp_path) == [
        Passage("First ñ.", "a.txt", 1),
        Passage("Second.", "b.md", 1),
        Passage("Third.", "sub/d.TXT", 3),
    ]
    assert read_passages(tmp_path / "b.md") == [Passage("Second.", "b.md", 1)]


def test_a_folder_without_text(tmp_path):
    (tmp_path / "a.md").write_text(" \n\n")
    with pytest.raises(atento.InputError, match=r"holds no text: expected files that end in \.txt"):
        read_passages(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.md", b"ok \xff", "a.md is not UTF-8 text (byte 4). Save it as UTF-8."),
        ("a.pdf", b"%PDF", "a.pdf: texts are read from .txt, .md, .markdown, .rst, .org."),
        ("none.md", None, "none.md does not exist. Check the name and the folder."),
        ("a\0b.md", None, "can't be a file name"),
        ("x" * 300, None, "can't be a file name"),
    ],
)
def test_files_that_are_no_text(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(atento.InputError) as caught:
        read_passages(tmp_path / name)
    assert message in str(caught.value)
    assert caught.value.name
