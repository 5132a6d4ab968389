"""What a corpus is read from: files by their endings, in order, and what cannot be read."""

import json

import pytest

from atento import InputError
from atento.lm.training.corpus import read_corpus


def test_files_of_a_folder_come_in_order_and_others_are_left(tmp_path):
    (tmp_path / "b.TXT").write_bytes(b"\xef\xbb\xbfsecond\r\n")  # its mark is no text, its ends are
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.JSONL").write_text('{"text": "third"}\n\n{"text": "fourth"}\r\n')
    (tmp_path / "e.bin").write_bytes(b"\xff")
    (tmp_path / "f.txt").symlink_to("f.txt")
    (tmp_path / "c" / "g").symlink_to("..")  # round and round
    assert list(read_corpus(tmp_path)) == ["first", "second\r\n", "third", "fourth"]
    assert list(read_corpus(tmp_path / "c" / "d.JSONL")) == ["third", "fourth"]


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.txt", "ab".encode("utf-16"), "a.txt is not UTF-8: byte 1 does not fit"),
    ("a.txt", b"ab\xff", "byte 3 does not fit"),
    ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', "a.jsonl, line 2: each line"),
    ("a.jsonl", b'{"text": 5}', "line 1"),
    ("a.jsonl", b'["text"]', "line 1"),
    ("a.jsonl", b'\n{"text', "line 2"),
    ("a.jsonl", b"[" * 99_999, "line 1"),
    ("a.csv", b"text", "holds no corpus: files are read that end in .txt, .md, .jsonl, .ndjson"),
])  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        list(read_corpus(tmp_path))


def test_a_link_to_itself_is_no_corpus(tmp_path):
    (tmp_path / "a.txt").symlink_to("a.txt")
    with pytest.raises(InputError, match="there is no corpus at"):
        list(read_corpus(tmp_path / "a.txt"))


def test_characters_that_mean_something_elsewhere_are_text(tmp_path):
    text = "a\0b\x1b[31m\u2028c\x0bd"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (tmp_path / "b.txt").write_text(text)
    assert list(read_corpus(tmp_path)) == [text.replace("\n", ""), text]
