"""SoftDict on bad and hostile input: one line that says what was expected and what came."""

import math
from datetime import date
from fractions import Fraction

import numpy as np
import pytest

import atento
from atento import InputError, SoftDict
from retrieval.soft_dict_oracle import oracle

NAN, INF = float("nan"), float("inf")


def refused(match):
    return pytest.raises(InputError, match=match)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "a key must have a visible character, .* got ''"),
        (" \n\u2003", "a key must have a visible character"),
        (None, "a key must be text, a number, or a vector .* got NoneType"),
        (b"bytes", "got bytes"),
        (("a", 1), r"got tuple \('a', 1\)"),
        ((), r"got tuple \(\)"),
        (np.ones((2, 2)), r"got an array of shape \(2, 2\) and float64"),
        (1 + 2j, "got complex"),
        (NAN, "the numbers of a key must be finite; got nan"),
        ((1.0, INF), "the numbers of a key must be finite; got inf"),
        (np.array([1.0, NAN], np.float32), "the numbers of a key must be finite; got nan"),
        (10**400, "the numbers of a key must be finite; got 1000000"),
    ],
)
def test_what_is_no_key(key, message):
    lookup = SoftDict()
    with refused(message) as caught:
        lookup[key] = 1
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not lookup
    if not isinstance(key, np.ndarray):
        assert key not in SoftDict({"a": 1})
        assert SoftDict({"a": 1}).get(key) is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a", 1, "keys of one kind, and this one's are texts; got 1, which is a number"),
        (1, "a", "this one's are numbers; got 'a', which is text"),
        (
            (1, 2),
            (1, 2, 3),
            r"this one's are vectors of 2; got \(1, 2, 3\), which is a vector of 3",
        ),
        ((1,), 1, "this one's are vectors of 1; got 1, which is a number"),
    ],
)
def test_keys_of_mixed_kinds(first, second, message):
    lookup = SoftDict({first: 1})
    with refused(message):
        lookup[second] = 2
    assert dict(lookup) == {first: 1}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (1, "one", "values of one kind, and this one's are numbers; got objects for the key 2"),
        ("one", 1, "this one's are objects; got numbers"),
        ([1, 2], [1, 2, 3], r"arrays of shape \(2,\); got arrays of shape \(3,\)"),
        (np.zeros(3), 1, r"arrays of shape \(3,\); got numbers"),
        (None, 0.5, "this one's are objects; got numbers"),
    ],
)
def test_values_of_mixed_kinds(first, second, message):
    lookup = SoftDict({1: first})
    with refused(message):
        lookup[2] = second
    assert len(lookup) == 1
    assert lookup.attend(1).size == 1


@pytest.mark.parametrize("value", [NAN, INF, [1.0, NAN], np.array([-INF]), 10**400])
def test_values_that_would_be_in_every_mean(value):
    with refused("a value must be finite.* Leave the key out"):
        SoftDict({1: value})


def test_values_of_many_kinds_of_number():
    for value in (3, 3.0, np.float32(3), np.int8(3), Fraction(3), np.array(3), True + 2):
        assert SoftDict({1: value}).attend(1).value == 3.0
    assert SoftDict({1: True, 2: False}).attend(1.5).value == 0.5
    assert SoftDict({1: [[1, 2], [3, 4]]}).attend(1).value.tolist() == [[1, 2], [3, 4]]


def test_objects_are_ranked():
    day, ragged = date(2026, 1, 2), [[1], [2, 3]]
    lookup = SoftDict({1: day, 2: "text", 3: None, 4: ragged, 5: [], 6: {"a": 1}, 7: 1 + 2j})
    match = lookup.attend(1.1, top_k=3)
    assert match.mean is None
    assert match.value == match.items
    assert [(item.key, item.value) for item in match.items] == [(1, day), (2, "text"), (3, None)]
    assert match.mass == pytest.approx(sum(list(match.weights.values())[:3]))
    assert match.trace().output.shape == (1, 7)
    np.testing.assert_allclose(match.trace().output[0], [match.weights[key] for key in lookup])
    assert lookup.attend([1, 2]).value == [lookup.attend(1).items, lookup.attend(2).items]


