"""Statistics: each against its definition, over any cut into blocks and parts, in any order."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atento import DTypeError, InputError, ShapeError
from atento._arrays import to_numpy, torch_namespace
from atento.statistics import (
    Block,
    Distance,
    Duplicate,
    Entropy,
    Extent,
    First,
    Induction,
    Maximum,
    Overview,
    Own,
    Previous,
    QuerySum,
    Received,
    Statistic,
    TopK,
    WeightOn,
    as_statistics,
    default_statistics,
    register,
    registered,
)
from statistics_oracle import assert_equal, moments, statistics_oracle

KEYS, K, SIZE = (1, 2, 3, 7, 11), 3, 5
WISHES = {
    "entropy": Entropy(),
    "maximum": Maximum(),
    "top_k": TopK(K),
    "distance": Distance(),
    "keys": WeightOn(KEYS),
    "first": First(),
    "previous": Previous(),
    "own": Own(),
    "received": Received(),
    "duplicate": Duplicate(),
    "induction": Induction(),
    "overview": Overview(SIZE),
}
LIBRARIES = [
    pytest.param((library, dtype), id=f"{library}-{dtype}")
    for library in ("numpy", "torch")
    for dtype in ("float64", "float32")
]
LEAST = {"float64": -708.0, "float32": -87.0}


def make_extent(
    shape, library=("numpy", "float64"), first_query=0, query_tokens=None, key_tokens=None
):
    name, dtype = library
    xp = np if name == "numpy" else torch_namespace()
    tokens = (
        None if ids is None else xp.asarray(np.asarray(ids, np.int64))
        for ids in (query_tokens, key_tokens)
    )
    return Extent(*shape, first_query, xp, getattr(xp, dtype), "cpu", *tokens)


def cut(length, places):
    """The ranges that these places cut a length into."""
    edges = [0, *sorted({place % length for place in places} - {0}), length]
    return [range(a, b) for a, b in pairwise(edges)]


def logarithms(weights, dtype):
    """What an engine gives: the logarithm where it is not tiny, else some finite number."""
    weights = np.asarray(weights, np.float64)
    logs = np.full(weights.shape, LEAST[dtype])
    np.log(weights, out=logs, where=weights > 0)
    hidden = np.where(np.arange(weights.shape[-1]) % 2, 1.0, LEAST[dtype])
    return np.where(weights > 0, np.maximum(logs, LEAST[dtype]), hidden)


def blocks_of(extent, weights, heads, rows, cols):
    """Blocks that hold memory of their own, as an engine's buffers do."""
    dtype = str(weights.dtype)
    logs = logarithms(weights, dtype).astype(dtype)
    for own in heads:
        for block_rows in rows:
            for block_cols in cols:
                where = tuple(slice(s.start, s.stop) for s in (own, block_rows, block_cols))
                arrays = (np.ascontiguousarray(array[where]) for array in (weights, logs))
                arrays = (extent.xp.asarray(array) for array in arrays)
                yield Block(extent, own, block_rows, block_cols, *arrays)


def fold(statistic, extent, blocks, parts=1, order=lambda items: items):
    """Fold blocks into parts in turn, merge these in the order given, and read NumPy arrays."""
    made = [statistic.start(extent) for _ in range(parts)]
    for number, block in enumerate(blocks):
        made[number % parts].update(block)
    whole, *others = order(made)
    for other in others:
        whole.merge(other)
    return {name: to_numpy(array) for name, array in whole.result().items()}


def fold_whole(statistic, weights, library=("numpy", "float64"), block=8, **facts):
    """Fold dense weights in blocks of one size."""
    weights = np.asarray(weights, library[1])
    extent = make_extent(weights.shape, library, **facts)
    H, Q, n = weights.shape
    cuts = ([range(h, h + 1) for h in range(H)], cut(Q, range(0, Q, block)))
    return fold(statistic, extent, blocks_of(extent, weights, *cuts, cut(n, range(0, n, block))))


