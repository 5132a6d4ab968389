"""To and from torch.nn.MultiheadAttention: the same outputs, masks and weights; or why not."""

import itertools

import pytest
import torch
from torch import nn

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal
from atento.nn.convert import from_torch, mask_from_torch, to_torch
from atento.nn.cross_attention import CrossAttention
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.positions import Alibi, Rotary

B, TQ, TK, E, H, KDIM, VDIM = 2, 5, 7, 12, 3, 11, 13


def theirs(dtype=torch.float64, **options):
    torch.manual_seed(37)
    made = nn.MultiheadAttention(E, H, dtype=dtype, **options)
    for parameter in made.parameters():  # the biases begin at 0
        nn.init.normal_(parameter, std=0.3)
    return made


def ours(dtype=torch.float64, **options):
    torch.manual_seed(41)
    return MultiHeadAttention(E, H, dtype=dtype, **options)


def inputs(kdim=E, vdim=E, dtype=torch.float64):
    draw = torch.Generator().manual_seed(43)
    sizes = ((B, TQ, E), (B, TK, kdim), (B, TK, vdim))
    return [torch.randn(size, generator=draw, dtype=dtype) for size in sizes]


def called(module, query, key, value, **masks):
    """Output and weights of each head of torch's module, given and returned batch first."""
    turn = (lambda x: x) if module.batch_first else (lambda x: x.transpose(0, 1))
    output, weights = module(
        *map(turn, (query, key, value)), average_attn_weights=False, need_weights=True, **masks
    )
    if module.add_zero_attn:
        weights = weights[..., :-1]  # the last is of the zero key
    return turn(output), weights


def same(made, wanted):
    close = {"rtol": 1e-6, "atol": 1e-6} if made.dtype == torch.float32 else {}
    torch.testing.assert_close(made, wanted, **(close or {"rtol": 1e-12, "atol": 1e-13}))


FORMS = [
    {"bias": bias, "kdim": kdim, "vdim": vdim, "batch_first": first, "add_zero_attn": zero}
    for bias, (kdim, vdim), first, zero in itertools.product(
        (True, False),
        ((None, None), (KDIM, VDIM), (E, VDIM)),
        (True, False),
        (True, False),
    )
]


def named(form):
    return ",".join(f"{name}={value}" for name, value in form.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS, ids=named)
def test_from_torch_computes_the_same(form, dtype):
    module = theirs(dtype, **form)
    state = torch.random.get_rng_state()
    made = from_torch(module)
    assert torch.equal(torch.random.get_rng_state(), state)
    x = inputs(form["kdim"] or E, form["vdim"] or E, dtype)
    wanted, weights = called(module, *x)
    got = made(*x, return_weights=True)
    same(got[0], wanted)
    same(got[1], weights)
    assert got[0].dtype == dtype


@pytest.mark.parametrize("form", FORMS, ids=named)
def test_back_to_torch_all_is_as_it_was(form):
    module = theirs(**form)
    again = to_torch(from_torch(module), batch_first=form["batch_first"])
    assert repr(again) == repr(module)
    assert again.add_zero_attn == module.add_zero_attn
    assert again.batch_first == module.batch_first
    own = module.state_dict()
    assert list(again.state_dict()) == list(own)
    for name, value in again.state_dict().items():
        assert torch.equal(value, own[name])
    same(
        called(again, *inputs(form["kdim"] or E, form["vdim"] or E))[0],
        called(module, *inputs(form["kdim"] or E, form["vdim"] or E))[0],
    )


OURS = {
    "plain": {},
    "no biases": {"bias": False},
    "bias of the output alone": {"bias": False, "output_bias": True},
    "all biases but the output's": {"output_bias": False},
    "shared key heads": {"num_kv_heads": 1},
    "shared key heads of other sizes": {"num_kv_heads": 1, "kdim": KDIM, "vdim": VDIM},
}


@pytest.mark.parametrize("name", OURS)
def test_to_torch_computes_the_same(name):
    module = ours(**OURS[name])
    made = to_torch(module)
    x = inputs(module.kdim, module.vdim)
    wanted, weights = module(*x, return_weights=True)
    got = called(made, *x)
    same(got[0], wanted)
    same(got[1], weights)


