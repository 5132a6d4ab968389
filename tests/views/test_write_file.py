"""Files are written whole or not at all, and an old file survives every failure."""

import errno
import os
from pathlib import Path

import pytest

from atento import InputError
from atento.views.write_file import check_writable, is_our_page, write_file


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_holds_what_was_written(tmp_path):
    path = tmp_path / "a.html"
    write_file(path, "ñandú\r\n東")
    assert path.read_bytes() == "ñandú\r\n東".encode()
    write_file(path, "new")
    assert path.read_text("utf-8") == "new"
    assert listing(tmp_path) == ["a.html"]


def test_permissions_are_the_usual_ones(tmp_path):
    path = tmp_path / "a.html"
    mask = os.umask(0o027)
    try:
        write_file(path, "a")
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        write_file(path, "b")
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(mask)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.html").write_text("old")
    link = tmp_path / "link.html"
    link.symlink_to("real.html")
    write_file(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real.html").read_text() == "new"


@pytest.mark.parametrize("broken", ["fsync", "replace", "interrupt", "encode"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.html"
    path.write_text("old")

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(*_):
        raise KeyboardInterrupt

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    elif broken == "replace":
        monkeypatch.setattr(Path, "replace", no_space)
    elif broken == "interrupt":
        monkeypatch.setattr(os, "fsync", interrupt)
    expected, message = {
        "interrupt": (KeyboardInterrupt, None),
        "encode": (UnicodeEncodeError, "surrogates not allowed"),
    }.get(broken, (InputError, "can't write .*a.html: No space left on device"))
    with pytest.raises(expected, match=message):
        write_file(path, "\ud800" if broken == "encode" else "new")
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["a.html"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "round").symlink_to("round")
    os.mkfifo(tmp_path / "pipe.html")
    for name, why in (
        ("", "it is a folder"),
        ("none/a.html", "the folder .*none does not exist"),
        ("file/a.html", "file is not a folder"),
        ("pipe.html", "it is not a regular file"),
        ("a\0.html", "it can't be a file name"),
        ("n" * 300 + ".html", "File name too long"),
        ("round", "round: "),
    ):
        with pytest.raises(InputError, match=f"can't write .*{why}"):
            check_writable(tmp_path / name)
    assert listing(tmp_path) == ["file", "pipe.html", "round"]


def test_a_check_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a.html")
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        ('<!doctype html><head><meta name="generator" content="atento 0.1.0">', True),
        ('<script id="data">{"x":{"format":"atento.page/1"}}', True),
        ("<!doctype html><title>mine</title>", False),
        ("", False),
    ],
)
def test_our_pages_are_known(tmp_path, content, ours):
    path = tmp_path / "a.html"
    path.write_text(content)
    assert is_our_page(path) is ours
    assert not is_our_page(tmp_path / "none.html")