def random_weights(rng, shape, dtype, ties, sinks):
    """Weights of rows that see some keys, few of them or none; ties where scores are whole."""
    scores = rng.integers(0, 3, shape) if ties else rng.standard_normal(shape) * rng.choice([1, 9])
    visible = rng.random(shape) < 0.8
    visible &= rng.random(shape[:2])[..., None] < 0.85
    terms = np.exp(scores - scores.max()) * visible
    total = terms.sum(-1, keepdims=True) + (rng.random(shape[:2])[..., None] if sinks else 0)
    weights = np.divide(terms, total, out=np.zeros(shape), where=visible.any(-1, keepdims=True))
    return weights.astype(dtype)


@st.composite
def cases(draw):
    """Sizes, weights' kinds, tokens, and how it all is cut."""
    places = st.lists(st.integers(0, 96), max_size=4)
    return {
        "shape": (draw(st.integers(1, 3)), draw(st.integers(1, 23)), draw(st.integers(12, 53))),
        "first_query": draw(st.integers(-7, 60)),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "ties": draw(st.booleans()),
        "sinks": draw(st.booleans()),
        "vocabulary": draw(st.sampled_from([1, 3, 29, 10**9])),
        "heads": draw(places),
        "rows": draw(places),
        "cols": draw(places),
        "parts": draw(st.integers(1, 4)),
    }


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("wish", WISHES)
@settings(max_examples=25)
@given(case=cases(), data=st.data())
def test_equals_its_definition_for_any_cut_and_order(wish, library, case, data):
    rng = np.random.default_rng(case["seed"])
    (H, Q, n), first_query = case["shape"], case["first_query"]
    weights = random_weights(rng, (H, Q, n), library[1], case["ties"], case["sinks"])
    tokens = {
        "query_tokens": rng.integers(0, case["vocabulary"], Q),
        "key_tokens": rng.integers(0, case["vocabulary"], n),
    }
    extent = make_extent((H, Q, n), library, first_query, **tokens)
    cuts = [cut(length, case[name]) for name, length in zip(AXES, (H, Q, n), strict=True)]
    blocks = list(blocks_of(extent, weights, *cuts))
    blocks = [blocks[i] for i in data.draw(st.permutations(range(len(blocks))))]
    order = data.draw(st.permutations(range(case["parts"])))
    found = fold(
        WISHES[wish], extent, blocks, case["parts"], lambda parts: [parts[i] for i in order]
    )
    wanted = statistics_oracle(weights, first_query, **tokens, keys=KEYS, k=K, size=SIZE)
    assert set(found) == set(WISHES[wish].results)
    assert_equal(found, wanted, library[1])


AXES = ("heads", "rows", "cols")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", [(2, 150, 389), (3, 1100, 67)])
def test_all_together_equal_their_definitions_over_large_blocks(library, shape):
    # More queries than a band holds, and blocks that share what they reduced.
    rng = np.random.default_rng(7)
    weights = random_weights(rng, shape, library[1], ties=True, sinks=True)
    H, Q, n = shape
    first_query = max(n - Q, 0)
    tokens = rng.integers(0, 11, max(Q, n))
    facts = {"query_tokens": tokens[first_query:][:Q], "key_tokens": tokens[:n]}
    extent = make_extent(shape, library, first_query, **facts)
    wishes = [*default_statistics(with_tokens=True), TopK(13), WeightOn(range(5, 47, 3))]
    parts = [wish.start(extent) for wish in wishes]
    cuts = (cut(H, [1]), cut(Q, range(0, Q, 128)), cut(n, range(0, n, 256)))
    for block in blocks_of(extent, weights, *cuts):
        for part in parts:
            part.update(block)
    wanted = statistics_oracle(weights, first_query, **facts, keys=range(5, 47, 3), k=13, size=64)
    found = {name: to_numpy(a) for part in parts for name, a in part.result().items()}
    assert set(found) == set(wanted)
    assert_equal(found, wanted, library[1])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("order", [["overview", "received"], ["received", "overview"]])
def test_received_is_the_same_before_and_after_the_overview(library, order):
    rng = np.random.default_rng(11)
    weights = random_weights(rng, (2, 31, 37), library[1], ties=False, sinks=False)
    extent = make_extent(weights.shape, library)
    parts = {name: as_statistics(name)[0].start(extent) for name in order}
    cuts = (cut(2, [1]), cut(31, [3, 17]), cut(37, [5]))
    for block in blocks_of(extent, weights, *cuts):
        for name in order:
            parts[name].update(block)
    found = {name: to_numpy(a) for name, a in parts["received"].result().items()}
    assert_equal(found, statistics_oracle(weights), library[1])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("wish", WISHES)
