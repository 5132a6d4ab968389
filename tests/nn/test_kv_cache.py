"""KVCache: decoding in chunks of any size gives what one pass gives; misuse is refused."""

import copy

import numpy as np
import pytest
import torch

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments, Window
from atento.nn import (
    AttentionHead,
    KVCache,
    LearnedPositions,
    MultiHeadAttention,
    RelativePositionBias,
)
from atento.positions import Alibi, DynamicNTKScaling, Rotary, Sinusoidal

B, T, H, D, C = 2, 11, 3, 4, 13
CHUNKS = {"one by one": [1] * T, "chunks": [5, 1, 2, 3], "prompt first": [8, 1, 1, 1], "whole": [T]}
KEEP = torch.tensor([[True] * T, [False] * 3 + [True] * (T - 3)])  # padded on the left


def t5():
    return RelativePositionBias(H, 7, bidirectional=False, max_distance=9, dtype=torch.float64)


def parity(batch, head, query, key):
    return ((query - key) % (head + 2) == 0) & (key <= query)


IDS = torch.tensor([0] * 4 + [1] * 5 + [2] * 2)
PATTERN = np.tri(T, dtype=bool) & (np.random.default_rng(3).random((H, T, T)) < 0.7)

OPTIONS = {
    "causal": dict,
    "grouped": lambda: {"num_kv_heads": 1},
    "value size": lambda: {"value_head_dim": 5},
    "rotary": lambda: {"position": Rotary()},
    "rotary pairs, part": lambda: {"position": Rotary(interleaved=True, rotary_dim=2)},
    "alibi": lambda: {"position": Alibi(H)},
    "t5": lambda: {"position": t5()},
    "learned": lambda: {"position": LearnedPositions(T, C, std=1.0, dtype=torch.float64)},
    "sinusoidal": lambda: {"position": Sinusoidal()},
    "window": lambda: {"mask": Causal() & Window(left=3)},
    "sinks": lambda: {"sinks": True},
    "softcap": lambda: {"softcap": 0.8},
    "qk_norm and gate": lambda: {"qk_norm": "rms", "gate": True},
    "prefix and window": lambda: {"mask": Causal() & (Window(left=2) | Prefix(2))},
    "rule": lambda: {"mask": Rule(parity)},
    "segments": lambda: {"mask": Causal() & Segments(IDS)},
    "pattern": lambda: {"mask": Explicit(PATTERN)},
    "everything": lambda: {
        "num_kv_heads": 1,
        "value_head_dim": 5,
        "position": Rotary(),
        "mask": Causal() & Window(left=4),
        "sinks": True,
        "softcap": 2.0,
        "qk_norm": "layer",
        "gate": True,
    },
}
FIXED = ("segments", "pattern")  # these say every pair of one length: shorter passes are refused


