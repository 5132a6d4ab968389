"""attention and trace against the float64 oracle, over everything that can be asked for."""

import itertools

import array_api_strict
import numpy as np
import pytest
import torch

import atento
from atento.equation.dropout import kept
from atento.equation.request import checked_request
from atento.equation.streaming import stream
from atento.masks import Causal, KeyPadding, Prefix, Rule, Segments, Window
from oracle import attention_oracle

try:
    import jax
except ImportError:  # optional: see CHANGELOG
    jax = None

# All sizes are different primes, so that a swapped axis cannot go unseen.
B, HKV, G, TQ, TK, D, DV = 2, 3, 5, 7, 11, 13, 17
H = HKV * G

LIBRARIES = {
    "numpy": np.asarray,
    "torch": torch.from_numpy,
    "strict": array_api_strict.asarray,
} | ({"jax": jax.numpy.asarray} if jax else {})


def arrays(rng, dtype=np.float64):
    return (
        rng.standard_normal((B, H, TQ, D)).astype(dtype),
        rng.standard_normal((B, HKV, TK, D)).astype(dtype),
        rng.standard_normal((B, HKV, TK, DV)).astype(dtype),
    )


def kept_pairs(seed, rate, unit, Tq, Tk):
    return kept(seed, rate, unit, np.arange(Tq)[:, None], np.arange(Tk), np)


@pytest.fixture
def rng():
    return np.random.default_rng(2017)


