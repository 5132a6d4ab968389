"""DistanceBias: one number per diagonal says the whole bias, tile by tile."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atento import DTypeError, InputError, ShapeError, attention
from atento.positions import DistanceBias


def by_definition(values, Tq, Tk):
    """``bias[..., i, j] = values[..., j − i + Tq − 1]``, by loops."""
    bias = np.zeros((*values.shape[:-1], Tq, Tk), values.dtype)
    for i in range(Tq):
        for j in range(Tk):
            bias[..., i, j] = values[..., j - i + Tq - 1]
    return bias


@given(st.integers(1, 13), st.integers(1, 11), st.data())
def test_every_tile_is_its_slice_of_the_dense_form(Tq, Tk, data):
    values = np.random.default_rng(Tq * Tk).standard_normal((2, 3, Tq + Tk - 1))
    bias = DistanceBias(values, (Tq, Tk))
    dense = by_definition(values, Tq, Tk)
    np.testing.assert_array_equal(bias.dense(), dense)
    r0, c0 = data.draw(st.integers(0, Tq)), data.draw(st.integers(0, Tk))
    rows = range(r0, data.draw(st.integers(r0, Tq)))
    cols = range(c0, data.draw(st.integers(c0, Tk)))
    tile = bias.tile(rows, cols)
    np.testing.assert_array_equal(tile, dense[..., r0 : rows.stop, c0 : cols.stop])
    assert tile.shape == (2, 3, len(rows), len(cols))


@pytest.mark.parametrize(("lengths", "n"), [((0, 0), 0), ((0, 5), 4), ((5, 0), 4), ((1, 1), 1)])
def test_lengths_without_pairs(lengths, n):
    assert DistanceBias(np.zeros((3, n)), lengths).dense().shape == (3, *lengths)


@pytest.mark.parametrize("library", [array_api_strict, torch])
def test_the_result_is_of_the_library_and_dtype_of_the_values(library):
    values = library.asarray(np.arange(17.0), dtype=library.float32)
    tile = DistanceBias(values, (7, 11)).tile(range(2, 5), range(3, 8))
    assert type(tile) is type(values)
    assert tile.dtype == library.float32
    wanted = by_definition(np.arange(17.0), 7, 11)[2:5, 3:8]
    np.testing.assert_array_equal(np.asarray(tile), wanted)


def test_the_gradient_of_a_value_is_the_sum_over_its_diagonal():
    values = torch.randn(3, 17, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 7, 11, dtype=torch.float64)
    DistanceBias(values, (7, 11)).dense().backward(upstream)
    wanted = torch.stack([upstream.diagonal(k, 1, 2).sum(-1) for k in range(-6, 11)], -1)
    torch.testing.assert_close(values.grad, wanted)
    assert torch.autograd.gradcheck(
        lambda v: DistanceBias(v, (7, 11)).tile(range(2, 5), range(3, 8)), values
    )


def test_the_values_stay_as_they_are():
    values = np.arange(5.0)
    DistanceBias(values, (2, 4)).dense()[:] = 7
    np.testing.assert_array_equal(values, np.arange(5.0))


@pytest.mark.parametrize(
    ("values", "lengths", "error", "text"),
    [
        (np.zeros(18), (7, 11), ShapeError, "stand 17 different distances apart"),
        (np.zeros(()), (1, 1), ShapeError, r"got values \(\)"),
        (np.zeros(17, int), (7, 11), DTypeError, "must hold floating-point numbers; got int64"),
        (np.zeros(17), (7, 11, 2), ShapeError, r"must be \(Tq, Tk\)"),
        (np.zeros(17), (7.0, 11), InputError, "must be a whole number; got 7.0"),
        (np.zeros(17), (-1, 19), InputError, "must be at least 0; got -1"),
    ],
)
def test_wrong_values_are_refused(values, lengths, error, text):
    with pytest.raises(error, match=text):
        DistanceBias(values, lengths)


@pytest.mark.parametrize("rows", [range(8), range(-1, 3), range(0, 6, 2), slice(0, 3), 3], ids=repr)
def test_rows_outside_of_the_bias_are_refused(rows):
    bias = DistanceBias(np.zeros(17), (7, 11))
    with pytest.raises(ShapeError, match="rows must be consecutive positions of 0…6, as a range"):
        bias.tile(rows, range(3))
    with pytest.raises(ShapeError, match="cols must be consecutive positions of 0…10"):
        bias.tile(range(3), range(12))


def test_it_prints_short():
    assert repr(DistanceBias(np.zeros((3, 17)), (7, 11))) == (
        "DistanceBias(values (3, 17), lengths=(7, 11))"
    )


@pytest.mark.parametrize("engine", ["dense", "streaming"])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_attention_takes_one_as_its_bias(kind, engine):
    rng = np.random.default_rng(5)
    query, key, value = (kind(rng.standard_normal((2, 3, T, 5))) for T in (7, 11, 11))
    bias = DistanceBias(kind(rng.standard_normal((3, 17)).astype(np.float32)), (7, 11))
    dense = bias.dense()
    wide = dense.double() if kind is torch.tensor else dense.astype(float)
    found = attention(query, key, value, bias=bias, engine=engine)
    np.testing.assert_allclose(found, attention(query, key, value, bias=wide), rtol=1e-12)


@pytest.mark.parametrize(
    ("bias", "error", "text"),
    [
        (DistanceBias(np.zeros(16), (7, 10)), ShapeError, r"lengths must be \(7, 11\)"),
        (DistanceBias(np.zeros((2, 17)), (7, 11)), ShapeError, r"broadcast to \(3,\)"),
        (DistanceBias(np.zeros((1, 1, 17)), (7, 11)), ShapeError, r"broadcast to \(3,\)"),
        (DistanceBias(torch.zeros(17), (7, 11)), DTypeError, "is a torch array and query a numpy"),
    ],
)
def test_one_that_does_not_fit_is_refused(bias, error, text):
    query, key = np.ones((3, 7, 5)), np.ones((3, 11, 5))
    with pytest.raises(error, match=text):
        attention(query, key, key, bias=bias)