def make(**options):
    torch.manual_seed(31)
    options = {"mask": Causal(), "head_dim": D, "dtype": torch.float64} | options
    module = MultiHeadAttention(C, H, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return module.requires_grad_(False)


def tokens(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(37), dtype=dtype)


def decoded(module, x, sizes, cache, mask_of=None, **options):
    """The outputs of all chunks, side by side; mask_of(passed) is the mask of each call."""
    outputs, passed = [], 0
    for size in sizes:
        passed += size
        mask = None if mask_of is None else mask_of(passed)
        part = x[..., passed - size : passed, :]
        outputs.append(module(part, mask=mask, cache=cache, **options))
    return torch.cat(outputs, -2)


@pytest.mark.parametrize("sizes", CHUNKS)
@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in FIXED])
def test_decoding_is_the_full_pass(name, sizes):
    module, x = make(**OPTIONS[name]()), tokens(B, T, C)
    full = module(x)
    torch.testing.assert_close(
        decoded(module, x, CHUNKS[sizes], KVCache()), full, rtol=1e-12, atol=1e-12
    )
    single = decoded(module, x[1], CHUNKS[sizes], KVCache(max_length=T))
    torch.testing.assert_close(single, full[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FIXED)
def test_a_mask_of_fixed_length_goes_with_a_prompt_of_that_length(name):
    module, x = make(**OPTIONS[name]()), tokens(B, T, C)
    torch.testing.assert_close(module(x, cache=KVCache()), module(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ShapeError):
        module(x[:, :4], cache=KVCache())


@pytest.mark.parametrize("sizes", CHUNKS)
@pytest.mark.parametrize("name", ["rotary", "alibi", "t5", "grouped", "learned"])
def test_left_padded_prompts(name, sizes):
    """KeyPadding of a call is for all the keys that have passed."""
    module, x = make(**OPTIONS[name]()), tokens(B, T, C)
    full = module(x, mask=KeyPadding(KEEP))
    made = decoded(module, x, CHUNKS[sizes], KVCache(), lambda passed: KeyPadding(KEEP[:, :passed]))
    torch.testing.assert_close(made, full, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", CHUNKS)
def test_masks_of_a_call_are_aligned_at_the_end(sizes):
    module, x = make(mask=None), tokens(B, T, C)
    full = module(x, mask=Causal() & (Window(left=2) | ~Window(left=5)))
    made = decoded(
        module,
        x,
        CHUNKS[sizes],
        KVCache(),
        lambda passed: Causal() & (Window(left=2) | ~Window(left=5)),
    )
    torch.testing.assert_close(made, full, rtol=1e-12, atol=1e-12)


def test_segments_and_arrays_of_a_call_are_for_its_queries_and_all_keys():
    module, x = make(), tokens(B, T, C)
    cache = KVCache()
    full = module(x, mask=Segments(IDS))
    module(x[:, :6], mask=Segments(IDS[:6]), cache=cache)
    middle = module(x[:, 6:8], mask=Segments(IDS[6:8], IDS[:8]), cache=cache)
    torch.testing.assert_close(middle, full[:, 6:8], rtol=1e-12, atol=1e-12)
    last = module(x[:, 8:], mask=(IDS[8:, None] == IDS), cache=cache)
    torch.testing.assert_close(last, full[:, 8:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", CHUNKS)
@pytest.mark.parametrize("window", [1, 4, T + 1])
@pytest.mark.parametrize("name", ["causal", "rotary", "alibi", "t5", "sinks", "everything"])
def test_a_windowed_cache_is_a_windowed_mask(name, window, sizes):
    """However tokens are cut into calls, each sees its window: the cut is no part of the result."""
    options = OPTIONS[name]()
    module, x, cache = make(**options), tokens(B, T, C), KVCache(window=window)
    full = module(x, mask=Window(left=window - 1))
    made = decoded(module, x, CHUNKS[sizes], cache)
    torch.testing.assert_close(made, full, rtol=1e-12, atol=1e-12)
    assert cache.length == min(window, T)
    assert cache.num_tokens == T
    assert cache.keys.shape == (B, module.num_kv_heads, min(window, T), D)


@pytest.mark.parametrize("sizes", CHUNKS)
def test_masks_and_biases_count_the_tokens_that_left_the_window_too(sizes):
    module, x = make(mask=Causal() & ~Prefix(1) & Rule(parity)), tokens(B, T, C)
    bias = tokens(T, T)
    full = module(x, mask=Window(left=3) & KeyPadding(KEEP), bias=bias)
    cache, outputs, passed = KVCache(window=4), [], 0
    for size in CHUNKS[sizes]:
        passed += size
        outputs.append(
            module(
                x[:, passed - size : passed],
                mask=KeyPadding(KEEP[:, :passed]),
                bias=bias[passed - size : passed, :passed],
                cache=cache,
            )
        )
    torch.testing.assert_close(torch.cat(outputs, 1), full, rtol=1e-12, atol=1e-12)


def test_weights_and_trace_with_a_cache():
    module, x, cache = make(position=Rotary()), tokens(B, T, C), KVCache()
    weights = module(x, return_weights=True)[1]
    module(x[:, :6], cache=cache)
    twin = copy.deepcopy(cache)
    _, last = module(x[:, 6:], cache=cache, return_weights=True)
    torch.testing.assert_close(last, weights[:, :, 6:], rtol=1e-12, atol=1e-12)
    trace = module.trace(x[:, 6:], cache=twin)
    torch.testing.assert_close(trace["weights"].value, last, rtol=1e-12, atol=1e-12)
    assert trace["keys"].value.shape == (B, H, T, D)
    assert twin.num_tokens == cache.num_tokens == T


def test_a_head_has_a_cache_too():
    torch.manual_seed(41)
    head = AttentionHead(C, D, mask=Causal(), position=Rotary()).double().requires_grad_(False)
    x = tokens(B, T, C)
    made = decoded(head, x, [5, 1, 5], KVCache())
    torch.testing.assert_close(made, head(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [None, 4])
def test_angles_that_change_with_the_length_change_for_kept_keys_too(window):
    """DynamicNTKScaling: each call is the end of a pass over all tokens so far."""
    scaling = DynamicNTKScaling(factor=3.0, original_length=5)
    module, x = make(position=Rotary(scaling=scaling)), tokens(B, T, C)
    cache, mask = KVCache(window=window), None if window is None else Window(left=window - 1)
    passed = 0
    for size in (3, 1, 4, 2, 1):
        passed += size
        made = module(x[:, passed - size : passed], cache=cache)
        full = module(x[:, :passed], mask=mask)[:, passed - size :]
        torch.testing.assert_close(made, full, rtol=1e-12, atol=1e-12)


def test_reset_begins_anew():
    module, x, cache = make(position=Rotary()), tokens(B, T, C), KVCache(max_length=T)
    module(x, cache=cache)
    cache.reset()
    assert (cache.num_tokens, cache.length) == (0, 0)
    other = x.flip(-2)[:1]  # another batch size, too
    torch.testing.assert_close(
        decoded(module, other, [4, 7], cache), module(other), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("window", [None, 4])
def test_reorder_lets_beams_go_on_from_others(window):
    module, x = make(position=Rotary()), tokens(3, T, C)
    cache = KVCache(window=window)
    module(x[:, :6], cache=cache)
    chosen = [2, 0, 0, 1]  # four beams out of three
    cache.reorder(torch.tensor(chosen))
    last = tokens(4, 5, C)
    made = torch.cat([module(last[:, :2], cache=cache), module(last[:, 2:], cache=cache)], 1)
    whole = torch.cat([x[chosen, :6], last], dim=1)
    mask = None if window is None else Window(left=window - 1)
    torch.testing.assert_close(made, module(whole, mask=mask)[:, 6:], rtol=1e-12, atol=1e-12)


def test_gradients_flow_through_a_cache():
    module, x = make(position=Rotary()), tokens(B, T, C)
    module.requires_grad_(True)
    module(x).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad(set_to_none=True)
    decoded(module, x, [5, 1, 2, 3], KVCache()).square().sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_what_was_given_out_is_never_written_to(mode, window):
    cache, given, copies = KVCache(window=window), [], []
    with mode():
        for step in range(1, 8):
            keys, values = cache.append(tokens(B, H, step, D) + step, tokens(B, H, step, 5) - step)
            given += [keys, values]
            copies += [keys.clone(), values.clone()]
    for array, copied in zip(given, copies, strict=True):
        assert torch.equal(array, copied)


def test_modes_may_change_between_calls():
    module, x, cache = make(), tokens(B, T, C), KVCache()
    full = module(x)
    outputs = []
    for size, mode in (
        (3, torch.inference_mode),
        (1, torch.no_grad),  # there is room, but in a buffer of inference mode
        (2, torch.enable_grad),
        (1, torch.inference_mode),
        (4, torch.no_grad),
    ):
        with mode():
            passed = cache.num_tokens
            outputs.append(module(x[:, passed : passed + size], cache=cache).clone())
    torch.testing.assert_close(torch.cat(outputs, 1), full, rtol=1e-12, atol=1e-12)


def test_appending_copies_what_is_kept_only_when_room_runs_out():
    """n appends of one token move O(log n) buffers, not n; with max_length just one is made."""
    for options, most in (({}, 8), ({"max_length": 200}, 1), ({"window": 16}, 14)):
        cache, buffers = KVCache(**options), []
        with torch.no_grad():
            for _ in range(200):
                keys, _ = cache.append(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
                storage = keys.untyped_storage()
                if not buffers or storage.data_ptr() != buffers[-1].data_ptr():
                    buffers.append(storage)  # kept alive, so that no address comes twice
        assert 1 <= len(buffers) <= most, options
        assert cache.num_tokens == 200


# Misuse


def filled(**options):
    cache = KVCache(**options)
    cache.append(torch.zeros(B, H, 5, D), torch.zeros(B, H, 5, 7))
    return cache


def test_another_batch_heads_or_features():
    for key, value, words in (
        ((3, H, 1, D), (3, H, 1, 7), "holds keys of batch 2, 3 heads, 4 features; keys of batch 3"),
        ((B, 2, 1, D), (B, 2, 1, 7), "keys of batch 2, 2 heads, 4 features came"),
        ((B, H, 1, 5), (B, H, 1, 7), "keys of batch 2, 3 heads, 5 features came"),
        ((B, H, 1, D), (B, H, 1, 8), "holds values of batch 2, 3 heads, 7 features"),
        ((H, 1, D), (H, 1, 7), "keys of no batch axis, 3 heads, 4 features came"),
        ((B, H, 1, D), (B, H, 2, 7), "of the same heads and tokens"),
        ((1, D), (1, 7), "key and value have the axes (..., head, token, feature)"),
    ):
        cache = filled()
        with pytest.raises(ShapeError) as caught:
            cache.append(torch.zeros(key), torch.zeros(value))
        assert words in str(caught.value)
        assert cache.num_tokens == 5


def test_another_dtype_or_device():
    one = torch.zeros(B, H, 1, D), torch.zeros(B, H, 1, 7)
    with pytest.raises(DTypeError, match=r"holds keys of dtype torch.float32; keys of dtype torch"):
        filled().append(one[0].double(), one[1].double())
    with pytest.raises(DTypeError, match="holds keys of device cpu; keys of device meta came"):
        filled().append(one[0].to("meta"), one[1].to("meta"))


def test_overflow():
    cache = filled(max_length=6)
    cache.append(torch.zeros(B, H, 1, D), torch.zeros(B, H, 1, 7))
    with pytest.raises(InputError, match="at most max_length = 6 tokens may pass; 6 have, and 1"):
        cache.append(torch.zeros(B, H, 1, D), torch.zeros(B, H, 1, 7))
    windowed = KVCache(window=2, max_length=3)
    with pytest.raises(InputError, match="0 have, and 4 more came"):
        windowed.append(torch.zeros(H, 4, D), torch.zeros(H, 4, D))


@pytest.mark.parametrize("name", ["window", "max_length"])
@pytest.mark.parametrize("size", [0, -1, 2.0, True, "4"])
def test_sizes_that_are_none(name, size):
    with pytest.raises(InputError, match=f"KVCache: {name} must be a whole number from 1 on"):
        KVCache(**{name: size})


def test_reorder_refuses():
    with pytest.raises(InputError, match="no token has passed yet"):
        KVCache().reorder([0])
    alone = KVCache()
    alone.append(torch.zeros(H, 2, D), torch.zeros(H, 2, D))
    with pytest.raises(InputError, match="one sequence without a batch axis"):
        alone.reorder([0])
    with pytest.raises(ShapeError, match=r"numbers from 0 to 1.*got \[0, 2\]"):
        filled().reorder([0, 2])
    with pytest.raises(ShapeError, match=r"got \[-1\]"):
        filled().reorder([-1])
    with pytest.raises(ShapeError, match=r"the axis \(batch,\); got shape \(1, 2\)"):
        filled().reorder([[0, 1]])
    for wrong in ([0.0], [True, False]):
        with pytest.raises(DTypeError, match="reorder takes whole numbers"):
            filled().reorder(wrong)


def test_an_empty_cache_has_no_keys():
    with pytest.raises(InputError, match="it is empty"):
        _ = KVCache().keys


def test_a_module_refuses_a_cache_with_key_in_or_one_that_is_none():
    module, x = make(), tokens(B, T, C)
    with pytest.raises(InputError, match="leave key_in and value_in out"):
        module(x, x, cache=KVCache())
    with pytest.raises(InputError, match="cache must be a KVCache, the same one at every call"):
        module(x, cache=(x, x))


def test_a_call_that_fails_leaves_the_cache_as_it_was():
    module, x = make(position=Rotary()), tokens(B, T, C)
    full = module(x)
    for options in ({}, {"window": 20}, {"max_length": T}):
        cache = KVCache(**options)
        module(x[:, :6], cache=cache)
        for wrong in (KeyPadding(KEEP[:, :5]), KeyPadding(KEEP)):
            with pytest.raises(ShapeError, match="KeyPadding"):
                module(x[:, 6:9], mask=wrong, cache=cache)
        assert cache.num_tokens == 6
        torch.testing.assert_close(
            decoded(module, x[:, 6:], [3, 2], cache), full[:, 6:], rtol=1e-12, atol=1e-12
        )


def test_learned_positions_run_out():
    module, x = make(position=LearnedPositions(6, C, dtype=torch.float64)), tokens(B, T, C)
    cache = KVCache()
    module(x[:, :6], cache=cache)
    with pytest.raises(ShapeError, match="max_length = 6 positions, and tokens 6 to 6"):
        module(x[:, 6:7], cache=cache)
    assert cache.num_tokens == 6


def test_repr():
    assert repr(filled()) == "KVCache(5 of 5 tokens)"
    assert repr(filled(window=3, max_length=9)) == "KVCache(3 of 5 tokens, window=3, max_length=9)"