def test_a_block_is_read_and_never_written(wish, library):
    rng = np.random.default_rng(13)
    weights = random_weights(rng, (2, 19, 71), library[1], ties=True, sinks=True)
    extent = make_extent((2, 19, 71), library, 0, range(19), range(71))
    block = next(blocks_of(extent, weights, [range(2)], [range(19)], [range(71)]))
    before = [to_numpy(a).copy() for a in (block.weights, block.log_weights)]
    WISHES[wish].start(extent).update(block)
    for array, kept in zip((block.weights, block.log_weights), before, strict=True):
        np.testing.assert_array_equal(to_numpy(array), kept)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("wish", WISHES)
def test_a_result_stays_as_it_is_when_more_blocks_come(wish, library):
    weights = np.full((2, 6, 14), 1 / 14, library[1])
    extent = make_extent((2, 6, 14), library, 0, [5] * 6, [5] * 14)
    part = WISHES[wish].start(extent)
    first, second = blocks_of(extent, weights, [range(2)], [range(6)], [range(7), range(7, 14)])
    part.update(first)
    early = part.result()
    kept = {name: to_numpy(array).copy() for name, array in early.items()}
    part.update(second)
    for name, array in early.items():
        np.testing.assert_array_equal(to_numpy(array), kept[name])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_part_that_has_seen_no_block_has_the_results_of_rows_that_see_no_key(library):
    extent = make_extent((2, 5, 13), library, 0, range(5), range(13))
    wanted = statistics_oracle(
        np.zeros((2, 5, 13)), 0, query_tokens=range(5), key_tokens=range(13), keys=KEYS
    )
    for wish in WISHES.values():
        assert_equal(fold(wish, extent, []), wanted, library[1])


@pytest.mark.parametrize("shape", [(0, 5, 13), (2, 0, 13), (2, 5, 0)])
def test_nothing_to_look_at_gives_results_of_that_size(shape):
    sizes = dict(zip(("head", "query", "key"), shape, strict=True)) | {"rank": 4}
    sizes |= {"row bin": min(64, shape[1]), "column bin": min(64, shape[2])}
    extent = make_extent(shape, query_tokens=range(shape[1]), key_tokens=range(shape[2]))
    for wish in [*default_statistics(with_tokens=True), TopK(4)]:
        for name, array in fold(wish, extent, []).items():
            assert array.shape == tuple(sizes[axis] for axis in wish.results[name]), name


@pytest.mark.parametrize("library", LIBRARIES)
def test_nan_is_not_hidden(library):
    # As an engine gives it: NaN at all keys that the row sees, and 0 behind the mask.
    weights = np.full((1, 5, 83), 1 / 83, library[1])
    weights[0, 2, :81], weights[0, 2, 81:] = np.nan, 0
    extent = make_extent(weights.shape, library, 78, [3] * 5, [3] * 83)
    spans = [range(40), range(40, 83)]
    for wish in WISHES.values():
        for cols in (spans, spans[::-1]):
            blocks = blocks_of(extent, weights, [range(1)], [range(5)], cols)
            found = fold(wish, extent, blocks)
            for name, axes in wish.results.items():
                if axes[:2] == ("head", "query") and found[name].dtype != np.int64:
                    spoiled = np.isnan(found[name].reshape(5, -1)).any(-1)
                    np.testing.assert_array_equal(spoiled, np.arange(5) == 2, err_msg=name)
                elif axes == ("head", "key"):
                    np.testing.assert_array_equal(np.isnan(found[name][0]), np.arange(83) < 81)


# Numbers computed by hand


def test_entropy_of_uniform_weights_is_the_logarithm_of_their_number():
    weights = np.zeros((1, 3, 8))
    weights[0, 0, 2:7], weights[0, 1, 4] = 1 / 5, 1
    found = fold_whole(Entropy(), weights, block=3)
    np.testing.assert_allclose(found["entropy"], [[np.log(5), 0, 0]], rtol=1e-15)