def options(rng):
    """Every option alone, and all together."""
    sinks = rng.standard_normal(H)
    bias = rng.standard_normal((H, TQ, TK))
    keep = rng.random((B, TK)) < 0.7
    one_per_option = {
        "plain": {},
        "scale": {"scale": 0.5},
        "softcap": {"softcap": 1.5},
        "bias": {"bias": bias},
        "bias of one batch item": {"bias": rng.standard_normal((B, 1, TQ, 1))},
        "bias that hides the first keys": {"bias": np.where(np.arange(TK) < 6, -1e9, 0.0)},
        "sinks": {"sinks": sinks},
        "one sink": {"sinks": 0.25},
        "causal, start": {"mask": Causal(align="start")},
        "causal, end": {"mask": Causal(align="end")},
        "window": {"mask": Window(left=2, right=1, align="end")},
        "padding": {"mask": KeyPadding(keep)},
        "segments": {"mask": Segments(np.arange(TQ) // 3, np.arange(TK) // 4)},
        "prefix": {"mask": Causal(align="start") | Prefix(3)},
        "rule": {"mask": Rule(lambda b, h, q, k: (q + 2 * k + h + b) % 3 != 0)},
        "nobody": {"mask": Prefix(0)},
        "array": {"mask": rng.random((B, 1, TQ, TK)) < 0.5},
    }
    everything = {
        "softcap": 2.0,
        "bias": bias,
        "sinks": sinks,
        "mask": Causal(align="end") & KeyPadding(keep),
        "scale": 0.3,
    }
    return one_per_option | {"everything": everything}


NAMES = list(options(np.random.default_rng(0)))


def dense(mask):
    if mask is None or isinstance(mask, np.ndarray):
        return mask
    return np.stack(  # a Rule sees batch and head, so each is asked for its own tile
        [np.stack([tile(mask.bind((B, H, TQ, TK)).at((b, h))) for h in range(H)]) for b in range(B)]
    )


def tile(mask):
    return mask.dense(TQ, TK)


def expected(query, key, value, mask=None, **rest):
    return attention_oracle(query, key, value, visible=dense(mask), **rest)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_equals_the_oracle(library, name, rng):
    query, key, value = arrays(rng)
    asked = options(rng)[name]
    output, weights, _ = expected(query, key, value, **asked)
    convert = LIBRARIES[library]
    foreign = {
        option: convert(given)
        if isinstance(given, np.ndarray) and option in ("bias", "sinks")
        else given
        for option, given in asked.items()
    }
    rtol = 1e-5 if library == "jax" else 1e-12  # JAX computes in float32 unless told otherwise
    inputs = [convert(x) for x in (query, key, value)]
    result = atento.attention(*inputs, **foreign)
    assert type(result) is type(inputs[0])
    np.testing.assert_allclose(np.from_dlpack(result), output, rtol=rtol, atol=rtol)
    trace = atento.trace(*inputs, **foreign)
    np.testing.assert_allclose(
        np.from_dlpack(trace["weights"].value), weights, rtol=rtol, atol=rtol
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_streaming_equals_the_oracle(name, dtype, rtol, rng, monkeypatch):
    monkeypatch.setattr("atento.equation.streaming.ROWS", 3)
    monkeypatch.setattr("atento.equation.streaming.COLS", 5)
    query, key, value = arrays(rng, dtype)
    asked = options(rng)[name]
    asked = {
        option: given.astype(dtype)
        if option in ("bias", "sinks") and option != "one sink" and isinstance(given, np.ndarray)
        else given
        for option, given in asked.items()
    }
    output, _, lse = expected(query, key, value, **asked)
    for spread in (1, 40):  # 40: scores far beyond what Cauchy–Schwarz lets pass without a maximum
        if spread == 40:
            query, rtol = query * dtype(40), rtol * 40
            output, _, lse = expected(query, key, value, **asked)
        streamed = stream(request(query, key, value, **asked))
        assert streamed.output.dtype == dtype
        np.testing.assert_allclose(streamed.output, output, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(streamed.lse, lse, rtol=rtol, atol=rtol)


def request(query, key, value, **asked):
    defaults = dict.fromkeys(["mask", "bias", "scale", "softcap", "sinks", "seed"])
    return checked_request(query, key, value, **(defaults | {"dropout": 0.0} | asked))


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_dropout_drops_the_same_weights_on_every_engine(engine, rng, monkeypatch):
    monkeypatch.setattr("atento.equation.streaming.ROWS", 3)
    monkeypatch.setattr("atento.equation.streaming.COLS", 5)
    query, key, value = arrays(rng)
    mask = Causal(align="end")
    keep = np.stack([kept_pairs(99, 0.4, unit, TQ, TK) for unit in range(B * H)]).reshape(
        B, H, TQ, TK
    )
    output, _, _ = expected(query, key, value, mask=mask, kept=keep, dropout=0.4)
    result = atento.attention(query, key, value, mask=mask, dropout=0.4, seed=99, engine=engine)
    np.testing.assert_allclose(result, output, rtol=1e-12, atol=1e-12)


def test_dropout_keeps_the_share_it_says_and_seeds_differ():
    pairs = kept_pairs(5, 0.3, 2, 400, 500)
    assert abs(pairs.mean() - 0.7) < 0.005
    assert abs(np.corrcoef(pairs[:, :-1].ravel(), pairs[:, 1:].ravel())[0, 1]) < 0.01
    other = kept_pairs(6, 0.3, 2, 400, 500)
    assert abs((pairs == other).mean() - (0.7**2 + 0.3**2)) < 0.005


def test_dropout_is_random_unless_seeded(rng):
    query, key, value = arrays(rng)
    drawn = [atento.attention(query, key, value, dropout=0.5) for _ in range(2)]
    assert not np.array_equal(*drawn)
    seeded = [
        atento.attention(query, key, value, dropout=0.5, seed=np.random.default_rng(3))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*seeded)
    step = atento.trace(query, key, value, dropout=0.5, seed=3)["dropped"]
    assert set(np.round(step.value / atento.trace(query, key, value)["weights"].value, 9).flat) == {
        0.0,
        2.0,
    }


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 5, 3), (1, 2, 5, 3)])
def test_any_leading_axes(leading, engine, rng):
    query = rng.standard_normal((*leading, TQ, D))
    key = rng.standard_normal((*leading, TK, D))
    value = rng.standard_normal((*leading, TK, DV))
    seen = Rule(lambda b, h, q, k: (b + h + q + k) % 2 == 0)
    output = atento.attention(query, key, value, mask=seen, engine=engine)
    heads = leading[-1] if leading else 1
    for index in np.ndindex(leading):
        batch = np.ravel_multi_index(index[:-1], leading[:-1]) if len(index) > 1 else 0
        head = index[-1] if index else 0
        assert head < heads
        i, j = np.indices((TQ, TK))
        alone, _, _ = attention_oracle(
            query[index], key[index], value[index], visible=(batch + head + i + j) % 2 == 0
        )
        np.testing.assert_allclose(output[index], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float16, 1e-3), (np.float32, 2e-6), (np.float64, 1e-12)]
)
def test_every_precision_returns_its_own_dtype(engine, dtype, rtol, rng):
    query, key, value = arrays(rng, dtype)
    output = atento.attention(query, key, value, engine=engine)
    assert output.dtype == dtype
    np.testing.assert_allclose(output, expected(query, key, value)[0], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_torch_is_accumulated_in_float32(dtype, rng):
    query, key, value = (torch.from_numpy(x).to(dtype) for x in arrays(rng))
    output = atento.attention(query, key, value)
    assert output.dtype == dtype
    exact = expected(*(x.to(torch.float64).numpy() for x in (query, key, value)))[0]
    # One rounding at the very end: half a unit in the last place.
    rounding = torch.finfo(dtype).eps / 2
    np.testing.assert_allclose(output.double(), exact, rtol=1.01 * rounding, atol=1e-6)


def test_float32_against_float64_on_standard_normals():
    rng = np.random.default_rng(4)
    query, key, value = (rng.standard_normal((1, 192, 64)) for _ in range(3))
    exact = attention_oracle(query, key, value)[0]
    for engine in ("dense", "streaming"):
        single = atento.attention(
            *(x.astype(np.float32) for x in (query, key, value)), engine=engine
        )
        # The inputs' own rounding is part of neither: the oracle sees the same numbers.
        same = attention_oracle(*(x.astype(np.float32) for x in (query, key, value)))[0]
        assert np.abs(single - same).max() <= 2e-6
        assert np.abs(single - exact).max() <= 2e-6


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize("sign", [1, -1])
def test_scores_of_ten_thousand_stay_within_what_their_rounding_allows(engine, sign):
    """A score s in float32 is off by at most δ = γ_d Σ|q k| · scale, with γ_d = d ε / (1 − d ε)
    plus one rounding for the scale; each weight is then off by a factor in e^±2δ, and so is the
    output by at most (e^2δ − 1) · max|v|, plus ordinary rounding."""
    rng = np.random.default_rng(7)
    d = 4
    query, key = (rng.uniform(50, 90, (64, d)).astype(np.float32) for _ in range(2))
    value = rng.standard_normal((64, 5)).astype(np.float32)
    query *= np.float32(sign)
    assert np.abs(query @ key.T * 0.5).max() > 1e4
    exact, _, _ = attention_oracle(query, key, value, scale=0.5)
    result = atento.attention(query, key, value, scale=0.5, engine=engine)
    assert np.isfinite(result).all()
    eps = np.finfo(np.float32).eps / 2
    delta = (d + 2) * eps / (1 - (d + 2) * eps) * (np.abs(query) @ np.abs(key).T).max() * 0.5
    bound = np.expm1(2 * delta) * np.abs(value).max() + 2e-6
    assert bound < 0.1  # a bound that says something
    assert np.abs(result - exact).max() <= bound


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize("name", ["causal rows before the first key", "nobody", "minus infinity"])
def test_a_query_that_may_see_no_key_gets_zeros(engine, name, rng):
    query, key, value = arrays(rng)
    asked = {
        "causal rows before the first key": {
            "mask": Window(left=1, right=-0, align="start")
            & Window(left=None, right=0, align="start")
            & ~Prefix(4)
        },
        "nobody": {"mask": Prefix(0)},
        "minus infinity": {"bias": np.full((TQ, TK), -np.inf)},
    }[name]
    _, weights, _ = expected(query, key, value, **asked)
    blind = ~weights.any(-1)
    assert blind.any()
    for sinks in (None, np.full(H, 3.0)):
        result = atento.attention(query, key, value, sinks=sinks, engine=engine, **asked)
        assert not result[blind].any()
        assert np.isfinite(result).all()
        weights = atento.trace(query, key, value, sinks=sinks, **asked)["weights"].value
        assert not weights[blind].any()
        assert np.isneginf(
            stream(request(query, key, value, sinks=sinks, **asked)).lse[blind]
        ).all()


@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_no_keys_at_all(engine):
    output = atento.attention(
        np.ones((2, 3, 5)), np.ones((2, 0, 5)), np.ones((2, 0, 7)), engine=engine
    )
    np.testing.assert_array_equal(output, np.zeros((2, 3, 7)))
    trace = atento.trace(np.ones((3, 5)), np.ones((0, 5)), np.ones((0, 7)))
    assert trace["weights"].value.shape == (3, 0)
    empty = atento.attention(
        np.ones((2, 0, 5)), np.ones((2, 3, 5)), np.ones((2, 3, 7)), engine=engine
    )
    assert empty.shape == (2, 0, 7)
    none = atento.attention(
        np.ones((0, 2, 3, 5)), np.ones((0, 2, 3, 5)), np.ones((0, 2, 3, 7)), engine=engine
    )
    assert none.shape == (0, 2, 3, 7)


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["query", "key", "value"])
def test_nan_is_passed_on_to_those_who_see_it_and_to_no_one_else(
    engine, bad, where, rng, monkeypatch
):
    monkeypatch.setattr("atento.equation.streaming.ROWS", 3)
    monkeypatch.setattr("atento.equation.streaming.COLS", 5)
    query, key, value = (rng.standard_normal((7, 5)) for _ in range(3))
    clean = atento.attention(query, key, value, mask=Causal())
    {"query": query, "key": key, "value": value}[where][4, 2] = bad
    with np.errstate(all="ignore"):
        output = atento.attention(query, key, value, mask=Causal(), engine=engine)
        trace = atento.trace(query, key, value, mask=Causal())
    np.testing.assert_allclose(output[:4], clean[:4], rtol=1e-12)  # they may not see token 4
    if where == "query":
        np.testing.assert_allclose(output[5:], clean[5:], rtol=1e-12)
    np.testing.assert_allclose(output, trace.output, rtol=1e-12)
    if np.isnan(bad):
        seen = output[4:] if where != "query" else output[4]
        seen = seen[:, 2] if where == "value" else seen
        assert np.isnan(seen).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["query", "key", "value", "bias", "sinks"])
