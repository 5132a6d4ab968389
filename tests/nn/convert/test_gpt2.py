"""To and from GPT-2's attention in transformers: the same outputs; or why not."""

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.pytorch_utils import Conv1D

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, Window
from atento.nn.convert import from_gpt2, to_gpt2
from atento.nn.kv_cache import KVCache
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.positions import Rotary

B, T, E, H = 2, 7, 12, 3
DTYPES = [torch.float32, torch.float64]
SCALES = {
    "standard": {},
    "unscaled": {"scale_attn_weights": False},
    "by layer": {"scale_attn_by_inverse_layer_idx": True},
}


def config(**options):
    return GPT2Config(n_embd=E, n_head=H, n_layer=2, n_positions=32, **options)


def drawn(module, dtype=torch.float32):
    torch.manual_seed(67)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.to(dtype).eval()


def layer(dtype=torch.float32, *, cross=False, **options):
    made = GPT2Attention(config(**options), is_cross_attention=cross, layer_idx=4)
    made.config._attn_implementation = "eager"
    return drawn(made, dtype)


def tokens(count=T, dtype=torch.float32, seed=71):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(B, count, E, generator=draw, dtype=torch.float64).to(dtype)


def called(theirs, x):
    ahead = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1)[None, None]
    return theirs(x, attention_mask=ahead)


def same(made, wanted):
    close = 1e-6 if made.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(made, wanted, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCALES)
def test_from_gpt2_computes_the_same(name, dtype):
    theirs = layer(dtype, **SCALES[name])
    made = from_gpt2(theirs)
    wanted, weights = called(theirs, tokens(dtype=dtype))
    got = made(tokens(dtype=dtype), return_weights=True)
    same(got[0], wanted)
    same(got[1], weights)
    assert repr(made.mask) == "Causal()"
    assert (made.scale is None) == (name == "standard")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SCALES)
def test_a_state_dict_and_a_config_are_enough(name, dtype):
    theirs = layer(dtype, **SCALES[name])
    state = theirs.state_dict(prefix="transformer.h.4.attn.")
    state |= {"transformer.h.4.attn.bias": torch.ones(1), "transformer.ln_f.weight": torch.ones(E)}
    for settings in (theirs.config, theirs.config.to_dict()):
        made = from_gpt2(state, settings, prefix="transformer.h.4.attn.", layer_idx=4)
        assert made.training  # as any new module
        same(made.eval()(tokens(dtype=dtype)), called(theirs, tokens(dtype=dtype))[0])
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert made.dropout == 0.1


@pytest.mark.parametrize("from_state", [False, True])
def test_cross_attention_sees_all_of_the_encoder(from_state):
    theirs = layer(cross=True)
    given = (theirs.state_dict(), theirs.config) if from_state else (theirs,)
    made = from_gpt2(*given).eval()
    encoded = tokens(5, seed=73)
    wanted = theirs(tokens(), encoder_hidden_states=encoded)[0]
    same(made(tokens(), encoded), wanted)
    assert made.mask is None
    other = to_gpt2(made, drawn(GPT2Attention(theirs.config, is_cross_attention=True)).double())
    same(other.float()(tokens(), encoder_hidden_states=encoded)[0], wanted)


def test_a_whole_model_with_our_attention_gives_the_same_logits():
    model = drawn(GPT2LMHeadModel(config(vocab_size=19)))
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    wanted = model(ids).logits
    for block in model.transformer.h:
        block.attn = Stand(from_gpt2(block.attn))
    same(model(ids).logits, wanted)


