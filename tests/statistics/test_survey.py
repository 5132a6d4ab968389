"""Survey: the weights of every block are exactly those of the formula, and each comes once."""

import sys

import numpy as np
import pytest
import torch

import atento
from atento.equation.request import checked_request
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments, Window
from atento.positions import Alibi
from atento.statistics import Statistic
from atento.statistics.folding import default_first_query, fold
from atento.statistics.survey import Survey, survey
from oracle import attention_oracle
from statistics_oracle import statistics_oracle
from torch_cases import (
    ALL_WITH_ALL,
    FEW_OPTIONS,
    KEY,
    MASKS,
    OPTIONS,
    QUERY,
    TK,
    TQ,
    VALUE,
    B,
    D,
    H,
    asked_for,
    normal,
    oracle,
    tensors,
)

PRECISIONS = {"float64": 1e-12, "float32": 2e-6}
SIZES = {
    "atento.statistics.sharing.ROWS": 3,
    "atento.statistics.sharing.COLS": 5,
    "atento.statistics.sharing.FINE": 2,
    "atento.equation.schedule.WIDEST": 4,
}


class Everything(Statistic):
    """The weights themselves, their logarithms, and how often each pair came."""

    def __init__(self):
        self.results = dict.fromkeys(("weights", "logs", "times"), ("head", "query", "key"))

    def _begin(self):
        shape = (self.extent.heads, self.extent.queries, self.extent.keys)
        self.arrays = {name: self.extent.full(shape, 0.0) for name in self.results}

    def update(self, block):
        at = tuple(slice(s.start, s.stop) for s in (block.heads, block.rows, block.cols))
        self.arrays["weights"][at] += block.weights
        self.arrays["logs"][at] += block.log_weights
        self.arrays["times"][at] += 1

    def merge(self, other):
        for name, array in self.arrays.items():
            array += other.arrays[name]

    def result(self):
        return self.arrays


class KeySum(Statistic):
    """What each key receives: parts over other queries are added up."""

    results = {"received": ("head", "key")}  # noqa: RUF012

    def _begin(self):
        self.sum = self.extent.full((self.extent.heads, self.extent.keys), 0.0)

    def update(self, block):
        self.sum[block.heads.start : block.heads.stop, block.cols.start : block.cols.stop] += (
            block.weights.sum(-2)
        )

    def merge(self, other):
        self.sum += other.sum

    def result(self):
        return {"received": self.sum}


class OnSameToken(Statistic):
    """The weight on keys that hold the query's own token."""

    results = {"same": ("head", "query")}  # noqa: RUF012
    needs_tokens = True

    def _begin(self):
        self.sum = self.extent.full((self.extent.heads, self.extent.queries), 0.0)

    def update(self, block):
        rows, cols = (slice(s.start, s.stop) for s in (block.rows, block.cols))
        same = self.extent.query_tokens[rows, None] == self.extent.key_tokens[cols]
        self.sum[block.heads.start : block.heads.stop, rows] += (block.weights * same).sum(-1)

    def merge(self, other):
        self.sum += other.sum

    def result(self):
        return {"same": self.sum}


@pytest.fixture
def small_blocks(monkeypatch):
    for name, size in SIZES.items():
        monkeypatch.setattr(name, size)


@pytest.fixture(params=["numpy", "torch"])
def library(request, small_blocks):
    return request.param


@pytest.fixture(params=[1, 2, 5, 31])
def threads(request, monkeypatch):
    monkeypatch.setattr("atento.statistics.on_numpy.available_cores", lambda: request.param)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def of(library, *arrays, dtype="float64"):
    """Arrays of that library."""
    arrays = tuple(np.asarray(array, dtype) for array in arrays)
    return tuple(map(torch.from_numpy, arrays)) if library == "torch" else arrays


def arguments(library, mask, option, dtype="float64"):
    if library == "torch":
        return asked_for(mask, option, getattr(torch, dtype))[0]
    asked = {
        name: given.astype(dtype) if isinstance(given, np.ndarray) else given
        for name, given in OPTIONS[option][0].items()
    }
    return {"mask": MASKS[mask][0], **asked}