def test_a_key_that_comes_twice():
    with refused("the key 'a' comes twice, with other values: 1 and, in pair 3, 2. .* dict"):
        SoftDict([("a", 1), ("b", 5), ("a", 2)])
    assert dict(SoftDict([("a", 1), ("b", 5), ("a", 1)])) == {"a": 1, "b": 5}
    with refused("the key 2.0 comes twice"):
        SoftDict([(2, 1), (2.0, 3)])
    lookup = SoftDict({"a": 1})
    lookup.update([("a", 2), ("a", 3)])  # as in a dict
    assert lookup["a"] == 3
    for pairs in (["ab", "cd"], [1, 2], [("a", 1, 2)]):
        with refused(r"made of \(key, value\) pairs; got .* For keys without values"):
            SoftDict(pairs)


def test_nothing_to_attend_to():
    with refused("the dictionary is empty: put a key in first"):
        SoftDict().attend("a")
    lookup = SoftDict({"a": 1})
    del lookup["a"]
    with refused("the dictionary is empty"):
        lookup.attend("a")
    with pytest.raises(KeyError):
        del lookup["a"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "a query must have a visible character"),
        (["país", " "], "a query must have a visible character"),
        (3, "the keys are texts, so a query must be text; got a number"),
        ((1.0, 2.0), "a query must be text; got a number"),
        (None, "a query must be text, a number"),
        ({"a"}, "a query must be text, a number"),
    ],
)
def test_what_is_no_query_for_texts(query, message):
    with refused(message):
        SoftDict({"a": 1}).attend(query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("a", "the keys are vectors of 2, so a query must be a vector of 2; got text"),
        ((1.0, 2.0, 3.0), "a query must be a vector of 2; got a vector of 3"),
        (np.ones((3, 1)), "a query must be a vector of 2; got a vector of 1"),
        ((1.0, NAN), "the numbers of a query must be finite; got nan"),
        ([(1.0, 2.0), (1.0, INF)], "the numbers of a query must be finite; got inf"),
    ],
)
def test_what_is_no_query_for_vectors(query, message):
    with refused(message):
        SoftDict({(1.0, 2.0): 1}).attend(query)


def test_a_list_of_queries_or_one():
    vectors = SoftDict({(1.0, 2.0): 1})
    assert isinstance(vectors.attend([1.0, 2.0]), atento.Match)
    for several in ([(1.0, 2.0)], [[1, 2]], np.ones((1, 2)), np.ones((1, 2)).tolist()):
        assert len(vectors.attend(several)) == 1
    numbers = SoftDict({1: 2})
    assert isinstance(numbers.attend(np.array(1.0)), atento.Match)
    assert len(numbers.attend(np.arange(3))) == 3
    assert len(numbers.attend([])) == len(vectors.attend([])) == 0


@pytest.mark.parametrize("temperature", [-1, -1e-300, NAN, INF, "1", None, True, [1], 10**400])
def test_temperatures_that_there_are_not(temperature):
    message = "temperature must be a finite number from 0 on"
    if temperature is not None:
        with refused(message):
            SoftDict({1: 2}, temperature=temperature)
        with refused(message):
            SoftDict({1: 2}).attend(1, temperature=temperature)
    assert SoftDict({1: 2}).attend(1, temperature=None).temperature == 1