class Stand(nn.Module):
    """Our module where GPT-2 calls its own."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, hidden_states, **_):
        return self.attention(hidden_states), None


def test_decoding_with_our_cache_gives_the_same():
    theirs = layer(torch.float64)
    made, cache = from_gpt2(theirs), KVCache()
    x = tokens(dtype=torch.float64)
    parts = [made(x[:, a:b], cache=cache) for a, b in ((0, 3), (3, 4), (4, T))]
    same(torch.cat(parts, 1), called(theirs, x)[0])


@pytest.mark.parametrize("name", ["standard", "by layer"])
def test_there_and_back_all_is_as_it_was(name):
    theirs = layer(**SCALES[name])
    other = drawn(copy.deepcopy(theirs))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    assert to_gpt2(from_gpt2(theirs), other) is other
    for key, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    if name == "standard":
        state = to_gpt2(from_gpt2(theirs))
        assert set(state) == set(theirs.state_dict())
        for key, value in theirs.state_dict().items():
            assert torch.equal(state[key], value)
            assert state[key].is_contiguous()


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}, {"bias": False}])
def test_to_gpt2_computes_the_same(options):
    ours = drawn(MultiHeadAttention(E, H, mask=Causal(), **options), torch.float64)
    theirs = to_gpt2(ours, layer(torch.float64))
    same(called(theirs, tokens(dtype=torch.float64))[0], ours(tokens(dtype=torch.float64)))
    other = layer(torch.float64)
    other.load_state_dict(to_gpt2(ours))
    same(called(other, tokens(dtype=torch.float64))[0], ours(tokens(dtype=torch.float64)))


def test_weights_are_copied_and_what_is_trained_stays_so():
    theirs = layer()
    theirs.c_attn.weight.requires_grad_(False)
    theirs.c_proj.bias.requires_grad_(False)
    made = from_gpt2(theirs.train())
    frozen = {name for name, p in made.named_parameters() if not p.requires_grad}
    assert frozen == {"query.weight", "key.weight", "value.weight", "output.bias"}
    assert made.training
    assert made.dropout == 0.1
    wanted = made.eval()(tokens())
    for state in (theirs.state_dict(), to_gpt2(made)):
        for tensor in state.values():
            tensor.zero_()
    assert torch.equal(made(tokens()), wanted)
    to_gpt2(made, theirs)
    assert not theirs.c_attn.weight.requires_grad
    assert theirs.c_attn.bias.requires_grad


def state():
    return layer().state_dict()


class Adapter(Conv1D):
    pass


def adapted():
    theirs = layer()
    theirs.c_proj = Adapter(E, E)
    return theirs


def ours(**options):
    return MultiHeadAttention(E, H, **({"mask": Causal()} | options))


WRONG = "to_gpt2: the result would not compute what this module does: GPT-2's attention "
REFUSED = {
    "another layer": (
        lambda: from_gpt2(nn.Linear(2, 2)),
        DTypeError,
        "from_gpt2 reads GPT2Attention (transformers); got Linear.",
    ),
    "no layer": (
        lambda: from_gpt2("gpt2"),
        DTypeError,
        "from_gpt2 reads GPT2Attention (transformers) or its state dict; got str.",
    ),
    "an adapter": (lambda: from_gpt2(adapted()), InputError, "c_proj is of class Adapter"),
    "no config": (
        lambda: from_gpt2(state()),
        InputError,
        "from_gpt2: a state dict does not say how many heads there are: pass config= too",
    ),
    "another model's config": (
        lambda: from_gpt2(state(), {"model_type": "gpt_neo", "n_head": 3}),
        InputError,
        "from_gpt2 reads the attention of gpt2 models; this config is of 'gpt_neo'.",
    ),
    "another prefix": (
        lambda: from_gpt2(layer().state_dict(prefix="h.0.attn."), config()),
        InputError,
        "from_gpt2: the state dict has no c_attn.weight, c_proj.weight. Say prefix='h.0.attn.'?",
    ),
    "names of another model": (
        lambda: from_gpt2(state() | {"rotary.weight": torch.ones(1)}, config()),
        InputError,
        "from_gpt2: the state dict also has rotary.weight, of which this conversion knows nothing",
    ),
    "no layer's number": (
        lambda: from_gpt2(state(), config(scale_attn_by_inverse_layer_idx=True)),
        InputError,
        "(scale_attn_by_inverse_layer_idx): say layer_idx= too, from 0 on.",
    ),
    "into another layer": (
        lambda: to_gpt2(ours(), nn.Linear(2, 2)),
        DTypeError,
        "to_gpt2 reads GPT2Attention (transformers); got Linear.",
    ),
    "of another module": (
        lambda: to_gpt2(nn.Linear(2, 2)),
        DTypeError,
        "to_gpt2 converts an atento.nn.MultiHeadAttention; got Linear.",
    ),
    "no mask": (
        lambda: to_gpt2(ours(mask=None)),
        InputError,
        f"{WRONG}is causal, and this module's mask is None.",
    ),
    "another mask": (
        lambda: to_gpt2(ours(mask=Causal() & Window(3))),
        InputError,
        f"{WRONG}is causal, and this module's mask is (Causal() & Window(left=3)).",
    ),
    "positions": (
        lambda: to_gpt2(ours(position=Rotary())),
        InputError,
        f"{WRONG}has no positions, and this module position=Rotary(",
    ),
    "sinks": (lambda: to_gpt2(ours(sinks=True)), InputError, f"{WRONG}has no sinks."),
    "softcap": (lambda: to_gpt2(ours(softcap=2.0)), InputError, f"{WRONG}has no softcap"),
    "gate": (lambda: to_gpt2(ours(gate=True)), InputError, f"{WRONG}has no gate"),
    "norm": (lambda: to_gpt2(ours(qk_norm="layer")), InputError, f"{WRONG}normalises no queries"),
    "scale": (
        lambda: to_gpt2(ours(), layer(scale_attn_weights=False)),
        InputError,
        f"{WRONG}multiplies its scores by 1, this module by 0.5.",
    ),
    "heads": (
        lambda: to_gpt2(MultiHeadAttention(E, 2, mask=Causal()), layer()),
        InputError,
        f"{WRONG}multiplies its scores by 0.5, this module by 0.408248; GPT-2's attention has 3 "
        "heads, and this module 2.",
    ),
    "own inputs": (
        lambda: to_gpt2(ours(kdim=5)),
        InputError,
        "GPT-2's attention's keys and values come from inputs of d_model = 12 features, and this "
        "module's of 5 and 5.",
    ),
    "another width": (
        lambda: to_gpt2(MultiHeadAttention(24, H, head_dim=8, mask=Causal(), scale=0.5), layer()),
        ShapeError,
        "to_gpt2: the layer's c_attn.weight has shape (12, 36), and this module makes (24, 72).",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_the_same_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_a_layer_that_does_not_fit_is_left_as_it_was():
    theirs = layer()
    before = copy.deepcopy(theirs.state_dict())
    with pytest.raises(ShapeError):
        to_gpt2(MultiHeadAttention(24, H, mask=Causal(), scale=0.5), theirs)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, before[name])