def a_request(*inputs, **asked):
    plain = dict.fromkeys(("mask", "bias", "scale", "softcap", "sinks", "seed"))
    return checked_request(*inputs, **plain | {"dropout": 0.0} | asked)


def assert_equal(found, wanted, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=tolerance, atol=tolerance)


def assert_every_weight_is_right(found, weights, dtype="float64"):
    assert_equal(found["weights"], weights, PRECISIONS[dtype])
    logs, times = np.asarray(found["logs"]), np.asarray(found["times"])
    assert np.isfinite(logs).all()
    assert times.max() <= 1
    assert (times[weights > 0] == 1).all()
    assert (np.asarray(found["weights"])[weights == 0] == 0).all()
    seen = weights > 1e-30
    assert_equal(logs[seen], np.log(weights[seen]), PRECISIONS[dtype])


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_weights_of_every_mask_with_every_option(library, mask, option):
    _, weights, lse = oracle(mask, option)
    for dtype in PRECISIONS if option in FEW_OPTIONS else ["float64"]:
        asked = arguments(library, mask, option, dtype)
        inputs = of(library, QUERY, KEY, VALUE, dtype=dtype)
        found = survey(*inputs, **asked, statistics=[Everything()])
        assert_every_weight_is_right(found, weights, dtype)
        output, log_sum = atento.attention(*inputs, **asked, return_lse=True)
        assert_equal(found.output, output, 0)
        assert_equal(found.lse, log_sum, 0)
        assert_equal(found.lse, lse, PRECISIONS[dtype])
        assert found.output.dtype == found["weights"].dtype == inputs[0].dtype


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_statistics_are_the_same_from_every_engine(library, engine, mask):
    _, weights, _ = oracle(mask, "sinks")
    asked = arguments(library, mask, "sinks")
    found = survey(
        *of(library, QUERY, KEY, VALUE), **asked, engine=engine, statistics=[Everything()]
    )
    assert_every_weight_is_right(found, weights)


@pytest.mark.parametrize("mask", ["everybody", "causal, end", "combined", "array per head", "rule"])
def test_any_number_of_threads(library, threads, mask):
    _, weights, _ = oracle(mask, "bias per head")
    inputs, asked = of(library, QUERY, KEY, VALUE), arguments(library, mask, "bias per head")
    found = survey(*inputs, **asked, statistics=[Everything(), KeySum()])
    assert_every_weight_is_right(found, weights)
    assert_equal(found["received"], weights.sum(-2))


def test_one_head_is_shared_out_by_its_queries(library, threads):
    query, key, value = normal(1, 23, D), normal(1, 29, D), normal(1, 29, 3)
    visible = np.tri(23, 29, 6, dtype=bool)
    _, weights, _ = attention_oracle(query, key, value, visible=visible)
    inputs = of(library, query, key, value)
    found = survey(*inputs, mask=Causal("end"), statistics=[Everything(), KeySum()])
    assert_every_weight_is_right(found, weights)
    assert_equal(found["received"], weights.sum(-2))


def test_the_same_bits_come_each_time(library, threads):
    inputs = of(library, normal(1, 97, D), normal(1, 101, D), normal(1, 101, 3), dtype="float32")
    runs = [
        np.asarray(survey(*inputs, mask=Causal("end"), statistics=[KeySum()])["received"])
        for _ in range(7)
    ]
    assert runs[0].any()
    for again in runs[1:]:
        assert runs[0].tobytes() == again.tobytes()


def test_blocks_of_the_usual_size():
    """Nothing patched: lengths just across the edge of a block of queries, and of keys."""
    query, key, value = normal(1, 257, 2), normal(1, 521, 2), normal(1, 521, 3)
    visible = np.tri(257, 521, 264, dtype=bool) & (np.arange(521) >= 5)
    _, weights, _ = attention_oracle(query, key, value, visible=visible)
    for library in ("numpy", "torch"):
        inputs = of(library, query, key, value)
        mask = Causal("end") & ~Prefix(5)
        found = survey(*inputs, mask=mask, statistics=[Everything()])
        assert_every_weight_is_right(found, weights)


