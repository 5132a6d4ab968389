"""`check`: what counts as an answer, as right, as wrong; and that no hint tells the answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atento.lessons import check


@pytest.mark.parametrize("answer", [None, ...])
def test_nothing_is_not_answered_yet(answer):
    verdict = check(answer, 3)
    assert (verdict.state, bool(verdict)) == ("open", False)
    assert "not answered yet" in repr(verdict)
    assert "sin respuesta" in repr(verdict)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (3, 3),
        (3.00002, 3),
        (1_000_010.0, 1_000_000),
        (np.float32(0.1), 0.1),
        ("key", "key"),
        ([1, 2], np.array([1.0, 2.0])),
        ((2, 3, 5), (2, 3, 5)),
        (True, True),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        ([float("nan"), float("inf")], [float("nan"), float("inf")]),
    ],
)
def test_right(answer, expected):
    assert check(answer, expected)


@pytest.mark.parametrize(
    ("answer", "expected", "hint"),
    [
        (3.001, 3, "off by 0.001"),
        ([1, 2], [1, 2, 3], "shape (2,), expected (3,)"),
        ([[1, 2, 3]], [[1], [2], [3]], "shape (1, 3), expected (3, 1)"),
        ("key", "query", ""),
        (False, True, ""),
        ("3", 3, ""),
        (3, "3", ""),
        ([[1], [1, 2]], [1, 2], "rows of unequal length"),
        (float("nan"), 1.0, "off by nan"),
        (1.0, float("nan"), "off by nan"),
        (3.0, float("inf"), "off by inf"),
        ({"a": 1}, 1, ""),
    ],
)
def test_wrong(answer, expected, hint):
    verdict = check(answer, expected)
    assert (verdict.state, verdict.hint) == ("wrong", hint)


def test_a_function_is_tried_with_every_case():
    cases = [(np.array([1.0, 2.0]),), (np.array([3.0, 3.0]),)]
    assert check(lambda x: x * 2, lambda x: x + x, cases=cases)
    verdict = check(lambda x: x * x, lambda x: 2 * x, cases=cases)
    assert (verdict.state, verdict.hint) == ("wrong", "case 1: off by 1")
    assert check(lambda x: None, lambda x: x, cases=cases).state == "open"
    assert check(None, lambda x: x, cases=cases).state == "open"
    assert check(7, lambda x: x, cases=cases).hint == "not a function"


def test_a_function_that_fails_is_wrong_and_says_how():
    verdict = check(lambda x: x / [], lambda x: x, cases=[(1.0,)])
    assert verdict.state == "wrong"
    assert verdict.hint.startswith("case 1: TypeError: unsupported operand")


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e-2))
def test_the_tolerance_is_where_right_ends(expected, tolerance):
    room = tolerance * max(1.0, abs(expected))
    assert check(expected + 0.9 * room, expected, tolerance=tolerance)
    if room > 1e-12 * max(1.0, abs(expected)):
        assert not check(expected + 1.1 * room, expected, tolerance=tolerance)
