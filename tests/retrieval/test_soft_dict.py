"""SoftDict: exact as a dict, and attention over all keys."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atento
from atento import SoftDict
from retrieval.soft_dict_oracle import oracle

STORY = {"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5}
FINITE = st.integers(-(10**8), 10**8).map(lambda n: n / 10**6)  # their squares do not vanish


@pytest.fixture(scope="module")
def lookup():
    return SoftDict(STORY)


# --- the story, FACTS 1 B


def test_an_exact_key_gives_its_value(lookup):
    assert lookup["méxico"] == 7


def test_a_sum_with_weights_chosen_by_hand():
    shares = np.array([0.3, 0.3, 0.3, 0.1])
    by_hand = SoftDict(zip(map(tuple, np.eye(4)), STORY.values(), strict=True), dtype="float64")
    match = by_hand.attend(2 * np.log(shares))  # q · k / √4
    np.testing.assert_allclose(list(match.weights.values()), shares, rtol=1e-12)
    assert match.value == pytest.approx(8.0, rel=1e-12)


def test_a_country_is_near_to_countries_and_not_to_a_dog(lookup):
    weights = lookup.attend("país").weights
    countries = [weights[key] for key in ("méxico", "alemania", "inglaterra")]
    assert min(countries) > 0.2 > 1e-3 > weights["perro"]
    assert lookup.attend("país").value == pytest.approx(8.286, abs=1e-3)
    mean = sum(weights[key] * value for key, value in STORY.items())
    assert lookup.attend("país").value == pytest.approx(mean, rel=1e-14)
    animal = lookup.attend("animal").weights
    assert animal["perro"] > 0.9


def test_at_temperature_1_the_weights_are_nearly_those_chosen_by_hand(lookup):
    match = lookup.attend("país", temperature=1)
    np.testing.assert_allclose(
        [match.weights[key] for key in STORY], [0.3, 0.3, 0.3, 0.1], atol=0.02
    )
    assert match.value == pytest.approx(8.0, abs=0.06)


def test_the_usual_temperature_is_the_one_that_mini_was_trained_at(lookup):
    from atento.embedded import load_mini

    mini = load_mini()
    scores = (mini.vectors(["país"]) @ mini.vectors(list(STORY)).T)[0].astype(np.float64)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    found = lookup.attend("país").weights
    np.testing.assert_allclose([found[key] for key in STORY], weights, rtol=1e-5)
    assert (lookup.similarity, lookup.temperature) == ("cosine", 0.1)


def test_an_exact_key_has_nearly_all_weight_and_at_temperature_0_all(lookup):
    for key, value in STORY.items():
        assert lookup.attend(key).items[0].key == key
        assert lookup.attend(key, temperature=0).value == value
        assert lookup.attend(key, temperature=0).weights[key] == 1.0


# --- the formula

numbers = st.lists(
    st.tuples(FINITE, FINITE), min_size=1, max_size=12, unique_by=lambda pair: pair[0]
)


@given(
    numbers, FINITE, st.sampled_from([0, 1e-9, 0.5, 1, 30]), st.sampled_from(["dot", "distance"])
)
def test_numbers_agree_with_the_formula(pairs, query, temperature, similarity):
    lookup = SoftDict(pairs, similarity=similarity, dtype="float64")
    match = lookup.attend(query, temperature=temperature)
    weights, value, lse = oracle(query, dict(pairs), similarity, temperature)
    # a score is a product rounded once; the temperature divides its error too
    slack = 1e-11 + 1e-15 * 2e4 / (temperature or 1)
    assert match.weights.keys() == weights.keys()
    if slack > 1e-3:
        return
    for key, weight in weights.items():
        assert match.weights[key] == pytest.approx(weight, rel=slack, abs=1e-290)
    assert match.value == pytest.approx(value, rel=slack, abs=1e-9)
    assert match.lse == pytest.approx(lse, rel=slack, abs=1e-9)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "distance"])
@pytest.mark.parametrize("temperature", [0.1, 1, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_agree_with_the_formula(similarity, temperature, dtype):
    rng = np.random.default_rng(5)
    keys, queries = rng.standard_normal((23, 7)), rng.standard_normal((3, 7))
    values = rng.standard_normal((23, 2, 5))
    pairs = dict(zip(map(tuple, keys), values, strict=True))
    lookup = SoftDict(pairs, similarity=similarity, temperature=temperature, dtype=dtype)
    exact = dtype == "float64" or similarity == "distance"
    rel = 1e-10 if exact else 1e-5
    for query, match in zip(queries, lookup.attend(queries), strict=True):
        weights, value, lse = oracle(query, pairs, similarity, temperature)
        for key, weight in weights.items():
            assert match.weights[key] == pytest.approx(weight, rel=rel)
        assert match.value.shape == (2, 5)
        np.testing.assert_allclose(match.value, value, rtol=rel, atol=rel)
        assert match.lse == pytest.approx(lse, rel=rel, abs=rel)


@given(numbers)
def test_towards_temperature_0_an_exact_key_gives_its_value(pairs):
    lookup = SoftDict(pairs)
    for key, value in pairs:
        assert lookup.attend(key, temperature=0).value == value
        gap = min((abs(key - other) for other, _ in pairs if other != key), default=1)
        assert lookup.attend(key, temperature=gap * gap / 2000).value == value


def test_keys_that_are_equally_near_share_the_weight_at_temperature_0():
    match = SoftDict({1.0: 10, 3.0: 30, 9.0: 90}).attend(2.0, temperature=0)
    assert match.weights == {1.0: 0.5, 3.0: 0.5, 9.0: 0.0}
    assert match.value == 20
    assert match.lse == pytest.approx(-0.5 + math.log(2))


def test_temperatures_too_small_for_a_quotient_are_the_limit():
    for pairs in (STORY, {(1.0, 2.0): 1, (2.0, 1.0): 2}, {1: 1, 2: 2}):
        lookup = SoftDict(pairs)
        key = next(iter(lookup))
        for temperature in (1e-300, 5e-324):
            match = lookup.attend(key, temperature=temperature)
            assert all(math.isfinite(weight) for weight in match.weights.values())
            assert math.isfinite(match.value)


def test_close_keys_are_told_apart_far_from_zero():
    start = 1.7e9  # seconds since 1970, say
    match = SoftDict({start: 1, start + 1: 2, start + 1e6: 3}).attend(start + 0.25)
    weights, value, _ = oracle(0.25, {0.0: 1, 1.0: 2, 1e6: 3}, "distance", 1)
    np.testing.assert_allclose(list(match.weights.values()), list(weights.values()), rtol=1e-6)
    assert match.value == pytest.approx(value, rel=1e-6)


def test_values_far_from_zero_keep_their_digits():
    rng = np.random.default_rng(3)
    keys = rng.standard_normal((2000, 8))
    times = 1.7e9 + rng.random(2000)
    match = SoftDict(zip(map(tuple, keys), times, strict=True)).attend(keys[0])
    _, value, _ = oracle(keys[0], dict(zip(map(tuple, keys), times, strict=True)), "dot", 1)
    assert match.value == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("size", [7, 1300])
def test_at_temperature_0_values_keep_every_digit(size):
    rng = np.random.default_rng(size)
    keys = rng.standard_normal((size, 5))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    values = rng.integers(2**53, size=size).tolist()
    pairs = dict(zip(map(tuple, keys.tolist()), values, strict=True))
    lookup = SoftDict(pairs, similarity="cosine")
    for key in list(pairs)[:: size // 7]:
        assert lookup.attend(key, temperature=0).value == lookup[key]


@pytest.mark.parametrize("size", [3, 700])
def test_weights_of_all_keys_add_up_to_1(size):
    keys = np.random.default_rng(size).standard_normal((size, 5)).tolist()
    match = SoftDict((tuple(key), "object") for key in keys).attend(keys[0])
    assert sum(match.weights.values()) == pytest.approx(1, rel=1e-14)


@given(numbers, st.randoms(use_true_random=False), st.lists(FINITE, max_size=5))
def test_neither_order_nor_company_changes_what_a_query_finds(pairs, random, queries):
    lookup = SoftDict(pairs)
    shuffled = random.sample(pairs, len(pairs))
    other = SoftDict(shuffled)
    together = lookup.attend(queries)
    assert len(together) == len(queries)
    for query, match in zip(queries, together, strict=True):
        alone, elsewhere = lookup.attend(query), other.attend(query)
        for other_match in (alone, elsewhere):
            assert other_match.weights == pytest.approx(match.weights, rel=1e-12)
            assert other_match.value == pytest.approx(match.value, rel=1e-12, abs=1e-12)


def test_neither_order_nor_company_changes_what_vectors_find():
    rng = np.random.default_rng(17)
    keys, queries = rng.standard_normal((1201, 7)), rng.standard_normal((301, 7))
    pairs = [(tuple(key), n) for n, key in enumerate(keys.tolist())]
    lookup, other = SoftDict(pairs), SoftDict(reversed(pairs))
    together, elsewhere = lookup.attend(queries, top_k=3), other.attend(queries, top_k=3)
    for at in (0, 255, 256, 300):
        for match in (lookup.attend(queries[at], top_k=3), elsewhere[at]):
            assert [item.key for item in match.items] == [item.key for item in together[at].items]
            assert match.weights == pytest.approx(together[at].weights, rel=1e-5)
            assert match.value == pytest.approx(together[at].value, rel=1e-5)


# --- a mapping

KEYS = st.integers(0, 9)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, FINITE),
        st.tuples(st.just("delete"), KEYS, FINITE),
        st.tuples(st.just("attend"), KEYS, FINITE),
        st.tuples(st.just("copy"), KEYS, FINITE),
    ),
    max_size=30,
)


@settings(max_examples=200)
@given(CHANGES)
def test_changes_agree_with_a_dict(changes):
    lookup, plain = SoftDict(), {}
    for what, key, value in changes:
        if what == "set":
            lookup[key] = plain[key] = value
        elif what == "delete" and key in plain:
            del lookup[key], plain[key]
        elif what == "copy":
            lookup = lookup.copy()
        elif what == "attend" and plain:
            weights, mean, _ = oracle(key, plain, "distance", 1)
            match = lookup.attend(key)
            assert match.weights == pytest.approx(weights)
            assert match.value == pytest.approx(mean, abs=1e-9)
        assert lookup == plain
        assert list(lookup.items()) == list(plain.items())
        assert len(lookup) == len(plain)
        assert (key in lookup) == (key in plain)


def test_it_is_a_mapping_in_all_that_mappings_do(lookup):
    assert isinstance(lookup, dict) is False
    assert dict(lookup) == STORY
    assert lookup == STORY
    assert lookup != {**STORY, "perro": 6}
    assert lookup != {"méxico": 7}
    assert (lookup == 3) is False
    assert lookup.get("gato") is None
    assert lookup.get("perro", 1) == 5
    assert (lookup | {"gato": 4})["gato"] == 4
    assert "gato" not in lookup
    mine = lookup.copy()
    mine |= {"gato": 4}
    assert mine.pop("gato") == 4
    assert mine.setdefault("perro", 9) == 5
    assert mine.popitem() in STORY.items()
    mine.clear()
    assert not mine
    assert list(mine) == []
    with pytest.raises(TypeError, match="unhashable"):
        hash(lookup)


def test_a_copy_has_memory_of_its_own():
    lookup = SoftDict({n: float(n) for n in range(5)})
    before = lookup.attend(2.2)
    other = lookup.copy()
    del other[0]
    other[2] = 100
    other[9] = 9
    assert other.attend(2, temperature=0).value == 100
    after = lookup.attend(2.2)
    assert after.weights == before.weights
    assert after.value == before.value


def test_arrays_are_keys_and_values_and_compare():
    lookup = SoftDict({(1, 2): np.array([1.0, 2.0])})
    lookup[np.array([3.0, 4.0])] = np.array([5.0, 6.0])
    assert list(lookup) == [(1, 2), (3.0, 4.0)]
    assert np.array([1, 2]) in lookup
    np.testing.assert_array_equal(lookup[np.array([3.0, 4.0])], [5.0, 6.0])
    assert lookup == lookup.copy()
    assert lookup == {(1, 2): np.array([1.0, 2.0]), (3.0, 4.0): np.array([5.0, 6.0])}
    assert lookup != SoftDict({(1, 2): np.array([1.0, 2.0]), (3, 4): np.array([5.0, 7.0])})


def test_a_dictionary_that_was_emptied_takes_another_kind():
    lookup = SoftDict({1: 2})
    lookup.attend(1)
    del lookup[1]
    lookup["uno"] = np.zeros(3)
    assert lookup.attend("uno").value.shape == (3,)
    lookup["uno"] = 4  # the only key may change its kind of value
    assert lookup.attend("uno").value == 4.0


# --- embedding


class Counting:
    """An embedder that counts how often, and with how many texts, it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(len(texts))
        return np.array([[len(text), 1.0, text.count("a")] for text in texts])