def test_grouped_heads_are_repeated_in_order():
    torch.manual_seed(47)
    module = MultiHeadAttention(E, 6, num_kv_heads=2, dtype=torch.float64)
    query, *_ = inputs()
    same(called(to_torch(module), query, query, query)[0], module(query))


def test_cross_attention_is_converted_too():
    torch.manual_seed(53)
    module = CrossAttention(E, H, kdim=KDIM, vdim=VDIM, dtype=torch.float64)
    x = inputs(KDIM, VDIM)
    same(called(to_torch(module), *x)[0], module(*x))


def test_the_convenient_methods_are_these_functions():
    module = theirs(batch_first=True)
    made = MultiHeadAttention.from_torch(module)
    query, *_ = inputs()
    same(made(query), called(module, query, query, query)[0])
    same(called(made.to_torch(), query, query, query)[0], made(query))


def test_weights_are_copied():
    module = theirs()
    made = from_torch(module)
    back = to_torch(made)
    kept = {name: value.clone() for name, value in made.state_dict().items()}
    with torch.no_grad():
        for other in (module, back):
            for parameter in other.parameters():
                parameter.zero_()
    for name, value in made.state_dict().items():
        assert torch.equal(value, kept[name])
    assert all(parameter.is_contiguous() for parameter in made.parameters())


@pytest.mark.parametrize("different", [False, True])
def test_what_is_trained_stays_so(different):
    sizes = {"kdim": KDIM, "vdim": VDIM} if different else {}
    module = theirs(**sizes)
    names = ("k_proj_weight", "in_proj_bias") if different else ("in_proj_weight",)
    for name in names:
        module.get_parameter(name).requires_grad_(False)
    module.out_proj.bias.requires_grad_(False)
    made = from_torch(module)
    frozen = {name for name, p in made.named_parameters() if not p.requires_grad}
    biases = {"query.bias", "key.bias", "value.bias"}
    weights = {"query.weight", "key.weight", "value.weight"}
    assert frozen == {"output.bias"} | ({"key.weight"} | biases if different else weights)
    again = to_torch(made)
    assert {n for n, p in again.named_parameters() if not p.requires_grad} == {
        *names,
        "out_proj.bias",
    }


def test_dropout_mode_device_and_dtype_stay():
    module = theirs(torch.bfloat16, dropout=0.25).eval()
    made = from_torch(module)
    assert (made.dropout, made.training) == (0.25, False)
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16}
    again = to_torch(made)
    assert (again.dropout, again.training) == (0.25, False)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert from_torch(theirs().train()).training
    meta = from_torch(nn.MultiheadAttention(E, H, device="meta"))
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    assert {p.device.type for p in to_torch(meta).parameters()} == {"meta"}


def test_zero_attention_becomes_sinks_that_stay_zero():
    made = from_torch(theirs(add_zero_attn=True))
    assert made.sinks.tolist() == [0] * H
    assert not made.sinks.requires_grad
    assert from_torch(theirs()).sinks is None


PAIRS = torch.zeros(TQ, TK, dtype=torch.bool)
PAIRS[[0, 1, 3, 4], [2, 0, 6, 1]] = True
PADDING = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
HEADS = torch.rand(B * H, TQ, TK, generator=torch.Generator().manual_seed(59)) < 0.4
HEADS[..., 3] = False
ADDED = torch.randn(B * H, TQ, TK, generator=torch.Generator().manual_seed(61)).double()
NO_END = torch.where(PADDING, -torch.inf, 0.0).double()
MASKS = {
    "nothing": {},
    "pairs": {"attn_mask": PAIRS},
    "pairs of each head": {"attn_mask": HEADS},
    "padding": {"key_padding_mask": PADDING},
    "pairs and padding": {"attn_mask": HEADS, "key_padding_mask": PADDING},
    "added": {"attn_mask": ADDED[0]},
    "added for each head": {"attn_mask": ADDED},
    "added padding": {"key_padding_mask": NO_END},
    "both added": {"attn_mask": ADDED, "key_padding_mask": NO_END},
    "infinitely low": {"attn_mask": torch.where(HEADS, -torch.inf, ADDED)},
}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_masks_say_the_same(name, zero):
    module = theirs(batch_first=True, add_zero_attn=zero)
    mask, bias = mask_from_torch(**MASKS[name], num_heads=H)
    got = from_torch(module)(*inputs(), mask=mask, bias=bias, return_weights=True)
    wanted = called(module, *inputs(), **MASKS[name])
    same(got[0], wanted[0])
    same(got[1], wanted[1])
    kinds = {value.dtype for value in MASKS[name].values()}
    assert (mask is not None) == (torch.bool in kinds)
    assert (bias is not None) == (torch.float64 in kinds)


