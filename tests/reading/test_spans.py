"""One position of so many, and what is said where there is none such."""

import pytest

from atento import InputError
from atento.reading.spans import position


@pytest.mark.parametrize(
    ("size", "what", "said"),
    [
        (3, "heads in layer 'a in b'", "there are 3 heads in layer 'a in b', 0 to 2; got head 7."),
        (1, "heads in layer 'a in b'", "there is 1 head in layer 'a in b', number 0; got head 7."),
        (1, "queries", "there is 1 query, number 0; got head 7."),
        (1, "batch items", "there is 1 batch item, number 0; got head 7."),
        (0, "keys", "there are no keys; got head 7."),
    ],
)
def test_how_many_there_are_is_said_in_number(size, what, said):
    with pytest.raises(InputError) as caught:
        position("head", 7, size, what)
    assert str(caught.value) == said


@pytest.mark.parametrize(("index", "expected"), [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_positions_count_from_both_ends(index, expected):
    assert position("head", index, 3, "heads") == expected