@pytest.mark.parametrize("engine", ["dense", "streaming"])
def test_what_is_not_finite_is_no_matter_for_numpys_warnings(engine, bad, where, rng):
    given = {name: rng.standard_normal((2, 3, 5)) for name in ("query", "key", "value")}
    given |= {"bias": np.zeros((3, 3)), "sinks": np.zeros(2)}
    given[where][1] = bad
    output, lse = atento.attention(**given, engine=engine, return_lse=True)
    surveyed = atento.survey(**given, engine=engine)
    np.testing.assert_allclose(surveyed.output, output, rtol=1e-12)
    np.testing.assert_allclose(surveyed.lse, lse, rtol=1e-12)
    traced = atento.trace(**given)
    np.testing.assert_allclose(traced.output, output, rtol=1e-12)


def test_inputs_are_never_modified(rng):
    inputs = arrays(rng, np.float32)
    copies = [x.copy() for x in inputs]
    for array in inputs:
        array.flags.writeable = False
    for engine in ("dense", "streaming"):
        atento.attention(*inputs, mask=Causal("end"), softcap=2.0, engine=engine)
    trace = atento.trace(*inputs)
    for array, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    with pytest.raises(ValueError, match="read-only"):
        trace["weights"].value[:] = 0


def test_a_trace_never_aliases_a_writable_view_of_the_input(rng):
    query, key, value = arrays(rng)
    trace = atento.trace(query, key, value)
    assert query.flags.writeable
    assert not trace["queries"].value.flags.writeable


