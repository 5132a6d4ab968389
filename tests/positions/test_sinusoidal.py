"""Sinusoidal positions: the paper's formula, and the same vectors in every library."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atento import DTypeError, InputError, ShapeError
from atento.positions import Sinusoidal, sinusoidal


@pytest.mark.parametrize(("d_model", "base", "start"), [(14, 10000.0, 0), (7, 313.0, 5)])
def test_every_entry_by_the_papers_formula(d_model, base, start):
    table = sinusoidal(11, d_model, base=base, start=start)
    assert table.shape == (11, d_model)
    for row in range(11):
        for feature in range(d_model):
            angle = (start + row) / base ** (2 * (feature // 2) / d_model)
            wanted = math.cos(angle) if feature % 2 else math.sin(angle)
            assert table[row, feature] == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_products_depend_on_the_distance_only(i, j, shift):
    def product(i, j):
        return float(sinusoidal(1, 12, start=i)[0] @ sinusoidal(1, 12, start=j)[0])

    assert product(i, j) == pytest.approx(product(i + shift, j + shift), rel=1e-9, abs=1e-9)


def test_a_later_start_is_the_rest_of_the_table():
    np.testing.assert_array_equal(sinusoidal(5, 14, start=8), sinusoidal(13, 14)[8:])
    assert sinusoidal(0, 6).shape == (0, 6)


def test_embed_adds_the_table_in_every_library_and_dtype():
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 10))
    wanted = x + sinusoidal(7, 10, base=313.0, start=5)
    rule = Sinusoidal(base=313.0)
    np.testing.assert_array_equal(rule.embed(x, start=5), wanted)
    strict = rule.embed(array_api_strict.asarray(x), start=5)
    np.testing.assert_allclose(np.asarray(strict), wanted, rtol=1e-12, atol=1e-12)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 3e-6), ("bfloat16", 2e-2)):
        y = rule.embed(torch.tensor(x).to(getattr(torch, dtype)), start=5)
        assert y.dtype == getattr(torch, dtype)
        np.testing.assert_allclose(y.double(), wanted, rtol=tolerance, atol=tolerance)
    assert rule.embed(torch.zeros(3, 7, 10, device="meta")).shape == (3, 7, 10)


def test_far_positions_in_bfloat16_are_not_rounded():
    zeros = torch.zeros(3, 2, dtype=torch.bfloat16)
    wanted = torch.tensor(sinusoidal(3, 2, start=1001)).to(torch.bfloat16)
    torch.testing.assert_close(Sinusoidal().embed(zeros, start=1001), wanted, rtol=1e-2, atol=1e-3)


def test_wrong_use_is_refused():
    with pytest.raises(InputError, match=r"num_tokens must be a whole number; got 2.5"):
        sinusoidal(2.5, 4)
    with pytest.raises(InputError, match="d_model must be at least 1; got 0"):
        sinusoidal(2, 0)
    with pytest.raises(InputError, match="start must be at least 0; got -1"):
        sinusoidal(2, 4, start=-1)
    with pytest.raises(InputError, match="base must be a finite number above 1; got 1"):
        Sinusoidal(1)
    with pytest.raises(ShapeError, match=r"\(..., token, feature\); got shape \(4,\)"):
        Sinusoidal().embed(np.zeros(4))
    with pytest.raises(DTypeError, match="x must hold floating-point numbers; got int64"):
        Sinusoidal().embed(np.zeros((3, 4), int))
