"""The compiled kernel: the same numbers as the plain path, from every mask, option and cut."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from atento._arrays import to_numpy
from atento.masks import Causal, KeyPadding, Prefix, Window
from atento.statistics import (
    Overview,
    Received,
    Statistic,
    TopK,
    WeightOn,
    compiled,
    default_statistics,
    kernels,
    sharing,
)
from atento.statistics.survey import survey
from oracle import attention_oracle
from statistics_oracle import assert_equal, overview, statistics_oracle
from torch_cases import (
    ALL_WITH_ALL,
    KEY,
    MASKS,
    OPTIONS,
    QUERY,
    TK,
    TQ,
    VALUE,
    B,
    D,
    asked_for,
    normal,
    oracle,
)

SIZES = {"ROWS": 3, "COLS": 5, "TALL": 6, "WIDE": 4, "FINE": 2}
STARTS = ("causal, start", "window, left only", "prefix")
"""Masks that let query 0 stand at key 0."""


class Weights(Statistic):
    """The weights themselves and their logarithms, as the blocks show them."""

    results = {"weights": ("head", "query", "key"), "logs": ("head", "query", "key")}  # noqa: RUF012

    def _begin(self):
        shape = (self.extent.heads, self.extent.queries, self.extent.keys)
        self.arrays = {name: self.extent.full(shape, 0.0) for name in self.results}

    def update(self, block):
        at = tuple(slice(s.start, s.stop) for s in (block.heads, block.rows, block.cols))
        self.arrays["weights"][at] += block.weights
        self.arrays["logs"][at] += block.log_weights

    def merge(self, other):
        for name, array in self.arrays.items():
            array += other.arrays[name]

    def result(self):
        return self.arrays


@pytest.fixture(autouse=True)
def always(monkeypatch):
    assert compiled.available(), "Numba is in the dev group: nothing is tested without it"
    monkeypatch.setattr(compiled, "WORTH", 0)


@pytest.fixture
def small_blocks(monkeypatch):
    for name, size in SIZES.items():
        monkeypatch.setattr(sharing, name, size)


@pytest.fixture
def calls(monkeypatch):
    """The name of the kernel for each time that one was called."""
    made = []
    for name in ("reduce_scores", "reduce_products"):
        kernel = getattr(kernels, name)

        def call(*given, name=name, kernel=kernel):
            made.append(name)
            kernel(*given)

        monkeypatch.setattr(kernels, name, call)
    return made


@pytest.fixture(params=["numpy", "torch"])
def library(request):
    return request.param


def of(library, *arrays):
    arrays = tuple(np.asarray(array, np.float32) for array in arrays)
    return tuple(map(torch.from_numpy, arrays)) if library == "torch" else arrays


def arguments(library, mask, option):
    if library == "torch":
        return asked_for(mask, option, torch.float32)[0]
    asked = {
        name: given.astype(np.float32) if isinstance(given, np.ndarray) else given
        for name, given in OPTIONS[option][0].items()
    }
    return {"mask": MASKS[mask][0], **asked}


def everything(size=64, keys=(1, 2, 7)):
    """All statistics, and the weights that they are of."""
    default = [wish for wish in default_statistics(True) if not isinstance(wish, Overview)]
    return [*default, Overview(size), TopK(3), WeightOn(keys), Weights()]


def in_numpy(found):
    return {name: to_numpy(array) for name, array in found.statistics.items()}


def assert_all_are_of_these_weights(found, first_query=0, tokens=None, size=64, keys=(1, 2, 7)):
    """Every statistic of one batch item is exactly, or to its rounding, that of the weights."""
    queries = found["weights"].shape[1]
    wanted = statistics_oracle(
        found["weights"],
        first_query,
        query_tokens=tokens[first_query : first_query + queries],
        key_tokens=tokens,
        keys=keys,
        k=3,
        size=size,
    )
    assert set(found) == {*wanted, "weights", "logs"}
    own = {name: found[name] for name in wanted}
    # Entropy is of the logarithms that the weights come from, not of the rounded weights.
    entropy, exact = own.pop("entropy"), wanted.pop("entropy")
    np.testing.assert_allclose(entropy, exact, rtol=1e-6, atol=1e-6)
    assert_equal(own, wanted, "float32")


@pytest.mark.parametrize(("mask", "option"), ALL_WITH_ALL)
def test_every_mask_with_every_option(library, small_blocks, calls, mask, option):
    _, weights, _ = oracle(mask, option)
    tokens = np.arange(B * TK).reshape(B, TK) * 7 % 4
    first_query = 0 if mask in STARTS else TK - TQ
    size = (3, 5, 64)[len(option) % 3]
    asked = arguments(library, mask, option) | {"tokens": tokens, "statistics": everything(size)}
    found = in_numpy(survey(*of(library, QUERY, KEY, VALUE), **asked))
    made_outside = {"bias", "softcap"} & {n for n, given in asked.items() if given is not None}
    kernel = "reduce_scores" if made_outside else "reduce_products"
    assert set(calls) == ({kernel} if weights.any() else set(calls) & {kernel})
    np.testing.assert_allclose(found["weights"], weights, rtol=2e-6, atol=2e-6)
    assert (found["weights"][weights == 0] == 0).all()
    seen = weights > 1e-30
    np.testing.assert_allclose(found["logs"][seen], np.log(weights[seen]), rtol=2e-6, atol=2e-6)
    for n in range(B):
        own = {name: array[n] for name, array in found.items()}
        assert_all_are_of_these_weights(own, first_query, tokens[n], size)


@pytest.mark.parametrize("size", [3, 7, 20, 64])
@pytest.mark.parametrize(("tall", "wide"), [(4, 9), (13, 16), (9, 131), (64, 64)])
def test_any_block_and_any_bins(library, monkeypatch, size, tall, wide):
    """Bins that blocks cut, rows that come by four and those that are left over."""
    for name, length in (("TALL", tall), ("WIDE", wide), ("FINE", 8)):
        monkeypatch.setattr(sharing, name, length)
    inputs = of(library, normal(3, 101, D), normal(3, 131, D), normal(3, 131, D))
    tokens, keys = np.arange(131) % 5, range(7, 90, 3)
    wishes = everything(size, keys)
    found = in_numpy(survey(*inputs, mask=Causal("end"), tokens=tokens, statistics=wishes))
    assert_all_are_of_these_weights(found, 30, tokens, size, keys)


def test_columns_alone_and_each_statistic_alone(library, small_blocks):
    """What is asked for decides what the kernel makes."""
    inputs = of(library, normal(2, 19, D), normal(2, 23, D), normal(2, 23, D))
    asked = {"mask": Causal("end"), "tokens": np.arange(23) % 3}
    together = in_numpy(survey(*inputs, **asked, statistics=everything()))
    for wish in everything():
        alone = in_numpy(survey(*inputs, **asked, statistics=[wish]))
        assert set(alone) == set(wish.results)
        for name, array in alone.items():
            np.testing.assert_allclose(array, together[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_blocks_of_the_usual_size(library):
    """Nothing patched: lengths across the edge of a block of queries and of keys, and a gap."""
    query, key = normal(1, 521, D), normal(1, 2111, D)
    sink = Prefix(3) | Window(left=300, align="end")
    mask = Causal("end") & sink & KeyPadding(np.arange(2111) % 11 > 0)
    tokens = np.arange(2111) % 997
    inputs = of(library, query, key, key)
    found = in_numpy(survey(*inputs, mask=mask, tokens=tokens, statistics=everything()))
    visible = mask.dense(521, 2111)
    _, weights, _ = attention_oracle(query, key, key, visible=visible)
    np.testing.assert_allclose(found["weights"], weights, rtol=2e-6, atol=2e-6)
    assert_all_are_of_these_weights(found, 2111 - 521, tokens)
    # Where nobody reads the weights, they are nowhere: all else is the same, to the bit.
    alone = in_numpy(survey(*inputs, mask=mask, tokens=tokens))
    assert set(alone) < set(found)
    for name, array in alone.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)


@pytest.mark.parametrize("group", [1, 2, 3])
def test_heads_of_a_group_have_the_same_keys(library, small_blocks, calls, group):
    query, key = normal(2, 6, 17, D), normal(2, 6 // group, 19, D)
    found = in_numpy(survey(*of(library, query, key, key), statistics=[Weights()]))
    assert set(calls) == {"reduce_products"}
    _, weights, _ = attention_oracle(query, np.repeat(key, group, 1), np.repeat(key, group, 1))
    np.testing.assert_allclose(found["weights"], weights, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("gradients", [False, True])
def test_tensors_of_any_layout(small_blocks, calls, gradients):
    """A query as a model gives it, after a transpose, and one that learns."""
    query, key = (torch.randn(1, 23, 2, D).requires_grad_(gradients) for _ in range(2))
    query, key = query.transpose(1, 2), key.transpose(1, 2)
    found = survey(query, key, key, mask=Causal(), statistics=[Weights()])
    assert set(calls) == {"reduce_products"}
    doubles = [tensor.detach().double().numpy() for tensor in (query, key, key)]
    _, weights, _ = attention_oracle(*doubles, visible=np.tri(23, dtype=bool))
    np.testing.assert_allclose(found["weights"], weights, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("first_row", [1, 3, 31])
@pytest.mark.parametrize("tall", [6, 64])
def test_bins_that_begin_before_the_first_query(library, monkeypatch, tall, first_row):
    """The queries of a further call, under those of a prompt that ends within a bin."""
    monkeypatch.setattr(sharing, "TALL", tall)
    inputs = of(library, normal(2, 67, D), normal(2, 71, D), normal(2, 71, D))
    wishes = [Overview(width=32, first_row=first_row), Weights(), Received()]
    found = in_numpy(survey(*inputs, mask=Causal("end"), statistics=wishes))
    weights = np.concatenate([np.zeros((2, first_row, 71)), found["weights"]], axis=1)
    for row, col in np.ndindex(found["overview_mean"].shape[1:]):
        own = weights[:, 32 * row : 32 * row + 32, 32 * col : 32 * col + 32]
        np.testing.assert_allclose(found["overview_mean"][:, row, col], own.mean((1, 2)), 1e-5)
        np.testing.assert_array_equal(found["overview_max"][:, row, col], own.max((1, 2)))
    assert len(found["overview_mean"][0]) == -(-(67 + first_row) // 32)
    np.testing.assert_allclose(found["received"], found["weights"].sum(1), rtol=1e-5)


class Largest(Statistic):
    """The largest weight of bins of queries of one's own height."""

    results = {"largest": ("head", "row bin")}  # noqa: RUF012

    def __init__(self, height, *more):
        self.height, self.more = height, more

    def _begin(self):
        shape = (self.extent.heads, -(-self.extent.queries // self.height))
        self.max = self.extent.full(shape, 0.0)

    def asks(self):
        return (("row_bins", self.height, 0), *self.more)

    def update(self, block):
        for bins in block.row_bins(self.height):
            most = self.max[block.at_queries[0], bins.where]
            np.maximum(most, np.asarray(bins.maxima).max(-1), out=most)

    def merge(self, other):
        self.max = np.maximum(self.max, other.max)

    def result(self):
        return {"largest": self.max}


@pytest.mark.parametrize("wish", [Largest(5), Largest(9), Largest(7, "own name")])
def test_bins_and_names_that_the_kernel_does_not_make(library, small_blocks, wish):
    inputs = of(library, normal(2, 31, D), normal(2, 31, D), normal(2, 31, D))
    found = in_numpy(survey(*inputs, statistics=[wish, Overview(width=7), Weights()]))
    starts = range(0, 31, wish.height)
    wanted = [found["weights"][:, i : i + wish.height].max((1, 2)) for i in starts]
    np.testing.assert_array_equal(found["largest"], np.stack(wanted, 1))
    assert_equal(
        {"overview_max": found["overview_max"]},
        {"overview_max": overview(found["weights"], 5)[1]},
        "float32",
    )


@pytest.mark.parametrize("longest", [8, 16])
@pytest.mark.parametrize("gap", [0, 3])
def test_runs_end_where_memory_and_zeros_would_be_wasted(library, monkeypatch, longest, gap):
    for name, size in {"LONGEST": longest, "GAP": gap}.items():
        monkeypatch.setattr(compiled, name, size)
    for name, size in SIZES.items():
        monkeypatch.setattr(sharing, name, size)
    inputs = of(library, normal(1, 41, D), normal(1, 41, D), normal(1, 41, D))
    mask, tokens = Causal() & (Prefix(2) | Window(left=5, align="end")), np.arange(41) % 4
    found = in_numpy(survey(*inputs, mask=mask, tokens=tokens, statistics=everything()))
    assert_all_are_of_these_weights(found, 0, tokens)


def test_of_equal_weights_the_first_key_is_named(library, small_blocks):
    query, key = np.zeros((1, 5, 3)), np.ones((1, 23, 3))
    found = in_numpy(survey(*of(library, query, key, key), mask=~Prefix(6), statistics=["max"]))
    np.testing.assert_array_equal(found["max_key"], np.full((1, 5), 6))


@pytest.mark.parametrize("where", ["query", "key"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_shows_where_the_plain_path_shows_it(
    library, small_blocks, monkeypatch, bad, where
):
    rng, tokens = np.random.default_rng(41), np.arange(17) % 3
    query, key, value = (rng.standard_normal((2, n, D)) for n in (13, 17, 17))
    (query if where == "query" else key)[:, 9, 1] = bad
    asked = {"mask": Causal("start"), "engine": "streaming", "statistics": everything()}
    asked |= {"tokens": (tokens[:13], tokens)}
    inputs = of(library, query, key, value)
    found = in_numpy(survey(*inputs, **asked))
    monkeypatch.setattr(compiled, "WORTH", float("inf"))
    wanted = in_numpy(survey(*inputs, **asked))
    assert np.isnan(wanted["weights"]).any()
    assert not np.isnan(wanted["weights"][:, :9]).any()
    del found["logs"], wanted["logs"]  # behind the mask: any finite number
    for name, array in wanted.items():
        # A variance is a difference: within pieces of 16 keys it is good to 4e-6.
        power, atol = (2, 4e-6) if name == "distance_std" else (1, 1e-6)
        np.testing.assert_allclose(
            found[name] ** power, array**power, rtol=1e-5, atol=atol, err_msg=name
        )


def test_a_key_behind_the_mask_may_hold_anything(library, small_blocks):
    query, key, tokens = normal(2, 13, D), normal(2, 17, D), np.arange(17) % 3
    keep = np.arange(17) != 4
    asked = {"mask": KeyPadding(keep), "tokens": tokens, "statistics": everything()}
    asked["engine"] = "streaming"
    clean = in_numpy(survey(*of(library, query, key, key), **asked))
    for bad in (np.nan, np.inf, -np.inf):
        key[:, 4] = bad
        found = in_numpy(survey(*of(library, query, key, key), **asked))
        for name, array in clean.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


def test_scores_far_apart(library, small_blocks):
    query, key = np.full((5, 3), 30.0), np.linspace(-30, 30, 7)[:, None] * np.ones(3)
    found = in_numpy(survey(*of(library, query, key, key), statistics=[Weights()]))
    assert found["logs"].min() == -87
    assert found["weights"].min() == pytest.approx(np.exp(-87), rel=1e-6)
    np.testing.assert_allclose(found["weights"][:, -1], 1, rtol=1e-6)


def test_the_exponential_is_within_one_unit_in_the_last_place():
    from atento.statistics.exponential import exponentials

    x = np.concatenate([np.linspace(-87, 1, 4_000_037), [0, -0.0, 88, -87]]).astype(np.float32)
    x = np.concatenate([x, np.nextafter(x[::101], np.float32(-200))]).clip(-87, 88)
    found = x.copy()
    exponentials(found)
    exact = np.exp(x.astype(np.float64))
    units = np.abs(found - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert units.max() < 1
    assert found[x == 0].tolist() == [1.0] * np.count_nonzero(x == 0)


def test_the_exponential_of_what_has_none():
    from atento.statistics.exponential import exponentials

    numbers = np.array([np.nan, -np.nan, -np.inf, -1e30, np.inf, 1e30], np.float32)
    exponentials(numbers)
    assert np.isnan(numbers[:2]).all()
    assert not np.signbit(numbers[:2]).any()  # the order of bits is that of numbers
    np.testing.assert_allclose(numbers[2:4], np.exp(-87), rtol=1e-6)
    np.testing.assert_allclose(numbers[4:], np.exp(88), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(small_blocks, calls, dtype):
    inputs = [torch.from_numpy(array).to(dtype) for array in (QUERY, KEY, VALUE)]
    doubles = [array.double().numpy() for array in inputs]
    _, weights, _ = attention_oracle(*doubles, visible=MASKS["causal, end"][1])
    found = survey(*inputs, mask=Causal("end"), statistics=[Weights()])
    assert calls
    np.testing.assert_allclose(found["weights"], weights, rtol=2e-6, atol=2e-6)


def test_double_precision_and_small_requests_take_the_plain_path(library, calls, monkeypatch):
    doubles = [array.astype(np.float64) for array in (QUERY, KEY, VALUE)]
    survey(*(map(torch.from_numpy, doubles) if library == "torch" else doubles))
    assert not calls
    monkeypatch.setattr(compiled, "WORTH", QUERY[..., 0].size * TK + 1)
    survey(*of(library, QUERY, KEY, VALUE))
    assert not calls
    monkeypatch.setattr(compiled, "WORTH", QUERY[..., 0].size * TK)
    survey(*of(library, QUERY, KEY, VALUE))
    assert calls


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bits_come_each_time(library, monkeypatch, threads):
    monkeypatch.setattr("atento.statistics.on_numpy.available_cores", lambda: threads)
    monkeypatch.setattr(sharing, "TALL", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    inputs = of(library, normal(1, 97, D), normal(1, 101, D), normal(1, 101, 3))
    runs = [in_numpy(survey(*inputs, mask=Causal("end"))) for _ in range(5)]
    torch.set_num_threads(before)
    for again in runs[1:]:
        assert all(runs[0][name].tobytes() == again[name].tobytes() for name in again)


BROKEN = """
import sys
import numpy as np
{what}
from atento.statistics import compiled, survey
compiled.WORTH = 0
x = np.ones((1, 5, 3), np.float32)
print(compiled.available(), np.exp(survey(x, x, x)["entropy"]).round(3).sum())
"""


@pytest.mark.parametrize(
    "what",
    [
        "sys.modules['numba'] = None",
        "sys.modules['llvmlite'] = None",
        "import numba; numba.njit = lambda *a, **k: 1 / 0",
        "import numba.core.caching as c; c.CacheImpl._locator_classes = []",
    ],
)
def test_where_numba_is_missing_or_broken_the_plain_path_serves(what):
    code = BROKEN.format(what=what)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False 25.0\n"
    assert done.stderr == ""


def test_numba_is_not_loaded_for_little_work():
    code = (
        "import sys, numpy as np; from atento.statistics import survey;"
        "x = np.ones((1, 5, 3), 'f4'); survey(x, x, x); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