def test_new_keys_are_embedded_when_somebody_attends_and_once():
    embed = Counting()
    lookup = SoftDict(((f"word {n}", n) for n in range(10_000)), embed=embed)
    assert embed.asked == []
    lookup.attend("word")
    assert sum(embed.asked) == 10_000 + 1
    assert len(embed.asked) < 200
    done = sum(embed.asked)
    lookup["another"] = 1
    lookup["word 7"] = -1
    del lookup["word 8"]
    lookup.attend(["one", "two"])
    assert sum(embed.asked) == done + 3
    lookup.copy().attend("one")
    assert sum(embed.asked) == done + 4


def test_an_embedder_that_fails_leaves_the_dictionary_as_it_was():
    class Failing(Counting):
        broken = True

        def __call__(self, texts):
            if self.broken:
                raise RuntimeError("no network")
            return super().__call__(texts)

    embed = Failing()
    lookup = SoftDict({"a": 1, "bb": 2}, embed=embed)
    with pytest.raises(RuntimeError, match="no network"):
        lookup.attend("a")
    embed.broken = False
    assert lookup.attend("a", temperature=0).value == 1


def test_adding_and_deleting_do_not_grow_with_the_dictionary():
    """No copy of everything: the memory of the keys is taken a few times, not once per key."""
    lookup = SoftDict({n: n for n in range(1000)})
    lookup.attend(1)
    held = lookup._held
    places = set()
    for n in range(1000, 3000):
        lookup[n] = n
        lookup.attend([])  # embeds the new one
        places.add(held.keys.block(0, 1).__array_interface__["data"][0])
    assert len(places) <= 4
    assert lookup._held is held
    for n in range(0, 3000, 2):
        del lookup[n]
    assert lookup.attend(7, temperature=0).value == 7
    assert held.keys.size == 1500


def test_products_too_large_for_a_float_are_refused():
    lookup = SoftDict({(1e30, 1.0): 1, (2e30, 1.0): 2})
    with pytest.raises(atento.InputError, match=r'too large for float32: .* dtype="float64"'):
        lookup.attend((1e30, 1.0))
    held_wider = SoftDict(lookup, dtype="float64")
    assert held_wider.attend((1e30, 1.0)).weights == {(2e30, 1.0): 1.0, (1e30, 1.0): 0.0}
    with pytest.raises(atento.InputError, match=r"1e\+200 .* too far apart to be squared"):
        SoftDict({1e200: 1}).attend(0)