def test_what_the_mask_empties_is_never_computed(library):
    inputs = of(library, normal(1, 61, D), normal(1, 61, D), normal(1, 61, 3))
    for mask, at_most in (
        (Causal(), 0.55),
        (Causal() & Window(left=2), 0.15),
        (Segments(np.arange(61) // 6), 0.2),
        (KeyPadding(np.arange(61) < 13), 0.25),
    ):
        times = survey(*inputs, mask=mask, statistics=[Everything()])["times"]
        assert 0 < np.asarray(times).mean() < at_most


def test_blocks_stay_small_and_their_memory_serves_again(library):
    class Memory(KeySum):
        def update(self, block):
            shapes.append(tuple(block.weights.shape))
            array = np.asarray(block.weights)
            places.add(array.__array_interface__["data"][0])
            super().update(block)

    shapes, places = [], set()
    inputs = of(library, normal(1, 41, D), normal(1, 43, D), normal(1, 43, 3))
    survey(*inputs, statistics=[Memory()])
    assert max(rows for _, rows, _ in shapes) == 3
    assert max(cols for _, _, cols in shapes) == 5
    assert len(shapes) == 14 * 9
    assert len(places) <= len(np.unique(shapes, axis=0)) * 31  # at most once for each thread


@pytest.mark.parametrize("spread", [31, -31])
@pytest.mark.parametrize("option", ["plain", "softcap", "sinks", "T5"])
def test_scores_of_many_sizes(library, option, spread):
    told = {name: given for name, given in OPTIONS[option][0].items() if name != "seed"}
    key = KEY * np.linspace(0, abs(spread), TK)[:: 1 if spread > 0 else -1, None]
    _, weights, _ = attention_oracle(
        QUERY, key, VALUE, visible=MASKS["causal, end"][1], **(told | OPTIONS[option][1])
    )
    asked = arguments(library, "causal, end", option)
    found = survey(*of(library, QUERY, key, VALUE), **asked, statistics=[Everything()])
    assert_equal(found["weights"], weights, 1e-12 * abs(spread))
    seen = weights > 1e-300
    assert_equal(np.asarray(found["logs"])[seen], np.log(weights[seen]), 1e-12 * abs(spread))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_too_small_for_a_number_are_0_in_effect(library, dtype):
    """Their logarithm is held where exp is still fast, and the product of both is nothing."""
    query, key = np.full((5, 3), 30.0), np.linspace(-30, 30, 7)[:, None] * np.ones(3)
    found = survey(*of(library, query, key, key, dtype=dtype), statistics=[Everything()])
    weights, logs = np.asarray(found["weights"]), np.asarray(found["logs"])
    assert logs.min() == {"float32": -87, "float64": -708}[dtype]
    assert_equal(weights[:, :-1], 0 * weights[:, :-1], 1e-37)
    assert_equal((weights * logs).sum(-1), np.zeros(5), 1e-6)


LAYOUTS = {
    "one head without its axis": ((7, 5), (11, 5), ("query", "key")),
    "heads": ((6, 7, 5), (3, 11, 5), ("head", "query", "key")),
    "batch": ((2, 6, 7, 5), (2, 3, 11, 5), ("batch", "head", "query", "key")),
    "two batch axes": (
        (3, 2, 6, 7, 5),
        (3, 2, 3, 11, 5),
        ("batch0", "batch1", "head", "query", "key"),
    ),
    "more queries than keys": ((2, 6, 11, 5), (2, 3, 7, 5), ("batch", "head", "query", "key")),
    "one token": ((1, 1, 1, 5), (1, 1, 1, 5), ("batch", "head", "query", "key")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_its_axes(library, name):
    of_query, of_key, axes = LAYOUTS[name]
    query, key, value = normal(*of_query), normal(*of_key), normal(*of_key[:-1], 13)
    bias = normal(*of_query[:-1], 1) if len(of_query) > 3 else normal(of_query[-2], of_key[-2])
    _, weights, _ = attention_oracle(query, key, value, bias=bias)
    inputs = of(library, query, key, value)
    found = survey(*inputs, bias=of(library, bias)[0], statistics=[Everything(), KeySum()])
    assert_every_weight_is_right(found, weights)
    assert_equal(found["received"], weights.sum(-2))
    assert found.axes["weights"] == axes
    assert found.axes["received"] == (*axes[:-2], "key")
    assert tuple(found.lse.shape) == weights.shape[:-1]


@pytest.mark.parametrize(
    ("of_query", "of_key"),
    [
        ((2, 3, 0, 5), (2, 3, 7, 5)),
        ((2, 3, 7, 5), (2, 3, 0, 5)),
        ((0, 3, 7, 5), (0, 3, 11, 5)),
        ((2, 0, 7, 5), (2, 0, 11, 5)),
    ],
)
def test_nothing_to_fold(library, of_query, of_key):
    inputs = of(library, np.ones(of_query), np.ones(of_key), np.ones(of_key))
    statistics, tokens = [Everything(), OnSameToken()], np.zeros(of_key[-2], int)
    asked = {"tokens": (np.zeros(of_query[-2], int), tokens), "statistics": statistics}
    for mask in (None, Rule(lambda b, h, q, k: q >= k)):
        found = survey(*inputs, mask=mask, **asked)
        assert found["weights"].shape == (*of_query[:-1], of_key[-2])
        assert found["same"].shape == of_query[:-1]
        assert not np.asarray(found["weights"]).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, small_blocks):
    inputs = [array.to(dtype) for array in tensors()]
    _, weights, _ = attention_oracle(
        *(array.double().numpy() for array in inputs), visible=MASKS["causal, end"][1]
    )
    found = survey(*inputs, mask=Causal("end"), statistics=[Everything()])
    assert found.output.dtype == dtype
    assert found["weights"].dtype == found.lse.dtype == torch.float32
    assert_every_weight_is_right(found, weights, "float32")


def test_half_precision_in_numpy(small_blocks):
    inputs = [array.astype(np.float16) for array in (QUERY, KEY, VALUE)]
    _, weights, _ = attention_oracle(*inputs, visible=MASKS["causal, end"][1])
    found = survey(*inputs, mask=Causal("end"), statistics=[Everything()])
    assert found["weights"].dtype == np.float32
    assert_every_weight_is_right(found, weights, "float32")


def test_autocast_does_not_reach_the_weights(small_blocks):
    inputs = tensors(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = survey(*inputs, statistics=[Everything()])
    assert_every_weight_is_right(found, oracle("everybody", "plain")[1], "float32")


@pytest.mark.parametrize("option", ["plain", "everything"])
def test_the_output_keeps_its_gradient_and_statistics_have_none(small_blocks, option):
    grads = []
    for surveyed in (True, False):
        inputs = tensors(requires_grad=True)
        asked, leaves = asked_for("combined", option, requires_grad=True)
        if surveyed:
            found = survey(*inputs, **asked, statistics=[Everything()])
            assert not any(found[name].requires_grad for name in found)
            output = found.output
        else:
            output = atento.attention(*inputs, **asked)
        grads.append(torch.autograd.grad(output.square().sum(), [*inputs, *leaves]))
    for own, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-12, atol=1e-12)


def test_no_graph_without_need(small_blocks):
    found = survey(*tensors(), statistics=[Everything()])
    assert not found.output.requires_grad
    assert not found.lse.requires_grad
    assert torch.is_grad_enabled()


def test_inputs_are_not_modified(library):
    asked = arguments(library, "combined", "everything")
    tokens = np.arange(TK) % 3
    arrays = [*of(library, QUERY.copy(), KEY.copy(), VALUE.copy()), asked["bias"], asked["sinks"]]
    before = [np.asarray(array).copy() for array in arrays]
    survey(*arrays[:3], **asked, tokens=tokens, statistics=[Everything(), OnSameToken()])
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(np.asarray(array), copy)
    np.testing.assert_array_equal(tokens, np.arange(TK) % 3)


def test_statistics_are_of_the_weights_before_dropout(library):
    inputs = of(library, QUERY, KEY, VALUE)
    found = survey(*inputs, dropout=0.4, seed=99, statistics=[Everything()])
    assert_every_weight_is_right(found, oracle("everybody", "plain")[1])
    assert_equal(found.output, oracle("everybody", "dropout")[0])


BAD = 4
NOT_FINITE = [float("nan"), float("inf"), -float("inf")]
CAUSAL = np.tri(TQ, TK, dtype=bool)


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_a_key_behind_the_mask_may_hold_anything(library, bad, softcap):
    keep = np.arange(TK) != BAD
    _, weights, _ = attention_oracle(QUERY, KEY, VALUE, visible=keep, softcap=softcap)
    key, value = KEY.copy(), VALUE.copy()
    key[:, :, BAD, 2] = value[:, :, BAD, 3] = bad
    asked = {"mask": KeyPadding(keep), "softcap": softcap, "engine": "streaming"}
    statistics = [Everything(), KeySum()]
    found = survey(*of(library, QUERY, key, value), **asked, statistics=statistics)
    assert_every_weight_is_right(found, weights)
    assert_equal(found["received"], weights.sum(-2))


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_a_bias_behind_the_mask_may_hold_anything(library, bad):
    bias = normal(H, TQ, TK)
    _, weights, _ = attention_oracle(QUERY, KEY, VALUE, visible=CAUSAL, bias=bias)
    bias[:, ~CAUSAL] = bad
    inputs, added = of(library, QUERY, KEY, VALUE), of(library, bias)[0]
    asked = {"mask": Causal("start"), "bias": added, "engine": "dense"}
    found = survey(*inputs, **asked, statistics=[Everything()])
    assert_every_weight_is_right(found, weights)


@pytest.mark.parametrize("where", ["query", "key"])
def test_nan_that_is_seen_shows_and_nothing_else_does(library, where):
    query, key = QUERY.copy(), KEY.copy()
    (query if where == "query" else key)[:, :, BAD, 1] = np.nan
    found = survey(*of(library, query, key, VALUE), mask=Causal("start"), statistics=[Everything()])
    _, clean, _ = oracle("causal, start", "plain")
    spoilt = np.arange(TQ) == BAD if where == "query" else np.arange(TQ) >= BAD
    weights = np.asarray(found["weights"])
    assert np.isnan(weights[:, :, spoilt][..., CAUSAL[spoilt]]).all()
    assert (weights[:, :, spoilt][..., ~CAUSAL[spoilt]] == 0).all()
    assert_equal(weights[:, :, ~spoilt], clean[:, :, ~spoilt])


def test_numbers_whose_products_overflow_do_not_leak_from_behind_the_mask(library):
    """q · k is ∞ − ∞ for one key, though q and k are finite."""
    query, key = QUERY.copy(), KEY.copy()
    query[..., :2] = 1e200
    key[..., :2] = 0
    keep = np.arange(TK) != BAD
    _, weights, lse = attention_oracle(query[..., 2:], key[..., 2:], VALUE, visible=keep, scale=0.5)
    key[:, :, BAD, :2] = 1e200, -1e200
    request = a_request(*of(library, query, key, VALUE), mask=KeyPadding(keep), scale=0.5)
    found = fold(request, of(library, lse)[0], [Everything()])
    assert_every_weight_is_right(found, weights)


def test_tokens_of_each_batch_item_and_of_queries_at_the_end(library):
    _, weights, _ = oracle("causal, end", "plain")
    each = np.arange(B * TK).reshape(B, TK) * 7 % 4
    inputs, asked = of(library, QUERY, KEY, VALUE), {"mask": Causal("end")}
    for tokens in (each, each[0], each.tolist(), torch.from_numpy(each), each.astype(np.uint8)):
        of_key = np.broadcast_to(np.asarray(tokens, int), (B, TK))
        same = of_key[:, None, TK - TQ :, None] == of_key[:, None, None, :]
        found = survey(*inputs, **asked, tokens=tokens, statistics=[OnSameToken()])
        assert_equal(found["same"], (weights * same).sum(-1))


def test_tokens_of_queries_and_keys_apart(library):
    _, weights, _ = oracle("everybody", "plain")
    of_query, of_key = np.arange(B * TQ).reshape(B, TQ) * 3 % 5, np.arange(TK) * 2 % 5
    same = of_query[:, None, :, None] == of_key
    inputs = of(library, QUERY, KEY, VALUE)
    found = survey(*inputs, tokens=(of_query, of_key), statistics=[OnSameToken()])
    assert_equal(found["same"], (weights * same).sum(-1))


@pytest.mark.parametrize(
    ("mask", "position"),
    [
        (None, TK - TQ),
        (Causal("end"), TK - TQ),
        (Causal("start"), 0),
        (KeyPadding(np.ones(TK, bool)) & Window(2, align="start"), 0),
        (~Window(2, align="start") | Prefix(3), 0),
        (~Window(2, align="end"), TK - TQ),
    ],
)
def test_where_query_0_stands_when_nobody_says(mask, position):
    request = a_request(QUERY, KEY, VALUE, mask=mask)
    assert default_first_query(request) == position
    fewer_keys = a_request(QUERY[:, :, :3], KEY[:, :, :2], VALUE[:, :, :2])
    assert default_first_query(fewer_keys) == 0

    class Position(KeySum):
        results = {"position": ("head",)}  # noqa: RUF012

        def result(self):
            return {"position": self.extent.full((self.extent.heads,), self.extent.first_query)}

    lse = oracle("everybody", "plain")[2]
    assert (fold(request, lse, [Position()])["position"] == position).all()
    assert (fold(request, lse, [Position()], first_query=17)["position"] == 17).all()


@pytest.mark.parametrize(
    ("mask", "option", "first_query"),
    [
        ("causal, end", "ALiBi", TK - TQ),
        ("causal, start", "sinks", 0),
        ("combined", "everything", TK - TQ),
        ("array of each, per head", "bias of −∞", TK - TQ),
    ],
)
def test_default_statistics_are_those_of_the_whole_weights(library, mask, option, first_query):
    _, weights, _ = oracle(mask, option)
    tokens = np.arange(B * TK).reshape(B, TK) * 7 % 4
    asked = arguments(library, mask, option) | {"tokens": tokens, "top_k": 3}
    found = survey(*of(library, QUERY, KEY, VALUE), **asked)
    at = slice(first_query, first_query + TQ)
    for n in range(B):
        wanted = statistics_oracle(
            weights[n], first_query, query_tokens=tokens[n, at], key_tokens=tokens[n], k=3, size=64
        )
        assert set(found) <= set(wanted)
        for name in found:
            # A variance is a difference: where it should be 0, its root shows the root of rounding.
            power = 2 if name == "distance_std" else 1
            assert_equal(np.asarray(found[name][n]) ** power, wanted[name] ** power)
    assert {"entropy", "max_key", "distance_std", "induction", "top_keys"} < set(found)
    assert found.axes["entropy"] == found.axes["duplicate"] == ("batch", "head", "query")
    assert found.axes["received"] == ("batch", "head", "key")
    assert found.axes["overview_max"] == ("batch", "head", "row bin", "column bin")


def test_nothing_asked_for_is_nothing_folded(library):
    found = survey(*of(library, QUERY, KEY, VALUE), statistics=[])
    assert list(found) == []
    assert repr(found) == "Survey(output (2, 6, 7, 13); no statistics)"


def test_a_survey_is_read_by_name_and_cannot_be_changed(library):
    found = survey(*of(library, QUERY, KEY, VALUE), statistics=[KeySum(), Everything()])
    assert isinstance(found, Survey)
    assert list(found) == ["received", "weights", "logs", "times"]
    assert len(found) == 4
    assert "weights" in found
    assert "entropy" not in found
    assert repr(found) == "Survey(output (2, 6, 7, 13); received, weights, logs, times)"
    wanted = "this survey has no statistic 'entropi'. It has received, weights, logs, times"
    with pytest.raises(KeyError) as raised:
        found["entropi"]
    assert str(raised.value).startswith(wanted)
    assert isinstance(raised.value, atento.InputError)
    with pytest.raises(AttributeError):
        found.output = None


TOKENS = [OnSameToken()]
REFUSED = {
    "no tokens": (
        {"statistics": TOKENS},
        atento.InputError,
        "the statistic same compares tokens: give the token ids",
    ),
    "too few tokens": (
        {"tokens": np.arange(TQ), "statistics": TOKENS},
        atento.ShapeError,
        f"there are {TQ} queries and {TK} keys; got tokens ({TQ},)",
    ),
    "another batch": (
        {"tokens": np.zeros((3, TK), int), "statistics": TOKENS},
        atento.ShapeError,
        f"the query tokens must be one id per query, ({TQ},) or ({B}, {TQ}); got (3, {TQ})",
    ),
    "pair of other lengths": (
        {"tokens": (np.arange(TQ), np.arange(TQ)), "statistics": TOKENS},
        atento.ShapeError,
        f"the key tokens must be one id per key, ({TK},) or ({B}, {TK}); got ({TQ},)",
    ),
    "words": (
        {"tokens": ["a"] * TK, "statistics": TOKENS},
        atento.DTypeError,
        "tokens must be token ids, whole numbers as a tokenizer gives them; got str",
    ),
    "fractions": (
        {"tokens": np.ones(TK), "statistics": TOKENS},
        atento.DTypeError,
        "tokens must be token ids, whole numbers as a tokenizer gives them; got float64",
    ),
    "ragged tokens": (
        {"tokens": [[1], [2, 3]], "statistics": TOKENS},
        atento.ShapeError,
        "tokens must be (token,) or (batch, token), not ragged",
    ),
    "negative top_k": (
        {"top_k": -1, "statistics": []},
        atento.InputError,
        "top_k must be a whole number, 0 for none; got -1",
    ),
    "half a top_k": (
        {"top_k": 1.5, "statistics": []},
        atento.InputError,
        "top_k must be a whole number, 0 for none; got 1.5",
    ),
    "unknown engine": (
        {"engine": "quick", "statistics": []},
        atento.EngineError,
        "engine must be one of",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_how(library, name):
    asked, error, message = REFUSED[name]
    with pytest.raises(error) as raised:
        survey(*of(library, QUERY, KEY, VALUE), **asked)
    assert message in str(raised.value)


def test_tokens_are_looked_at_before_anything_is_computed(monkeypatch):
    home = sys.modules[survey.__module__]  # the package has a function of the same name
    monkeypatch.setattr(home, "_compute", lambda *_: pytest.fail("computed"))
    with pytest.raises(atento.ShapeError, match="tokens must hold one id per key"):
        survey(QUERY, KEY, VALUE, tokens=[1, 2], statistics=TOKENS)


def test_fold_refuses_what_does_not_fit(library):
    inputs = of(library, QUERY, KEY, VALUE)
    request = a_request(*inputs)
    lse = of(library, oracle("everybody", "plain")[2])[0]
    with pytest.raises(atento.ShapeError, match=r"lse must hold one number per query, \(2, 6, 7\)"):
        fold(request, lse[..., :3], [Everything()])
    with pytest.raises(atento.InputError, match="first_query must be a whole number"):
        fold(request, lse, [Everything()], first_query=0.5)

    class Wrong(KeySum):
        results = {"received": ("key",)}  # noqa: RUF012

    with pytest.raises(atento.ShapeError, match="'received' says its axes are"):
        fold(request, lse, [Wrong()])


def test_arrays_that_cannot_be_folded_over_are_refused():
    import array_api_strict

    strict = [array_api_strict.asarray(array) for array in (QUERY, KEY, VALUE)]
    with pytest.raises(atento.EngineError, match="NumPy arrays and PyTorch tensors; got array_api"):
        survey(*strict, statistics=[Everything()])
    meta = [array.to("meta") for array in tensors()]
    with pytest.raises(atento.EngineError, match=r"outside of torch\.compile"):
        survey(*meta, statistics=[Everything()])


def test_what_a_statistic_raises_arrives(library, threads):
    class Fails(KeySum):
        def update(self, block):
            raise ArithmeticError("in a block")

    with pytest.raises(ArithmeticError, match="in a block"):
        survey(*of(library, QUERY, KEY, VALUE), statistics=[Fails()])
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads


def test_alibi_and_a_mask_per_head_and_padding_at_once(library):
    keep, per_head = np.arange(TK) > 1, np.arange(H * TQ * TK).reshape(H, TQ, TK) % 5 > 0
    _, weights, _ = attention_oracle(
        QUERY,
        KEY,
        VALUE,
        visible=per_head & keep,
        bias=OPTIONS["ALiBi"][1]["bias"],
        softcap=1.25,
    )
    found = survey(
        *of(library, QUERY, KEY, VALUE),
        mask=Explicit(per_head) & KeyPadding(np.stack([keep, keep])),
        bias=Alibi(H, "end"),
        softcap=1.25,
        statistics=[Everything()],
    )
    assert_every_weight_is_right(found, weights)