def test_entropy_is_never_negative():
    # In float32 the logarithm of a weight of 1 may come out as 1e-7.
    extent = make_extent((1, 1, 2), ("numpy", "float32"))
    weights, logs = (np.array([[row]], np.float32) for row in ([1, 0], [1e-7, -87]))
    found = fold(Entropy(), extent, [Block(extent, range(1), range(1), range(2), weights, logs)])
    assert found["entropy"] == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_of_equal_weights_the_first_key_is_named_in_whatever_order_blocks_come(library):
    weights = np.full((1, 2, 150), 1 / 150, library[1])
    weights[0, 1, :] = 0
    weights[0, 1, [9, 70, 71, 140]] = 0.25
    extent = make_extent(weights.shape, library)
    blocks = list(blocks_of(extent, weights, [range(1)], [range(2)], cut(150, [8, 80])))
    for ordered in (blocks, blocks[::-1], [blocks[1], blocks[2], blocks[0]]):
        for parts in (1, 3):
            found = fold(Maximum(), extent, ordered, parts)
            np.testing.assert_array_equal(found["max_key"], [[0, 9]])
            found = fold(TopK(6), extent, ordered, parts)
            top = [[[0, 1, 2, 3, 4, 5], [9, 70, 71, 140, -1, -1]]]
            np.testing.assert_array_equal(found["top_keys"], top)


def test_the_distance_is_that_from_a_position_after_the_cache():
    # Two queries at positions 3 and 4 of five keys; a sink takes 0.2 of the second row.
    weights = [[[0.5, 0, 0, 0.5, 0], [0.4, 0, 0, 0.4, 0]]]
    found = fold_whole(Distance(), weights, first_query=3)
    np.testing.assert_allclose(found["distance_mean"], [[1.5, 2.5]], rtol=1e-15)
    np.testing.assert_allclose(found["distance_std"], [[1.5, 1.5]], rtol=1e-15)


def test_a_key_ahead_stands_at_a_negative_distance():
    found = fold_whole(Distance(), [[[0, 0, 0, 1.0]]])
    assert found["distance_mean"] == -3
    assert found["distance_std"] == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_distance_keeps_its_digits_at_a_hundred_thousand_tokens(library):
    T, rng = 100_003, np.random.default_rng(17)
    within = {"float64": 2e-5, "float32": 3e-4}[library[1]]
    rows = np.zeros((7, T), library[1])
    positions = T - 7 + np.arange(7)
    rows[0] = 1 / T  # uniform: the widest
    rows[1, positions[1] - 1], rows[1, positions[1] - 2] = 0.99, 0.01  # previous: 0.1 wide
    rows[2, 0], rows[2, 1] = 0.97, 0.03  # a sink, far away: 0.17 wide
    rows[3, positions[3] - 700 : positions[3]] = rng.dirichlet(np.ones(700))
    rows[4, 0], rows[4, positions[4]] = 0.5, 0.5
    rows[5, 50_000] = 1  # one key: no width
    rows[6] = rng.dirichlet(np.full(T, 0.01))
    found = fold_whole(Distance(), rows[None], library, block=1024, first_query=T - 7)
    for i, position in enumerate(positions):
        mean, std = moments(rows[i].astype(np.float64).tolist(), position)
        np.testing.assert_allclose(found["distance_mean"][0, i], mean, rtol=1e-6)
        np.testing.assert_allclose(found["distance_std"][0, i], std, rtol=within)


def test_a_second_moment_of_far_queries_is_about_their_own_band():
    # All queries give 0.9 and 0.1 to the two keys before them: 0.3 wide, wherever they stand.
    T, Q = 100_003, 2
    weights = np.zeros((1, Q, T), np.float32)
    for i in range(Q):
        weights[0, i, T - Q + i - 1], weights[0, i, T - Q + i - 2] = 0.9, 0.1
    found = fold_whole(Distance(), weights, ("numpy", "float32"), block=1024, first_query=T - Q)
    np.testing.assert_allclose(found["distance_std"], 0.3, rtol=1e-4)


