"""ALiBi: the paper's slopes and distances, and Bloom's tensor."""

import array_api_compat.torch as xp
import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from atento import InputError, ShapeError
from atento.positions import Alibi, alibi, alibi_slopes


def slopes_of_the_paper(n):
    """``get_slopes`` of the paper's repository, as it stands there."""
    import math

    def get_slopes_power_of_2(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n).is_integer():
        return get_slopes_power_of_2(n)
    closest = 2 ** math.floor(math.log2(n))
    return get_slopes_power_of_2(closest) + slopes_of_the_paper(2 * closest)[0::2][: n - closest]


def test_eight_heads_have_the_slopes_printed_in_the_paper():
    np.testing.assert_array_equal(alibi_slopes(8), [2.0**-h for h in range(1, 9)])


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 6, 7, 8, 12, 13, 16, 23, 31, 32, 33, 71, 112])
def test_slopes_for_any_head_count_are_those_of_the_papers_code_and_of_bloom(num_heads):
    slopes = alibi_slopes(num_heads)
    assert slopes.shape == (num_heads,)
    np.testing.assert_allclose(slopes, slopes_of_the_paper(num_heads), rtol=1e-13)
    bloom = build_alibi_tensor(torch.ones(1, 2, dtype=torch.int64), num_heads, torch.float32)
    np.testing.assert_allclose(slopes, bloom[:, 0, 1], rtol=3e-6)  # Bloom: float32 powers


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_bias_is_blooms_up_to_a_constant_per_query_where_a_causal_query_looks(symmetric):
    T, H = 11, 5
    ours = alibi(H, T, symmetric=symmetric)
    bloom = build_alibi_tensor(torch.ones(1, T, dtype=torch.int64), H, torch.float64).numpy()
    shifted = bloom - bloom[:, 0, :, None]  # slope · j − slope · i: 0 on the diagonal
    seen = np.tril(np.ones((T, T), bool)) | (not symmetric)
    np.testing.assert_allclose(ours[:, seen], shifted[:, seen], rtol=3e-6)


def test_the_bias_by_hand():
    np.testing.assert_array_equal(alibi(1, 3) * 2**8, [[[0, -1, -2], [-1, 0, -1], [-2, -1, 0]]])
    np.testing.assert_array_equal(
        alibi(1, 3, symmetric=False) * 2**8, [[[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]]
    )


@pytest.mark.parametrize(("align", "offset"), [("start", 0), ("end", 4), ("end", -4)])
def test_alignment_when_the_lengths_differ(align, offset):
    Tq, Tk = (11, 7) if offset < 0 else (7, 11)
    i, j = np.indices((Tq, Tk))
    np.testing.assert_array_equal(alibi(2, Tq, Tk, align=align)[0], -np.abs(i + offset - j) / 16)
    assert Alibi(2).aligned(align) == Alibi(2, align=align)
    assert Alibi(2, align="start").aligned("end") == Alibi(2, align="start")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bound_rule_in_half_precision_rounds_the_product_only(dtype):
    H, T = 11, 601  # bfloat16 cannot count beyond 256; eleven heads have slopes like 2^(−1/2)
    bound = Alibi(H).bind((2, H, T, T), xp, torch.device("cpu"), dtype)
    assert bound.values.dtype == dtype
    half_a_unit = 0.51 * torch.finfo(dtype).eps
    wanted = torch.tensor(alibi(H, T))
    torch.testing.assert_close(bound.dense().double(), wanted, rtol=half_a_unit, atol=1e-6)


def test_weights_without_a_head_axis_take_one_head():
    assert Alibi(1).bind((5, 5), np, "cpu", np.float64).dense().shape == (5, 5)
    with pytest.raises(ShapeError, match=r"Alibi\(3\) is for 3 heads, and there are 1 query"):
        Alibi(3).bind((5, 5), np, "cpu", np.float64)


def test_wrong_use_is_refused():
    for heads in (0, -2):
        with pytest.raises(InputError, match=f"num_heads must be at least 1; got {heads}"):
            alibi_slopes(heads)
        with pytest.raises(InputError, match=f"num_heads must be at least 1; got {heads}"):
            Alibi(heads)
    for heads in (2.0, True, "8", None, np.array(8)):
        with pytest.raises(InputError, match="num_heads must be a whole number"):
            Alibi(heads)
    with pytest.raises(InputError, match='align must be "start" or "end"; got \'middle\''):
        Alibi(2, align="middle")
    with pytest.raises(InputError, match="alibi: query_length must be at least 0; got -1"):
        alibi(2, -1)
    with pytest.raises(InputError, match=r"alibi: key_length must be a whole number; got 3.5"):
        alibi(2, 3, 3.5)
    with pytest.raises(ShapeError, match=r"Alibi\(2, symmetric=False\) is for 2 heads, and .* 3 q"):
        Alibi(2, symmetric=False).bind((3, 5, 5), np, "cpu", np.float64)


def test_lengths_that_differ_need_an_alignment():
    with pytest.raises(ShapeError) as caught:
        alibi(2, 7, 11)
    assert str(caught.value) == (
        "Alibi(2) needs align= when the lengths differ: there are 7 queries and 11 keys. "
        'align="start": query i stands at key i (as PyTorch\'s is_causal). '
        'align="end": the last query stands at the last '
        "key (decoding with a cache)."
    )
