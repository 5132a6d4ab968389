"""What the modules refuse: what was expected, what came, what to do."""

import pytest
import torch

from atento import AtentoError, DTypeError, EngineError, InputError, ShapeError
from atento.masks import Causal
from atento.nn import (
    AttentionHead,
    CausalSelfAttention,
    GroupedQueryAttention,
    LearnedPositions,
    MultiHeadAttention,
    RelativePositionBias,
    SelfAttention,
    SimplifiedSelfAttention,
)
from atento.positions import Rotary

X = torch.ones(2, 5, 12)


def module(**options):
    return MultiHeadAttention(12, 3, **options)


MADE = {
    "heads that do not fit": (
        lambda: MultiHeadAttention(10, 4),
        ShapeError,
        "MultiHeadAttention: d_model = 10 cannot be shared equally among 4 heads. 1, 2, 5 or 10 "
        "heads fit; or say how many features a head has, as in head_dim=2.",
    ),
    "many head counts fit": (
        lambda: MultiHeadAttention(5040, 11),
        ShapeError,
        "1, 2, 3, 4, 5, 6, 7, 8, …, 2520 or 5040 heads fit",
    ),
    "a prime": (lambda: MultiHeadAttention(7, 2), ShapeError, "1 or 7 heads fit"),
    "key heads that do not fit": (
        lambda: GroupedQueryAttention(12, 6, 4),
        ShapeError,
        "GroupedQueryAttention: 6 query heads cannot share 4 key heads equally. num_kv_heads can "
        "be 1, 2, 3 or 6.",
    ),
    "key heads swapped": (
        lambda: GroupedQueryAttention(12, 2, 6),
        ShapeError,
        "Did you swap them?",
    ),
    "no heads": (
        lambda: MultiHeadAttention(12, 0),
        InputError,
        "num_heads must be a whole number from 1 on; got 0",
    ),
    "half a head": (lambda: MultiHeadAttention(12, 1.5), InputError, "got 1.5"),
    "true heads": (lambda: MultiHeadAttention(12, True), InputError, "got True"),
    "no features": (lambda: SelfAttention(3, 0), InputError, "SelfAttention: head_dim must be"),
    "dropout": (
        lambda: module(dropout=1.0),
        InputError,
        "dropout must be a probability from 0 up to but not including 1; got 1.0",
    ),
    "dropout of text": (lambda: module(dropout="0.1"), InputError, "got '0.1'"),
    "norm": (
        lambda: module(qk_norm="batch"),
        InputError,
        'qk_norm must be "rms", "layer" or None; got \'batch\'',
    ),
    "position": (
        lambda: module(position="rotary"),
        InputError,
        "position must be one of atento.positions (Rotary(), Alibi(num_heads), …) or of atento.nn",
    ),
    "position class": (lambda: module(position=Rotary), InputError, "got Rotary, the class"),
    "float mask": (
        lambda: module(mask=torch.ones(5, 5)),
        DTypeError,
        "If it holds 0 and 1, write (mask == 1): True = attends.",
    ),
    "mask class": (lambda: module(mask=Causal), DTypeError, "make one, as in Causal(...)"),
    "torch's causal mask": (
        lambda: module(mask=torch.ones(5, 5).triu(1).bool()),
        InputError,
        "pass mask=~attn_mask, or mask=Causal()",
    ),
    "no heads to join": (
        lambda: MultiHeadAttention.from_heads([]),
        InputError,
        "needs at least one AttentionHead; got none",
    ),
    "no heads at all": (
        lambda: MultiHeadAttention.from_heads([torch.nn.Linear(3, 2)]),
        InputError,
        "from_heads joins AttentionHeads; got Linear",
    ),
    "heads of two sizes": (
        lambda: MultiHeadAttention.from_heads([AttentionHead(5, 3), AttentionHead(5, 2)]),
        InputError,
        "head 0 has head_dim=3 and head 1 head_dim=2",
    ),
    "heads with two masks": (
        lambda: MultiHeadAttention.from_heads([CausalSelfAttention(3, 2), SelfAttention(3, 2)]),
        InputError,
        "the heads must share one mask; got Causal(), None",
    ),
    "heads with two norms": (
        lambda: MultiHeadAttention.from_heads(
            [AttentionHead(5, 3, qk_norm="rms"), _with_another_norm()]
        ),
        InputError,
        "normalises all heads with one query_norm.weight",
    ),
    "heads with two positions": (
        lambda: MultiHeadAttention.from_heads(
            [AttentionHead(5, 4, position=Rotary()), AttentionHead(5, 4)]
        ),
        InputError,
        "the heads must share one position=",
    ),
    "a head too far": (
        lambda: module().head(3),
        InputError,
        "there are heads from 0 to 2; got 3",
    ),
    "the last head by −1": (lambda: module().head(-1), InputError, "got -1"),
    "half a head asked for": (lambda: module().head(0.5), InputError, "head takes a whole number"),
    "a table of no positions": (
        lambda: LearnedPositions(0, 4),
        InputError,
        "LearnedPositions: max_length must be a whole number",
    ),
    "a bias for no heads": (
        lambda: RelativePositionBias(0),
        InputError,
        "RelativePositionBias: num_heads must be a whole number",
    ),
}
CALLED = {
    "last size": (
        lambda: module()(torch.ones(2, 5, 11)),
        ShapeError,
        "MultiHeadAttention: the query projection takes 12 features on the last axis of query_in; "
        "got 11 (shape (2, 5, 11)).",
    ),
    "transposed": (lambda: module()(torch.ones(2, 12, 5)), ShapeError, "Is it transposed?"),
    "last size of keys": (
        lambda: module(kdim=7)(X),
        ShapeError,
        "the key projection takes 7 features on the last axis of key_in; got 12",
    ),
    "last size of values": (
        lambda: module(vdim=7)(X, X),
        ShapeError,
        "the value projection takes 7 features on the last axis of value_in; got 12",
    ),
    "a vector": (
        lambda: module()(torch.ones(12)),
        ShapeError,
        "must have the axes (batch, token, feature) or (token, feature); got shape (12,). One "
        "vector is one token: x[None].",
    ),
    "four axes": (lambda: module()(torch.ones(1, 2, 5, 12)), ShapeError, "got shape (1, 2, 5, 12)"),
    "batches": (
        lambda: module()(X, X[:1]),
        ShapeError,
        "all inputs must have the same batch; got (query_in (2, 5, 12), key_in (1, 5, 12)",
    ),
    "batch and none": (lambda: module()(X, X[0]), ShapeError, "must have the same batch"),
    "tokens": (
        lambda: module()(X, X, X[:, :4]),
        ShapeError,
        "key_in and value_in must be of the same tokens; got 5 and 4",
    ),
    "another dtype": (
        lambda: module()(X.double()),
        DTypeError,
        "query_in is torch.float64 and the query projection torch.float32. Convert one of them",
    ),
    "token ids": (
        lambda: module()(torch.ones(2, 5, 12, dtype=torch.int64)),
        DTypeError,
        "Token ids become vectors by an nn.Embedding first.",
    ),
    "an array": (
        lambda: module()(X.numpy()),
        DTypeError,
        "query_in must be a torch tensor; got numpy.ndarray",
    ),
    "a list": (lambda: module()([[1.0] * 12]), DTypeError, "got builtins.list"),
    "float mask": (
        lambda: module()(X, mask=torch.ones(5, 5)),
        DTypeError,
        "If it holds 0 and −inf to be added to the scores, pass it as bias=.",
    ),
    "integer mask": (
        lambda: module()(X, mask=torch.ones(5, 5, dtype=torch.int64)),
        DTypeError,
        "write (mask != 0)",
    ),
    "mask shape": (
        lambda: module()(X, mask=torch.ones(5, 7) > 0),
        ShapeError,
        "its key axis has size 7",
    ),
    "torch's causal mask": (
        lambda: module()(
            X, mask=torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.bool)
        ),
        InputError,
        "where NOT to look. In atento True = attends: pass mask=~attn_mask, or mask=Causal().",
    ),
    "torch's padding": (
        lambda: module()(X, key_padding_mask=torch.zeros(2, 5, dtype=torch.bool)),
        InputError,
        "MultiHeadAttention knows no key_padding_mask=: nn.MultiheadAttention's key_padding_mask "
        "is True where a key is NOT to be seen, and atento's masks are True where it is: pass "
        "mask=KeyPadding(~key_padding_mask)",
    ),
    "torch's mask": (
        lambda: module()(X, X, X, attn_mask=torch.zeros(5, 5)),
        InputError,
        "pass mask=~attn_mask. A float attn_mask is added to the scores: pass it as bias=.",
    ),
    "torch's is_causal": (lambda: module()(X, is_causal=True), InputError, "pass mask=Causal()"),
    "torch's need_weights": (
        lambda: module()(X, need_weights=True),
        InputError,
        "return_weights=True",
    ),
    "transformers' mask": (
        lambda: module()(X, attention_mask=torch.ones(2, 5)),
        InputError,
        "mask=KeyPadding(attention_mask != 0)",
    ),
    "transformers' cache": (lambda: module()(X, past_key_values=()), InputError, "cache=KVCache()"),
    "a word of nobody": (
        lambda: module()(X, masks=None),
        InputError,
        "knows no masks=: it takes query_in, key_in, value_in, mask, bias, cache and "
        "return_weights.",
    ),
    "the same in trace": (
        lambda: module().trace(X, need_weights=True),
        InputError,
        "knows no need_weights=",
    ),
    "the same without parameters": (
        lambda: SimplifiedSelfAttention()(X, key_padding_mask=None),
        InputError,
        "SimplifiedSelfAttention knows no key_padding_mask=",
    ),
    "a vector without parameters": (
        lambda: SimplifiedSelfAttention()(X[0, 0]),
        ShapeError,
        "SimplifiedSelfAttention: x must have the axes",
    ),
    "an array without parameters": (
        lambda: SimplifiedSelfAttention()(X.numpy()),
        DTypeError,
        "x must be a torch tensor",
    ),
    "engine": (lambda: module(engine="warp")(X), EngineError, "got 'warp'"),
    "softcap": (lambda: module(softcap=-1.0)(X), InputError, "softcap must be positive"),
    "positions that run out": (
        lambda: module(position=LearnedPositions(4, 12))(X),
        ShapeError,
        "there are max_length = 4 positions, and tokens 0 to 4 were asked for",
    ),
    "positions of another size": (
        lambda: module(position=LearnedPositions(9, 11))(X),
        ShapeError,
        "the table has d_model = 11 features; x has 12",
    ),
}


def _with_another_norm():
    head = AttentionHead(5, 3, qk_norm="rms")
    with torch.no_grad():
        head.query_norm.weight.mul_(2)
    return head


@pytest.mark.parametrize("name", MADE)
def test_refused_when_made(name):
    call, kind, words = MADE[name]
    _refused(call, kind, words)


@pytest.mark.parametrize("name", CALLED)
def test_refused_when_called(name):
    call, kind, words = CALLED[name]
    _refused(call, kind, words)


def _refused(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert isinstance(caught.value, AtentoError)


def test_a_mask_of_the_future_alone_can_be_meant():
    """What is taken for torch's causal mask when it comes as an array is fine as a rule."""
    assert module()(X, mask=~Causal()).shape == X.shape
    assert module()(X, mask=torch.ones(5, 5).triu().bool()).shape == X.shape
    one = torch.zeros(1, 1, dtype=torch.bool)  # a single token that sees nothing is no such mask
    assert module()(X[:, :1], mask=one).shape == (2, 1, 12)