def test_strided_and_big_endian_inputs(rng):
    query, key, value = arrays(rng, np.float32)
    wanted = atento.attention(query, key, value)
    for engine in ("dense", "streaming"):
        swapped = [
            np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (query, key, value)
        ]
        np.testing.assert_allclose(
            atento.attention(*swapped, engine=engine), wanted, rtol=1e-6, atol=1e-6
        )
        reversed_ = [x[..., ::-1] for x in (query, key)]
        np.testing.assert_allclose(
            atento.attention(*reversed_, value, engine=engine), wanted, rtol=1e-6, atol=1e-6
        )
        other_end = [x.astype(x.dtype.newbyteorder()) for x in (query, key, value)]
        np.testing.assert_allclose(
            atento.attention(*other_end, engine=engine), wanted, rtol=1e-6, atol=1e-6
        )


def test_nested_lists_are_arrays():
    rows = [[1.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose(
        atento.attention(rows, rows, rows), [[0.6698, 0.3302], [0.3302, 0.6698]], atol=5e-5
    )


def test_torch_gradients_of_the_dense_engine(rng):
    query, key, value = (
        torch.from_numpy(rng.standard_normal((2, 3, 5))).requires_grad_() for _ in range(3)
    )
    nobody_for_the_first = ~Prefix(1) & Causal()

    def f(q, k, v):
        return atento.attention(q, k, v, mask=nobody_for_the_first, softcap=2.0)

    assert torch.autograd.gradcheck(f, (query, key, value))
    f(query, key, value).sum().backward()
    assert torch.isfinite(query.grad).all()
    assert not query.grad[:, 0].any()  # convention 4: gradient 0


def test_many_threads_at_once_agree(rng):
    from concurrent.futures import ThreadPoolExecutor

    inputs = [rng.standard_normal((4, 300, 16)).astype(np.float32) for _ in range(3)]
    wanted = atento.attention(*inputs, engine="streaming")
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: atento.attention(*inputs, engine="streaming"), range(12)))
    for result in results:
        np.testing.assert_array_equal(result, wanted)