def test_a_bool_and_a_float_mask_stay_apart():
    mask, bias = mask_from_torch(ADDED, PADDING, num_heads=H)
    assert torch.equal(bias, ADDED.reshape(B, H, TQ, TK))
    assert (mask.dense(TQ, TK) == ~PADDING[:, None, None].numpy()).all()


def test_masks_without_a_batch():
    module = theirs(batch_first=True)
    query, key, value = (x[0] for x in inputs())
    for attn, padding in ((HEADS[:H], PADDING[0]), (ADDED[:H], NO_END[0])):
        mask, bias = mask_from_torch(attn, padding, num_heads=H)
        wanted = module(query, key, value, attn_mask=attn, key_padding_mask=padding)[0]
        same(from_torch(module)(query, key, value, mask=mask, bias=bias), wanted)


def test_a_query_without_keys_gives_nothing_where_torch_gives_nan():
    module = theirs(batch_first=True, bias=False)
    none = torch.ones(B, TK, dtype=torch.bool)
    mask, _ = mask_from_torch(key_padding_mask=none)
    assert called(module, *inputs(), key_padding_mask=none)[0].isnan().all()
    assert (from_torch(module)(*inputs(), mask=mask) == 0).all()


REFUSED_MASKS = {
    "whole numbers": (
        {"attn_mask": PAIRS.int()},
        DTypeError,
        "attn_mask must be bool (True = may not look) or float (added to the scores), as torch "
        "has it; got int32.",
    ),
    "no tensor": (
        {"key_padding_mask": [True]},
        DTypeError,
        "key_padding_mask must be a torch tensor; got list.",
    ),
    "one axis": (
        {"attn_mask": PAIRS[0]},
        ShapeError,
        "attn_mask has the axes (query, key) or (batch · head, query, key); got shape (7,).",
    ),
    "padding of pairs": (
        {"key_padding_mask": HEADS},
        ShapeError,
        "key_padding_mask has the axes (batch, key) or (key,); got shape (6, 5, 7).",
    ),
    "heads unknown": (
        {"attn_mask": HEADS},
        InputError,
        "attn_mask has three axes, (batch · head, query, key) = (6, 5, 7): say num_heads= too.",
    ),
    "heads that do not fit": (
        {"attn_mask": HEADS, "num_heads": 4},
        ShapeError,
        "its first axis, 6, is no multiple of num_heads = 4.",
    ),
}


@pytest.mark.parametrize("name", REFUSED_MASKS)
def test_masks_that_torch_has_not_are_refused(name):
    masks, kind, words = REFUSED_MASKS[name]
    with pytest.raises(kind) as caught:
        mask_from_torch(**masks)
    assert words in str(caught.value)


def test_bias_kv_is_refused_by_name():
    with pytest.raises(InputError) as caught:
        from_torch(theirs(add_bias_kv=True))
    assert str(caught.value) == (
        "from_torch: this nn.MultiheadAttention has bias_k and bias_v (add_bias_kv=True): a "
        "learned key and value that every query sees beside the tokens', and MultiHeadAttention "
        "sees tokens alone. Compute it with atento.attention, the two appended to key and value."
    )


class Louder(nn.MultiheadAttention):
    def forward(self, *args, **options):
        return tuple(2 * x for x in super().forward(*args, **options))


class Adapter(nn.Linear):
    pass


def with_adapter(module, name):
    setattr(module, name, Adapter(E, E))
    return module