def test_options_that_there_are_not():
    lookup = SoftDict({1: 2})
    for top_k in (0, -1, 1.5, "3", None, True):
        with refused("top_k must be a whole number of keys from 1 on"):
            lookup.attend(1, top_k=top_k)
    for share in (-0.1, 1.1, NAN, "0", None):
        with refused("min_weight must be a share"):
            lookup.attend(1, min_weight=share)
    for similarity in ("euclid", "", 3):
        with refused("similarity must be one of dot, cosine, distance; got"):
            SoftDict(similarity=similarity)
    with refused("dtype must be one of"):
        SoftDict(dtype="int8")
    with refused("embed must be None"):
        SoftDict({"a": 1}, embed=3).attend("a")
    with refused("the cosine of a key that is all zeros is not defined"):
        SoftDict({(0.0, 0.0): 1}, similarity="cosine").attend((1.0, 0.0))
    with refused("the cosine of the query that is all zeros is not defined"):
        SoftDict({(0.0, 1.0): 1}, similarity="cosine").attend((0.0, 0.0))


def test_a_key_that_is_not_there():
    lookup = SoftDict({"méxico": 7, "alemania": 10})
    with pytest.raises(KeyError, match=r"^there is no key 'mexico'.*Is 'méxico' meant\?$"):
        lookup["mexico"]
    with pytest.raises(
        InputError, match=r"no key 'gato': d\[key\] is exact; d.attend\(key\) finds"
    ):
        lookup["gato"]
    with pytest.raises(KeyError, match="no key 3"):
        lookup.pop(3)
    with pytest.raises(KeyError, match="no key None"):
        lookup[None]


def test_unicode_forms_are_different_keys_as_in_a_dict():
    composed, decomposed = "café", "cafe\u0301"
    lookup = SoftDict({composed: 1})
    assert decomposed not in lookup
    with pytest.raises(KeyError, match=r"look the same.*'cafe\\u0301' was asked for.*NFC"):
        lookup[decomposed]
    lookup[decomposed] = 2
    assert dict(lookup) == {composed: 1, decomposed: 2}
    assert lookup.attend(composed).size == 2


@pytest.mark.parametrize(
    "text",
    [
        "שלום עולם",
        "مرحبا",
        "\u202eabc",
        "👩\u200d👩\u200d👧",
        "\ud800",
        "a\x00b",
        "\x1b[31mred",
        "z" + "\u0301" * 50,
    ],
)
def test_text_of_any_script_is_a_key(text):
    lookup = SoftDict({text: 1, "plain": 2})
    assert lookup[text] == 1
    match = lookup.attend(text)
    assert set(match.weights) == {text, "plain"}
    assert sum(match.weights.values()) == pytest.approx(1)
    assert match.trace()["weights"].value.shape == (1, 2)


def test_a_key_of_10_megabytes():
    huge = "palabra " * (10 * 2**20 // 8)
    lookup = SoftDict({huge: 1, "perro": 2})
    assert lookup[huge] == 1
    match = lookup.attend("palabra")
    assert set(match.weights) == {huge, "perro"}
    assert len(repr(match)) < 400
    assert len(repr(lookup)) < 400
    with pytest.raises(KeyError) as caught:
        lookup[huge + "x"]
    assert len(str(caught.value)) < 300


def test_what_changes_after_it_was_put_in():
    """The mean is of what a value was when it was put in; d[key] is the object itself."""
    value = np.array([1.0, 2.0])
    lookup = SoftDict({"a": value})
    value[:] = NAN
    assert lookup["a"] is value
    np.testing.assert_array_equal(lookup.attend("a").value, [1.0, 2.0])


def test_a_match_stays_when_the_dictionary_changes():
    lookup = SoftDict({n: float(n) for n in range(5)})
    match = lookup.attend(2)
    weights, value, _ = oracle(2, {n: n for n in range(5)}, "distance", 1)
    del lookup[0]
    lookup[2] = 100.0
    lookup.clear()
    assert match.items[0] == (2, 2.0, pytest.approx(weights[2]))
    assert match.value == pytest.approx(value)
    assert match.trace().output.item() == pytest.approx(value)
    assert math.isclose(sum(match.weights.values()), 1)