def test_float32_sums_over_many_blocks_lose_nothing():
    T = 20_011
    weights = np.full((1, T, 1), 0.1, np.float32)
    found = fold_whole(Received(), weights, ("numpy", "float32"), block=1)
    np.testing.assert_allclose(found["received"], T * float(np.float32(0.1)), rtol=1e-7)


def test_induction_is_the_weight_after_an_earlier_occurrence():
    #         a  b  c  a  b        the second a looks at b, the second b at c
    tokens = [4, 9, 2, 4, 9]
    weights = np.zeros((1, 5, 5))
    weights[0, 3] = [0.1, 0.7, 0.1, 0.1, 0]
    weights[0, 4] = [0.05, 0.1, 0.8, 0.03, 0.02]
    facts = {"query_tokens": tokens, "key_tokens": tokens}
    found = fold_whole(Induction(), weights, block=2, **facts)
    np.testing.assert_array_equal(found["induction"], [[0, 0, 0, 0.7, 0.8]])
    found = fold_whole(Duplicate(), weights, block=2, **facts)
    np.testing.assert_array_equal(found["duplicate"], [[0, 0, 0, 0.1, 0.1]])


def test_a_repeated_token_attends_by_induction_to_its_own_position():
    weights = np.zeros((1, 2, 2))
    weights[0, 1] = [0.25, 0.75]
    found = fold_whole(Induction(), weights, query_tokens=[6, 6], key_tokens=[6, 6])
    np.testing.assert_array_equal(found["induction"], [[0, 0.75]])


def test_the_overview_keeps_a_needle_that_its_mean_hides():
    weights = np.zeros((1, 13, 17))
    weights[0, 12, 16] = 0.9
    weights[0, 0, 0] = 0.3
    found = fold_whole(Overview(5), weights, block=4)
    # Bins of 3 × 4: the last hold 1 × 1.
    assert found["overview_mean"].shape == (1, 5, 5)
    np.testing.assert_allclose(found["overview_mean"][0, 0, 0], 0.3 / 12, rtol=1e-15)
    assert found["overview_mean"][0, 4, 4] == found["overview_max"][0, 4, 4] == 0.9
    assert found["overview_max"][0, 0, 0] == 0.3