def test_the_blas_threads_are_given_back(rng):
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

    inputs = [rng.standard_normal((4, 300, 16)) for _ in range(3)]
    with threadpool_limits(2, user_api="blas"):
        during = []
        seen = Rule(lambda b, h, q, k: during.append(blas()) or (q >= 0) & (k >= 0))
        atento.attention(*inputs, mask=seen, engine="streaming")
        assert during[0] == {1}
        assert blas() == {2}
        with pytest.raises(ZeroDivisionError):
            atento.attention(*inputs, mask=Rule(lambda b, h, q, k: 1 // 0), engine="streaming")
        assert blas() == {2}


def test_the_blas_threads_are_given_back_whoever_leaves_last():
    """threadpoolctl 3.8 ignores all threads but the first that ever set a limit."""
    from threading import Barrier, Thread

    from threadpoolctl import ThreadpoolController, threadpool_limits

    from atento.equation.blas import one_blas_thread

    def blas():
        return {
            one.num_threads
            for one in ThreadpoolController().lib_controllers
            if one.user_api == "blas"
        }

    entered, left, within = Barrier(2, timeout=60), Barrier(2, timeout=60), []

    def first():
        with one_blas_thread():
            within.append(blas())
            entered.wait()
        left.wait()

    with threadpool_limits(2, user_api="blas"):
        with one_blas_thread():
            within.append(blas())
        thread = Thread(target=first)
        thread.start()
        with one_blas_thread():
            entered.wait()
            left.wait()
            within.append(blas())
        thread.join()
        assert within == [{1}, {1}, {1}]
        assert blas() == {2}
        with one_blas_thread():
            assert blas() == {1}
        assert blas() == {2}


@pytest.mark.parametrize(
    ("masked", "capped", "biased"), list(itertools.product([False, True], repeat=3))
)
def test_a_step_is_there_only_when_it_happened(masked, capped, biased, rng):
    query, key, value = arrays(rng)
    asked = {}
    if masked:
        asked["mask"] = Causal("end")
    if capped:
        asked["softcap"] = 3.0
    if biased:
        asked["bias"] = np.zeros((TQ, TK))
    trace = atento.trace(query, key, value, **asked)
    names = ["queries", "keys", "values", "scores", "scaled"]
    names += ["capped"] * capped + ["biased"] * biased + ["masked"] * masked
    assert [step.name for step in trace] == [*names, "weights", "output"]
    assert len(trace) == len(names) + 2
    assert ("masked" in trace) == masked
    assert trace["weights"].axes == ("batch", "head", "query", "key")
    assert trace.output is trace["output"].value
    last = "masked" if masked else "biased" if biased else "capped" if capped else "scaled"
    assert trace["weights"].formula == f"softmax({last})"
    with pytest.raises(atento.InputError, match="has no step 'nonsense'"):
        trace["nonsense"]


def test_plan_says_which_engine_and_why(rng):
    small, large = np.ones((1, 8, 4)), np.ones((4, 1024, 4), np.float32)
    assert atento.plan(small, small, small).engine == "dense"
    chosen = atento.plan(large, large, large)
    assert chosen.engine == "streaming"
    assert "4,194,304 weights" in chosen.reason
    foreign = torch.ones(4, 1024, 4)
    assert atento.plan(foreign, foreign, foreign).engine == "fused"
    assert atento.plan(foreign, foreign, foreign, softcap=2.0).engine == "streaming"


def test_auto_equals_the_engines_it_picks_from(rng):
    inputs = [rng.standard_normal((2, 700, 24)).astype(np.float32) for _ in range(3)]
    auto, dense_, streaming = (
        atento.attention(*inputs, mask=Causal(), engine=engine)
        for engine in ("auto", "dense", "streaming")
    )
    np.testing.assert_array_equal(auto, streaming)
    np.testing.assert_allclose(dense_, streaming, rtol=1e-6, atol=1e-6)
