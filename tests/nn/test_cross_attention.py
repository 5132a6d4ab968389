"""CrossAttention: keys and values of another sequence, of its own sizes, and kept in a cache."""

import numpy as np
import pytest
import torch

from atento import InputError, ShapeError
from atento.masks import Causal, KeyPadding, Window
from atento.nn import CrossAttention, KVCache, LearnedPositions, MultiHeadAttention
from atento.positions import Rotary
from multi_head_oracle import multi_head_oracle, rotated

B, TQ, TK, H, C, CK, CV = 2, 5, 7, 3, 12, 11, 13
EXACT = {"rtol": 1e-12, "atol": 1e-12}
KEEP = torch.tensor([[True] * TK, [True] * 4 + [False] * 3])


def make(**options):
    torch.manual_seed(43)
    module = CrossAttention(C, H, **({"kdim": CK, "vdim": CV, "dtype": torch.float64} | options))
    return module.requires_grad_(False)


def inputs():
    draw = torch.Generator().manual_seed(47)
    sizes = [(B, TQ, C), (B, TK, CK), (B, TK, CV)]
    return [torch.randn(size, generator=draw, dtype=torch.float64) for size in sizes]


def test_against_the_oracle():
    module = make(value_head_dim=5, d_out=17, gate=True)
    visible = KEEP.numpy()[:, None, None]
    expected, weights = multi_head_oracle(module.state_dict(), *inputs(), heads=H, visible=visible)
    output, given = module(*inputs(), mask=KeyPadding(KEEP), return_weights=True)
    np.testing.assert_allclose(output, expected, **EXACT)
    np.testing.assert_allclose(given, weights, **EXACT)
    trace = module.trace(*inputs(), mask=KeyPadding(KEEP))
    np.testing.assert_allclose(trace.output, expected, **EXACT)
    assert trace["key_projection"].axes == ("batch", "key", "feature")
    assert trace["key_projection"].value.shape == (B, TK, C)


def test_vdim_is_kdim_when_left_out():
    module, (query_in, key_in, _) = make(vdim=None), inputs()
    assert module.value.in_features == CK
    expected, _ = multi_head_oracle(module.state_dict(), query_in, key_in, heads=H)
    np.testing.assert_allclose(module(query_in, key_in), expected, **EXACT)


def test_rotary_positions_of_both_sequences_begin_at_0():
    module = make(position=Rotary())
    expected, _ = multi_head_oracle(module.state_dict(), *inputs(), heads=H, rotate=rotated)
    np.testing.assert_allclose(module(*inputs()), expected, **EXACT)


@pytest.mark.parametrize("align", ["start", "end"])
def test_a_causal_mask_says_its_alignment(align):
    module = make(mask=Causal(align=align))
    visible = np.tri(TQ, TK, k=TK - TQ if align == "end" else 0, dtype=bool)
    expected, _ = multi_head_oracle(module.state_dict(), *inputs(), heads=H, visible=visible)
    np.testing.assert_allclose(module(*inputs()), expected, **EXACT)


@pytest.mark.parametrize(
    "mask", [Causal(), Causal() & Window(2, align="end"), ~Causal(), Window(2) | Causal("end")]
)
def test_a_causal_mask_without_an_alignment_is_refused(mask):
    """Whether or not the lengths happen to be equal."""
    for call in (
        lambda: make(mask=mask),
        lambda: make()(*inputs(), mask=mask),
        lambda: make()(*inputs(), mask=mask, cache=KVCache()),
    ):
        with pytest.raises(ShapeError, match=r"must say align=, since queries and keys are of two"):
            call()


def test_in_multi_head_attention_it_is_refused_where_the_lengths_differ():
    module = MultiHeadAttention(C, H, mask=Causal())
    with pytest.raises(ShapeError, match=r"Causal\(\) needs align= when the lengths differ"):
        module(torch.ones(TQ, C), torch.ones(TK, C))


def test_a_cache_keeps_the_other_sequence():
    module, (query_in, key_in, value_in) = make(), inputs()
    mask = KeyPadding(KEEP)
    expected = module(query_in, key_in, value_in, mask=mask)
    cache = KVCache()
    first = module(query_in[:, :2], key_in, value_in, mask=mask, cache=cache)
    rest = [module(query_in[:, t : t + 1], mask=mask, cache=cache) for t in range(2, TQ)]
    torch.testing.assert_close(torch.cat([first, *rest], 1), expected, rtol=1e-12, atol=1e-12)
    assert cache.num_tokens == TK
    cache.reorder([1, 1, 0])
    beams = module(query_in[[1, 1, 0]], mask=KeyPadding(KEEP[[1, 1, 0]]), cache=cache)
    torch.testing.assert_close(beams, expected[[1, 1, 0]], rtol=1e-12, atol=1e-12)


def test_a_cache_with_an_aligned_causal_mask_is_not_shifted():
    module, (query_in, key_in, value_in) = make(mask=Causal(align="start")), inputs()
    cache = KVCache()
    first = module(query_in, key_in, value_in, cache=cache)
    torch.testing.assert_close(first, module(query_in, key_in, value_in), rtol=0, atol=0)
    torch.testing.assert_close(module(query_in, cache=cache), first, rtol=0, atol=0)


def test_misuse_of_the_cache():
    module, (query_in, key_in, value_in) = make(), inputs()
    cache = KVCache()
    with pytest.raises(InputError, match="key_in, the other sequence, is missing"):
        module(query_in, cache=cache)
    module(query_in, key_in, value_in, cache=cache)
    with pytest.raises(InputError, match="the cache holds 7 keys already"):
        module(query_in, key_in, value_in, cache=cache)
    with pytest.raises(InputError, match="does not go with a window"):
        module(query_in, key_in, value_in, cache=KVCache(window=3))
    with pytest.raises(InputError, match="does not go with positions"):
        make(position=Rotary())(query_in, key_in, value_in, cache=KVCache())
    with pytest.raises(ShapeError, match="the batch axes"):
        module(query_in[:1], cache=cache)


def test_the_other_sequence_is_asked_for():
    with pytest.raises(InputError, match=r"pass module\(query_in, key_in\)"):
        make()(inputs()[0])


def test_positions_of_the_input_are_for_self_attention():
    module = make(position=LearnedPositions(9, C))
    with pytest.raises(InputError, match="add it to them before the call"):
        module(*inputs())