def test_bins_of_a_given_width_are_square_however_long_the_sides_are():
    weights = np.random.default_rng(0).random((2, 11, 7))
    found = fold_whole(Overview(width=4), weights, block=3)
    assert found["overview_mean"].shape == (2, 3, 2)
    for row in range(3):
        for col in range(2):
            own = weights[:, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
            np.testing.assert_allclose(
                found["overview_mean"][:, row, col], own.mean((1, 2)), rtol=1e-14
            )
            np.testing.assert_array_equal(found["overview_max"][:, row, col], own.max((1, 2)))


@pytest.mark.parametrize("first_row", [0, 1, 3])
@pytest.mark.parametrize("library", LIBRARIES)
def test_bins_may_begin_before_the_first_query(library, first_row):
    weights = np.random.default_rng(37).random((2, 11, 7)).astype(library[1])
    found = fold_whole(Overview(width=4, first_row=first_row), weights, library, block=3)
    padded = np.concatenate([np.zeros((2, first_row, 7)), weights], axis=1)
    rows = -(-(11 + first_row) // 4)
    assert found["overview_mean"].shape == found["overview_max"].shape == (2, rows, 2)
    for row in range(rows):
        for col in range(2):
            own = padded[:, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
            np.testing.assert_allclose(found["overview_mean"][:, row, col], own.mean((1, 2)), 1e-6)
            np.testing.assert_array_equal(found["overview_max"][:, row, col], own.max((1, 2)))


@pytest.mark.parametrize("asked", [{"first_row": 4, "width": 4}, {"first_row": 1}])
def test_a_first_row_stands_within_the_first_bin(asked):
    with pytest.raises(InputError, match=r"whole number from 0 to width − 1, \d here; got \d"):
        Overview(**asked)
    for bad in (-1, 1.5, True, None):
        with pytest.raises(InputError, match=r"^first_row, where in the first bin query 0 stands"):
            Overview(width=4, first_row=bad)


def test_a_key_named_twice_counts_once_and_the_order_does_not_matter():
    weights = np.arange(1.0, 8.0).reshape(1, 1, 7) / 28
    for keys in ([6, 0, 6], np.array([0, 6]), {6, 0}):
        found = fold_whole(WeightOn(keys, "ends"), weights, block=3)
        np.testing.assert_allclose(found["ends"], [[8 / 28]], rtol=1e-15)
    assert fold_whole(WeightOn([]), weights)["keys"] == 0
    assert fold_whole(WeightOn(range(2, 4)), weights)["keys"] == pytest.approx(7 / 28, rel=1e-15)


# Wishes


def names_of(statistics):
    return [name for statistic in statistics for name in statistic.results]


def test_the_default_statistics_compare_tokens_only_where_tokens_are_given():
    plain = [
        "entropy",
        "max",
        "max_key",
        "distance_mean",
        "distance_std",
        "first",
        "previous",
        "self",
        "overview_mean",
        "overview_max",
        "received",
        "received_max",
    ]
    assert names_of(default_statistics()) == plain
    assert names_of(as_statistics(None)) == plain
    with_tokens = names_of(as_statistics(None, with_tokens=True))
    assert sorted(with_tokens) == sorted([*plain, "duplicate", "induction"])


def test_every_statistic_can_be_asked_for_by_name_or_as_an_instance():
    assert set(registered()) >= {
        "entropy",
        "max",
        "top_k",
        "distance",
        "first",
        "previous",
        "self",
        "received",
        "duplicate",
        "induction",
        "overview",
    }
    mine = WeightOn([2], "second")
    assert as_statistics(["max", mine, "top_k"])[1] is mine
    assert names_of(as_statistics(("max", TopK(2)))) == [
        "max",
        "max_key",
        "top_weights",
        "top_keys",
    ]
    assert names_of(as_statistics("entropy")) == ["entropy"]
    assert names_of(as_statistics(mine)) == ["second"]
    assert as_statistics([]) == []


def test_wishes_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match=r"no statistic 'entrophy'; there are .*entropy.*top_k"):
        as_statistics(["entrophy"])
    with pytest.raises(InputError, match=r"got <class .*Entropy'>. Make an instance: Entropy\(..."):
        as_statistics([Entropy])
    with pytest.raises(InputError, match=r"a statistic is named, .* got 3\."):
        as_statistics([3])
    with pytest.raises(InputError, match=r"names, instances of Statistic, or a list .* got 3\."):
        as_statistics(3)


def test_two_results_of_one_name_are_refused():
    with pytest.raises(InputError, match="two statistics have a result 'entropy': Entropy and Ent"):
        as_statistics(["entropy", Entropy()])
    with pytest.raises(InputError, match=r"a result 'max': Maximum and WeightOn.*another name"):
        as_statistics(["max", WeightOn([1], "max")])


def test_statistics_that_compare_tokens_are_refused_without_them():
    with pytest.raises(
        InputError, match=r"the statistic induction compares tokens: give the token ids, tokens="
    ):
        as_statistics(["induction"])
    assert names_of(as_statistics(["induction"], with_tokens=True)) == ["induction"]
    with pytest.raises(
        InputError, match="the statistic duplicate compares tokens: give the token ids"
    ):
        Duplicate().start(make_extent((1, 2, 3)))


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None, "8"])
def test_top_k_needs_a_whole_number_of_at_least_one(k):
    with pytest.raises(InputError, match=r"how many keys TopK lists, must be a whole number ≥ 1"):
        TopK(k)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_an_overview_needs_a_whole_number_of_bins(size):
    with pytest.raises(InputError, match=r"the number of bins along each axis, must be a whole"):
        Overview(size)
    if size is not None:
        with pytest.raises(InputError, match=r"^width, the queries and the keys of a bin, must be"):
            Overview(width=size)


def test_keys_that_are_no_positions_are_refused():
    with pytest.raises(DTypeError, match=r"whole numbers from 0 on; got float64\.$"):
        WeightOn([0.5, 1.0])
    with pytest.raises(DTypeError, match=r"got bool\. Write keys=np.flatnonzero"):
        WeightOn(np.array([True, False]))
    with pytest.raises(ShapeError, match=r"one list of positions, \(n,\); got shape \(1, 2\)"):
        WeightOn([[1, 2]])
    with pytest.raises(ShapeError, match=r"one list of positions, \(n,\); got shape \(\)"):
        WeightOn(3)
    with pytest.raises(InputError, match=r"counted from 0 on; got -1\. Counted from the end"):
        WeightOn([4, -1])
    with pytest.raises(InputError, match=r"name must be a text, as in name='commas'; got 3"):
        WeightOn([4], 3)


