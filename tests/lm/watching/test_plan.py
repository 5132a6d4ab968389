"""What is watched: which prompts are taken, and at which steps."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atento import InputError
from atento.lm import CharTokenizer
from atento.lm.watching.plan import (
    Plan,
    Prompt,
    check_as_planned,
    plan_of,
    read_plan,
    watched_steps,
    write_plan,
)

LETTERS = CharTokenizer("abc ")


def plan(watch, every=None, context=8):
    return plan_of(watch, every, 100, LETTERS, context)


@given(st.integers(1, 200_000), st.none() | st.integers(1, 300_000))
def test_the_first_and_the_last_step_are_looked_at_and_each_once(total, every):
    steps = watched_steps(total, every)
    assert (steps[0], steps[-1]) == (0, total)
    assert list(steps) == sorted(set(steps))
    if every is None:
        assert len(steps) <= 49
    else:
        assert all(b - a == every for a, b in pairwise(steps[:-1]))


@pytest.mark.parametrize("total", [1000, 2000, 10_000, 300_000])
def test_left_to_itself_it_looks_some_45_times_more_often_early(total):
    steps = watched_steps(total)
    assert 40 <= len(steps) <= 49
    assert sum(step <= total / 10 for step in steps) > len(steps) / 4
    assert max(b - a for a, b in pairwise(steps)) <= total / 24 + 1


def test_prompts_are_texts_one_text_or_the_lines_of_a_file(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffab\r\n\r\nabc a\n".encode())
    assert plan(["ab", "abc a"]) == plan(file)
    assert plan("ab").prompts == (Prompt("ab", (0, 1), ("a", "b")),)
    assert plan(file).prompts[1].ids == (0, 1, 2, 3, 0)
    assert plan(None) is None


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ([], "watch: name the prompts to look at, one text or several; got none"),
        ("a", "prompt 1 has 1 token, and a head that looks about needs at least two"),
        ("", "prompt 1 has 0 tokens"),
        (["ab", "abc abc abc"], "prompt 2 has 11 tokens, and the model takes 8: cut it"),
        (["ab", "axe"], "prompt 2: CharTokenizer: the character 'x'"),
        (["ab", 3], "prompts are texts; number 2 is int"),
    ],
)
def test_prompts_that_cannot_be_looked_at(watch, said):
    with pytest.raises(InputError) as caught:
        plan(watch)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds none"),
        (b"\n  \n", "holds none"),
        (b"ab\nc\xff", "is not UTF-8: byte 5 does not fit"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_of_prompts_that_cannot_be_read(tmp_path, content, said):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        plan(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_folder_is_no_file_of_prompts(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        plan(tmp_path)


def test_an_interval_without_prompts(tmp_path):
    with pytest.raises(InputError, match="give watch=, too"):
        plan(None, 5)


WHOLE = Plan((Prompt("ab", (0, 1), ("a", "\ud800")), Prompt("c\x00", (2, 3), ("c", "☃"))), 7, 100)


def test_what_is_written_is_read(tmp_path):
    write_plan(tmp_path, WHOLE)
    assert read_plan(tmp_path) == WHOLE
    write_plan(tmp_path, None)
    assert read_plan(tmp_path) is None
    assert not (tmp_path / "watch").exists()


def test_a_plan_that_was_cut_anywhere_or_changed_is_refused(tmp_path):
    write_plan(tmp_path, WHOLE)
    path = tmp_path / "watch" / "watch.json"
    content = path.read_bytes()
    for length in range(len(content) - 1):  # the last is a brace
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"watch\.json"):
            read_plan(tmp_path)
    for old, new in ((b"100", b"200"), (b'"ab"', b'"ac"'), (b'"every": 7', b'"every": 8')):
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(InputError, match=r"watch\.json is damaged"):
            read_plan(tmp_path)
    path.write_bytes(content.replace(b"watch/1", b"watch/2"))
    with pytest.raises(InputError, match=r"another version than atento\.watch/1"):
        read_plan(tmp_path)
    path.write_text(json.dumps([1]))
    with pytest.raises(InputError, match="no plan of a watch"):
        read_plan(tmp_path)


def test_a_run_that_is_resumed_is_watched_as_it_was(tmp_path):
    with pytest.raises(InputError, match="was started without watch="):
        check_as_planned(tmp_path, "ab", None)
    check_as_planned(tmp_path, None, None)
    write_plan(tmp_path, WHOLE)
    check_as_planned(tmp_path, ["ab", "c\x00"], 7)
    check_as_planned(tmp_path, None, None)
    with pytest.raises(InputError, match=r"started with watch = \['ab', 'c.x00'\], and this asks"):
        check_as_planned(tmp_path, "ab", None)
    with pytest.raises(InputError, match="started with watch_every = 7, and this asks for 8"):
        check_as_planned(tmp_path, None, 8)