def partly_frozen(name):
    module = ours()
    getattr(module.key, name).requires_grad_(False)
    return module


WRONG = "the result would not compute what this module does: "
REFUSED = {
    "another module": (
        lambda: from_torch(nn.Linear(2, 2)),
        DTypeError,
        "from_torch converts a torch.nn.MultiheadAttention; got Linear.",
    ),
    "a subclass that computes otherwise": (
        lambda: from_torch(Louder(E, H)),
        DTypeError,
        "got Louder.",
    ),
    "an adapter of theirs": (
        lambda: from_torch(with_adapter(theirs(), "out_proj")),
        InputError,
        "from_torch: out_proj is of class Adapter, and may compute more than its weight says.",
    ),
    "an adapter of ours": (
        lambda: to_torch(with_adapter(ours(), "key")),
        InputError,
        "to_torch: key is of class Adapter",
    ),
    "another module of ours": (
        lambda: to_torch(nn.Linear(2, 2)),
        DTypeError,
        "to_torch converts an atento.nn.MultiHeadAttention; got Linear.",
    ),
    "a mask": (
        lambda: to_torch(ours(mask=Causal())),
        InputError,
        f"to_torch: {WRONG}nn.MultiheadAttention holds no mask, and this module's is Causal() "
        "(set module.mask = None, and pass the mask at each call).",
    ),
    "rotary positions": (
        lambda: to_torch(ours(position=Rotary())),
        InputError,
        "nn.MultiheadAttention has no positions, and this module position=Rotary(",
    ),
    "positions in the scores": (
        lambda: to_torch(ours(position=Alibi(H))),
        InputError,
        "has no positions, and this module position=Alibi(",
    ),
    "scale": (
        lambda: to_torch(ours(scale=1.0)),
        InputError,
        "nn.MultiheadAttention multiplies its scores by 0.5, this module by 1.",
    ),
    "softcap": (
        lambda: to_torch(ours(softcap=30.0)),
        InputError,
        "nn.MultiheadAttention has no softcap, and this module 30.0",
    ),
    "learned sinks": (
        lambda: to_torch(ours(sinks=True)),
        InputError,
        "nn.MultiheadAttention can have sinks only fixed at 0 (add_zero_attn), and this module's "
        "are learned",
    ),
    "normalised queries": (
        lambda: to_torch(ours(qk_norm="rms")),
        InputError,
        "nn.MultiheadAttention normalises no queries and keys, and this module qk_norm='rms'",
    ),
    "gate": (lambda: to_torch(ours(gate=True)), InputError, "nn.MultiheadAttention has no gate"),
    "head size": (
        lambda: to_torch(ours(head_dim=5)),
        InputError,
        "nn.MultiheadAttention's heads share d_model = 12, and this module's 3 heads have 5 "
        "features each",
    ),
    "value size": (
        lambda: to_torch(ours(value_head_dim=5)),
        InputError,
        "nn.MultiheadAttention's values have as many features as its keys, and this module's 5 "
        "and 4",
    ),
    "output size": (
        lambda: to_torch(ours(d_out=5)),
        InputError,
        "nn.MultiheadAttention's output has d_model = 12 features, and this module's 5",
    ),
    "all at once": (
        lambda: to_torch(ours(softcap=30.0, gate=True)),
        InputError,
        "has no softcap, and this module 30.0; nn.MultiheadAttention has no gate.",
    ),
    "a frozen weight among three": (
        lambda: to_torch(partly_frozen("weight")),
        InputError,
        "nn.MultiheadAttention has one parameter for query, key and value, and of this module's "
        "only some are trained (requires_grad)",
    ),
    "a frozen bias among three": (
        lambda: to_torch(partly_frozen("bias")),
        InputError,
        "only some are trained",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_the_same_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_sinks_fixed_at_another_number_are_refused():
    module = ours(sinks=True)
    module.sinks.requires_grad_(False).fill_(0.5)
    with pytest.raises(InputError, match="only fixed at 0"):
        to_torch(module)
    module.sinks.zero_()
    assert to_torch(module).add_zero_attn