def test_a_key_beyond_the_last_is_refused_before_anything_is_folded():
    with pytest.raises(InputError, match=r"'commas' asks for the weight on key 9, .* 9 keys"):
        WeightOn([2, 9], "commas").start(make_extent((1, 2, 9)))
    WeightOn([2, 8]).start(make_extent((1, 2, 9)))


# Statistics of one's own


class Above(QuerySum):
    """How many keys get more than a tenth of a query's weight."""

    def __init__(self):
        super().__init__("above")

    def update(self, block):
        self.sum[block.at_queries] += (block.weights > 0.1).sum(-1)


@pytest.fixture
def nothing_registered(monkeypatch):
    monkeypatch.setattr("atento.statistics.statistic._registered", dict(registered()))


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_statistic_of_ones_own_is_registered_and_folded(library):
    register("above", Above())
    [mine] = as_statistics(["above"])
    rng = np.random.default_rng(19)
    weights = random_weights(rng, (2, 11, 13), library[1], ties=False, sinks=False)
    extent = make_extent(weights.shape, library)
    blocks = blocks_of(extent, weights, [range(2)], cut(11, [4]), cut(13, [3, 7]))
    found = fold(mine, extent, blocks, parts=3)
    np.testing.assert_array_equal(found["above"], (weights > np.float32(0.1)).sum(-1))


@pytest.mark.usefixtures("nothing_registered")
def test_register_refuses_what_is_no_statistic_and_names_that_are_taken():
    with pytest.raises(InputError, match="an instance of a subclass of Statistic; got <class"):
        register("above", Above)
    with pytest.raises(InputError, match="the statistic 'entropy' is there already: choose"):
        register("entropy", Above())
    with pytest.raises(InputError, match=r"register takes a name, .* got 3"):
        register(3, Above())
    assert "above" not in registered()


def test_what_registered_gives_is_a_copy():
    registered().clear()
    assert "entropy" in registered()


def test_a_wish_is_not_changed_by_its_parts():
    wish = Entropy()
    fold_whole(wish, np.full((1, 2, 4), 0.25))
    assert not hasattr(wish, "sum")
    assert isinstance(wish, Statistic)


# Parts


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize(
    ("other", "said"), [((2, 7, 13), 0), ((3, 5, 13), 0), ((2, 5, 14), 0), ((2, 5, 13), 3)]
)
def test_parts_over_other_extents_are_not_merged(wish, other, said):
    tokens = {"query_tokens": range(20), "key_tokens": range(20)}
    part = WISHES[wish].start(make_extent((2, 5, 13), **tokens))
    apart = WISHES[wish].start(make_extent(other, first_query=said, **tokens))
    with pytest.raises(InputError, match=r"merge when both are over the same extent.*\(2, 5, 13"):
        part.merge(apart)


def test_a_part_of_another_statistic_is_not_merged():
    extent = make_extent((2, 5, 12))
    with pytest.raises(InputError, match=r"a part of Own merges with .* same statistic; got Prev"):
        Own().start(extent).merge(Previous().start(extent))


