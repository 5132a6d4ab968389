"""What attention must do for any input: properties, not examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento.masks import Causal, Prefix

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)
engines = st.sampled_from(["dense", "streaming"])


@given(sizes, sizes, sizes, sizes, seeds, st.floats(0, 50))
def test_weights_sum_to_one_or_zero(Tq, Tk, d, dv, seed, spread):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal(s) * spread for s in ((Tq, d), (Tk, d), (Tk, dv)))
    seen = rng.random((Tq, Tk)) < 0.4
    weights = atento.trace(query, key, value, mask=seen)["weights"].value
    np.testing.assert_allclose(weights.sum(-1), seen.any(-1), atol=1e-12)
    assert (weights >= 0).all()
    assert not weights[~seen].any()


@given(sizes, sizes, sizes, seeds, engines)
def test_permuting_the_keys_changes_nothing(Tq, Tk, d, seed, engine):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal(s) for s in ((Tq, d), (Tk, d), (Tk, 3)))
    seen, order = rng.random((Tq, Tk)) < 0.7, rng.permutation(Tk)
    plain = atento.attention(query, key, value, mask=seen, engine=engine)
    permuted = atento.attention(query, key[order], value[order], mask=seen[:, order], engine=engine)
    np.testing.assert_allclose(plain, permuted, rtol=1e-12, atol=1e-12)


@given(sizes, sizes, seeds, engines, st.floats(-1e3, 1e3))
def test_a_constant_added_to_a_row_of_scores_changes_nothing(T, d, seed, engine, constant):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((T, d)) for _ in range(3))
    plain = atento.attention(query, key, value, engine=engine)
    bias = np.full((T, 1), constant)
    shifted = atento.attention(query, key, value, bias=bias, engine=engine)
    np.testing.assert_allclose(plain, shifted, rtol=1e-11, atol=1e-11)


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 30))
def test_blocks_of_any_size_agree(seed, rows, cols, spread):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((2, T, 5)) * spread for T in (11, 13, 13))
    whole = atento.attention(query, key, value, mask=Causal("end"), engine="dense")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atento.equation.streaming.ROWS", rows)
        patch.setattr("atento.equation.streaming.COLS", cols)
        blocks = atento.attention(query, key, value, mask=Causal("end"), engine="streaming")
    np.testing.assert_allclose(whole, blocks, rtol=1e-12, atol=1e-11)


@given(seeds, engines)
def test_the_output_lies_between_the_values(seed, engine):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((7, 5)) for _ in range(3))
    output = atento.attention(query, key, value, engine=engine)
    assert (output <= value.max(0) + 1e-12).all()
    assert (output >= value.min(0) - 1e-12).all()


@given(seeds)
def test_a_mask_and_its_complement_share_out_the_whole(seed):
    """With e^lse as each part's mass, the two halves add up to unmasked attention."""
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((7, 5)) for _ in range(3))
    seen = rng.random((7, 7)) < 0.5
    whole = atento.attention(query, key, value)
    mass = np.exp(atento.trace(query, key, value)["scaled"].value)
    share = (mass * seen).sum(-1, keepdims=True) / mass.sum(-1, keepdims=True)
    parts = [atento.attention(query, key, value, mask=m) for m in (seen, ~seen)]
    np.testing.assert_allclose(share * parts[0] + (1 - share) * parts[1], whole, atol=1e-12)


@given(seeds, st.integers(0, 7))
def test_what_a_causal_query_has_seen_does_not_depend_on_what_comes(seed, prefix):
    rng = np.random.default_rng(seed)
    query, key, value = (rng.standard_normal((7, 5)) for _ in range(3))
    mask = Causal() | Prefix(prefix)
    full = atento.attention(query, key, value, mask=mask)
    cut = max(prefix, 5)
    part = atento.attention(query[:cut], key[:cut], value[:cut], mask=mask)
    np.testing.assert_allclose(full[:cut], part, atol=1e-12)