@pytest.mark.parametrize("library", LIBRARIES)
def test_parts_are_pickled_and_merged_elsewhere(library):
    rng = np.random.default_rng(23)
    weights = random_weights(rng, (2, 19, 37), library[1], ties=True, sinks=True)
    tokens = {"query_tokens": range(19), "key_tokens": range(37)}
    extent = make_extent(weights.shape, library, **tokens)
    blocks = list(blocks_of(extent, weights, [range(2)], cut(19, [7]), cut(37, [20])))
    for name, wish in WISHES.items():
        first, second, whole = (wish.start(extent) for _ in range(3))
        for number, block in enumerate(blocks):
            whole.update(block)
            (first, second)[number % 2].update(block)
        first.merge(pickle.loads(pickle.dumps(second)))  # noqa: S301
        again = pickle.loads(pickle.dumps(first))  # noqa: S301
        again.update(next(blocks_of(again.extent, weights * 0, [range(2)], [range(9)], [range(9)])))
        for key, array in wish.start(extent).result().items():
            wanted = to_numpy(whole.result()[key])
            assert again.result()[key].dtype == array.dtype
            np.testing.assert_allclose(to_numpy(first.result()[key]), wanted, 1e-6, 1e-6), name


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("weight", [1.0, 1 - 2**-24, 0.7, 1 / 3])
def test_one_key_with_all_the_weight_has_no_width(library, weight):
    rng = np.random.default_rng(29)
    weights = np.zeros((1, 30, 50_000), library[1])
    weights[0, np.arange(30), rng.integers(0, 50_000, 30)] = weight
    found = fold_whole(Distance(), weights, library, block=1024, first_query=49_970)
    assert not found["distance_std"].any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_width_beyond_rounding_is_not_lost(library):
    weights = np.zeros((1, 1, 400), library[1])
    weights[0, 0, 200], weights[0, 0, 201] = 1 - 2**-16, 2**-16
    found = fold_whole(Distance(), weights, library, first_query=399)
    np.testing.assert_allclose(found["distance_std"], 2**-8, rtol=0.03)


# Reductions of a block


@pytest.mark.parametrize("library", LIBRARIES)
def test_reductions_are_those_of_the_weights_whatever_was_asked_before(library):
    rng = np.random.default_rng(31)
    whole = random_weights(rng, (3, 40, 50), library[1], ties=True, sinks=True)
    extent = make_extent(whole.shape, library, first_query=10)
    [block] = blocks_of(extent, whole, [range(1, 3)], [range(3, 29)], [range(6, 43)])
    weights = whole[1:3, 3:29, 6:43].astype(np.float64)
    x = np.arange(6, 43) - 10 - 3
    close = {"rtol": {"float64": 1e-12, "float32": 1e-6}[library[1]], "atol": 1e-5}
    moments = np.stack([weights @ x.astype(float) ** n for n in range(3)], -1)
    np.testing.assert_allclose(to_numpy(block.moments), moments, **close)
    columns = weights.sum(1), weights.max(1)
    for height in (None, 7):
        if height:
            block.cache.pop("columns")
            bins = block.row_bins(height)
            assert [made.where for made in bins] == [slice(0, 1), slice(1, 4), slice(4, 5)]
            total = np.concatenate([to_numpy(made.sums) for made in bins], 1)
            np.testing.assert_allclose(total[:, 1], weights[:, 4:11].sum(1), **close)
        for found, wanted in zip(block.columns, columns, strict=True):
            np.testing.assert_allclose(to_numpy(found), wanted, **close)
    for ahead in (-40, -13, -1, 0, 3, 26, 60):
        own = [weights[:, i, j] for i in range(26) if 0 <= (j := i + 13 + ahead - 6) < 37]
        at = [i for i in range(26) if 0 <= i + 13 + ahead - 6 < 37]
        diagonal = np.zeros((2, 26))
        diagonal[:, at] = np.transpose(own) if own else 0
        np.testing.assert_array_equal(to_numpy(block.diagonal(ahead)), diagonal)
    for key in (0, 5, 6, 42, 43, 49):
        column = weights[..., key - 6] if 6 <= key < 43 else np.zeros((2, 26))
        np.testing.assert_array_equal(to_numpy(block.on_key(key)), column)
    largest, keys = map(to_numpy, block.largest)
    np.testing.assert_array_equal(largest, weights.max(-1))
    np.testing.assert_array_equal(keys, 6 + weights.argmax(-1))
    assert block.largest is block.largest


def test_logarithms_of_weights_alone():
    extent = make_extent((1, 1, 4), ("numpy", "float32"))
    weights = np.array([[[0.5, 1.0, 0.0, np.nan]]], np.float32)
    logs = Block(extent, range(1), range(1), range(4), weights).log_weights
    np.testing.assert_allclose(logs, [[[np.log(0.5), 0, -87, np.nan]]], rtol=1e-7)
