"""Every way in: names, outputs and weights are the model's own."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional
from transformers import masking_utils

import atento
from atento import KnockOut
from atento._errors import EngineError, InputError
from atento.masks import Causal, KeyPadding, Segments, Window
from atento.nn import MultiHeadAttention
from atento.reading.capturing import capture
from reading_models import (
    FAMILIES,
    Kernel,
    Written,
    bert,
    eager_weights,
    gpt2,
    ids,
    llama,
    mistral,
    tensors_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


SMALL = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 1,
    "intermediate_size": 31,
    "max_position_embeddings": 67,
}


def recorded(model, *args, statistics=(), outputs=None, **inputs):
    """The recording of one call, without gradients."""
    with torch.no_grad(), capture(model, statistics=statistics) as recording:
        found = model(*args, **inputs)
    if outputs is not None:
        outputs.extend(tensors_of(found))
    return recording


def weights_of(layer):
    """(batch, head, query, key) of a record, as it computes them."""
    return np.array(
        [[layer.weights(h, batch=b) for h in layer.head_numbers] for b in range(layer.batch)]
    )


def dense_weights(layer):
    """The same from what was recorded, written out in float64."""
    q, k, lse = (np.asarray(a, np.float64) for a in (layer.query, layer.key, layer.lse))
    k = k.repeat(q.shape[1] // k.shape[1], axis=1)
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) * layer.scale
    if layer.softcap is not None:
        scores = layer.softcap * np.tanh(scores / layer.softcap)
    if layer.bias is not None:
        scores = scores + layer.bias
    if layer.mask is not None:
        seen = np.empty(scores.shape, bool)
        for where in np.ndindex(scores.shape[:2]):
            tile = layer.mask.at(where).block(range(scores.shape[2]), range(scores.shape[3]))
            seen[where] = getattr(tile, "value", tile)
        scores = np.where(seen, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(lse[..., None]), 0, np.exp(scores - lse[..., None]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_layer_by_layer_and_computes_the_same_bits(name):
    family = FAMILIES[name]()
    with torch.no_grad():
        plain = tensors_of(family.model(**family.inputs))
    captured = []
    recording = recorded(family.model, outputs=captured, **family.inputs)
    assert recording.names == family.layers
    assert recording.skipped == []
    for own, seen in zip(plain, captured, strict=True):
        assert torch.equal(own, seen)


# Falcon's eager attention adds ALiBi twice, its sdpa attention once: they are different models.
ALIKE = [name for name in FAMILIES if name != "falcon_with_alibi"]


@pytest.mark.parametrize("name", ALIKE)
def test_recorded_weights_are_those_of_eager_attention(name):
    family = FAMILIES[name]()
    recording = recorded(family.model, **family.inputs)
    for layer, expected in eager_weights(name, family.inputs).items():
        np.testing.assert_allclose(
            dense_weights(recording[layer]), expected, rtol=0, atol=1e-5, err_msg=layer
        )
        np.testing.assert_allclose(weights_of(recording[layer]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_models_that_are_set_to_eager_compute_the_same_bits_too(name):
    family = FAMILIES[name](attn_implementation="eager")
    with torch.no_grad():
        plain = tensors_of(family.model(**family.inputs))
    captured = []
    recording = recorded(family.model, outputs=captured, **family.inputs)
    for own, seen in zip(plain, captured, strict=True):
        assert torch.equal(own, seen)
    for layer, expected in eager_weights(name, family.inputs).items():
        np.testing.assert_allclose(dense_weights(recording[layer]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "gemma2", "mistral", "gpt_oss", "bloom"])
def test_padding_is_hidden_on_both_sides(name, side):
    family = FAMILIES[name]()
    keep = torch.ones(2, 13, dtype=torch.long)
    keep[1, slice(0, 5) if side == "left" else slice(8, 13)] = 0
    inputs = {**family.inputs, "attention_mask": keep}
    recording = recorded(family.model, **inputs)
    for layer, expected in eager_weights(name, inputs).items():
        expected = expected.numpy().copy()
        record = recording[layer]
        empty = np.isinf(record.lse)
        assert empty.any() or side == "right" or name == "bert"
        # There eager attention spreads its weight evenly over keys that it hides.
        np.testing.assert_allclose(expected[empty].std(-1), 0, atol=1e-6)
        expected[empty] = 0
        np.testing.assert_allclose(dense_weights(record), expected, rtol=0, atol=1e-5)
        hidden = keep[1].numpy() == 0
        assert not weights_of(record)[1][..., hidden].any()


def test_masks_are_recognised_by_how_they_are_made():
    keep = torch.ones(2, 13, dtype=torch.long)
    keep[1, :5] = 0
    family = mistral()
    padded = recorded(family.model, **family.inputs, attention_mask=keep)[0].mask
    expected = Window(left=4) & Causal() & KeyPadding(keep.numpy() == 1)
    np.testing.assert_array_equal(padded.dense(13, 13), expected.dense(13, 13))
    assert "Window(left=4) & Causal()" in repr(padded)
    assert repr(recorded(llama().model, **family.inputs)[0].mask) == "Causal()"
    assert recorded(bert().model, **family.inputs)[0].mask is None


def test_packed_sequences_see_only_themselves():
    family = llama()
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, 0]])
    inputs = {"input_ids": ids(batch=1), "position_ids": positions, "use_cache": False}
    recording = recorded(family.model, **inputs)
    packed = np.repeat([0, 1, 2], [5, 7, 1])
    expected = (Segments(packed) & Causal()).dense(13, 13)
    for layer, weights in eager_weights("llama", inputs).items():
        found = dense_weights(recording[layer])
        np.testing.assert_allclose(found, weights, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found[0, 0] > 0, expected)
        assert "SameSegment" in repr(recording[layer].mask)


def test_a_mask_of_the_users_own_is_read_as_it_is():
    family = llama()
    seen = torch.tril(torch.ones(2, 1, 13, 13, dtype=torch.bool))
    seen[1, :, 7:, 3] = False
    inputs = {**family.inputs, "attention_mask": seen}
    recording = recorded(family.model, **inputs)
    added = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    for layer, expected in eager_weights("llama", {**inputs, "attention_mask": added}).items():
        np.testing.assert_allclose(dense_weights(recording[layer]), expected, rtol=0, atol=1e-5)
    assert not weights_of(recording[0])[1][:, 7:, 3].any()


PREFILLED = ["gpt2", "llama", "gemma2", "mistral", "gpt_oss", "bloom", "falcon"]


@pytest.mark.parametrize("name", PREFILLED)
def test_prefill_and_decoding_give_the_rows_of_the_full_pass(name):
    family = FAMILIES[name]()
    whole = recorded(family.model, **family.inputs)
    tokens = family.inputs["input_ids"]
    with torch.no_grad(), capture(family.model, statistics=()) as recording:
        cache = None
        for start, stop in ((0, 7), (7, 8), (8, 13)):
            made = family.model(
                input_ids=tokens[:, start:stop], past_key_values=cache, use_cache=True
            )
            cache = made.past_key_values
    assert recording.names == family.layers
    np.testing.assert_array_equal(recording.token_ids, tokens.numpy())
    for layer, expected in zip(recording, whole, strict=True):
        assert layer.shape == expected.shape
        np.testing.assert_allclose(layer.lse, expected.lse, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(weights_of(layer), weights_of(expected), rtol=0, atol=1e-5)


def test_generation_is_one_recording():
    family = gpt2()
    with capture(family.model, statistics=()) as recording:
        made = family.model.generate(
            family.inputs["input_ids"], max_new_tokens=3, do_sample=False, pad_token_id=0
        )
    assert recording.names == family.layers
    assert recording[0].shape == (2, 5, 15, 15)
    np.testing.assert_array_equal(recording.token_ids, made[:, :15].numpy())


def test_encoder_and_decoder_self_and_cross_are_named():
    for name in ("t5", "whisper"):
        family = FAMILIES[name]()
        recording = recorded(family.model, **family.inputs)
        found = [(layer.side, layer.kind) for layer in recording]
        decoder = [("decoder", "self"), ("decoder", "cross")]
        assert found == [("encoder", "self")] * 2 + decoder * 2
    assert {layer.side for layer in recorded(bert().model, input_ids=ids())} == {None}


def test_the_head_of_one_stack_is_no_decoder():
    config = transformers.BertConfig(**SMALL)
    model = transformers.BertForMaskedLM(config).eval()
    assert isinstance(model.cls.predictions.decoder, nn.Linear)
    assert [layer.side for layer in recorded(model, input_ids=ids())] == [None]


def test_two_stacks_whose_attention_is_not_named_so_are_two():
    model = nn.ModuleDict({"encoder": nn.Sequential(Kernel()), "decoder": nn.Sequential(Kernel())})
    model.forward = lambda x: model["decoder"](model["encoder"](x))
    found = recorded(model, torch.randn(2, 11, 15))
    assert [layer.side for layer in found] == ["encoder", "decoder"]


def test_sinks_are_part_of_the_denominator():
    family = FAMILIES["gpt_oss"]()
    recording = recorded(family.model, **family.inputs)
    for i, layer in enumerate(recording):
        sinks = family.model.model.layers[i].self_attn.sinks.detach().numpy()
        rest = 1 - weights_of(layer).sum(-1)
        expected = np.exp(sinks[None, :, None] - layer.lse)
        np.testing.assert_allclose(rest, expected, rtol=1e-4, atol=1e-6)
        assert rest.min() > 1e-4


HALF_EXP = 1e-4
"""torch's kernel sums exp(score) of half precision by an exp of its own: on a CPU with AVX2 and no
AVX-512 its log-sum-exp is off by 4e-5, otherwise by 2e-7."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_the_kernel_computes_it(dtype):
    family = llama()
    model = family.model.to(dtype)
    with torch.no_grad():
        plain = model(**family.inputs).logits
    captured = []
    recording = recorded(model, outputs=captured, **family.inputs)
    assert torch.equal(plain, captured[0])
    for layer in recording:
        sums = dense_weights(layer).sum(-1)
        np.testing.assert_allclose(sums, 1, rtol=0, atol=HALF_EXP)
        assert layer.query.dtype == (np.float32 if dtype == torch.bfloat16 else np.float16)


def test_training_passes_give_the_same_gradients():
    family = llama()
    gradients = []
    for watched in (False, True):
        family.model.zero_grad()
        if watched:
            with capture(family.model, statistics=()) as recording:
                loss = family.model(**family.inputs, labels=family.inputs["input_ids"]).loss
        else:
            loss = family.model(**family.inputs, labels=family.inputs["input_ids"]).loss
        loss.backward()
        gradients.append([p.grad.clone() for p in family.model.parameters()])
    assert len(recording) == 2
    for own, seen in zip(*gradients, strict=True):
        assert torch.equal(own, seen)


def written_weights(model, x):
    """(batch, head, query, key) of a `Written` or `Kernel` module, causal, in float64."""
    B, T, _ = x.shape
    q, k, _ = (
        part.view(B, T, model.num_heads, -1).transpose(1, 2).double()
        for part in model.qkv(x).chunk(3, -1)
    )
    scores = q @ k.mT / q.shape[-1] ** 0.5
    hidden = torch.ones(T, T).triu(1).bool()
    return scores.masked_fill(hidden, -torch.inf).softmax(-1).detach().numpy()


@pytest.mark.parametrize(("kind", "way"), [(Written, "softmax"), (Kernel, "sdpa")])
def test_hand_written_modules_are_read(kind, way):
    torch.manual_seed(2)
    model = nn.Sequential(kind(), nn.Linear(15, 15), kind())
    x = torch.randn(2, 11, 15)
    expected = written_weights(model[0], x)
    captured = []
    plain = model(x)
    recording = recorded(model, x, outputs=captured)
    assert torch.equal(plain, captured[0])
    assert recording.names == ["0", "2"]
    assert recording[0].way == way
    assert recording[0].key.shape == (2, 3, 11, 5)
    assert repr(recording[0].mask) == "Causal()"
    assert recording[0].bias is None
    np.testing.assert_allclose(dense_weights(recording[0]), expected, rtol=0, atol=1e-6)


def masks_for_the_kernel():
    torch.manual_seed(4)
    bias = torch.randn(2, 3, 11, 11)
    seen = torch.rand(2, 1, 11, 11) < 0.6
    seen[1, 0, 4] = False  # a query that sees no key
    hidden = torch.zeros(2, 1, 1, 11)
    hidden[1, ..., 8:] = -torch.inf
    return {
        "none": None,
        "bool": seen,
        "bias": bias,
        "hidden": hidden,
        "bias and hidden": bias + torch.zeros(11, 11).masked_fill(~seen[0, 0], -torch.inf),
        "lowest": torch.zeros(11, 11).masked_fill(
            torch.ones(11, 11).triu(1).bool(), torch.finfo(torch.float32).min
        ),
        "keys": torch.rand(11) < 0.7,
    }


@pytest.mark.parametrize("name", masks_for_the_kernel())
def test_masks_of_the_kernel_are_read(name):
    mask = masks_for_the_kernel()[name]
    if name == "keys":
        mask = mask.expand(11, 11)
    model = Kernel()
    x = torch.randn(2, 11, 15)
    captured = []
    with torch.no_grad():
        plain = model(x, attn_mask=mask, is_causal=False, scale=0.7)
    recording = recorded(model, x, attn_mask=mask, is_causal=False, scale=0.7, outputs=captured)
    assert torch.equal(plain, captured[0])
    B, T, _ = x.shape
    q, k, _ = (part.view(B, T, 3, 5).transpose(1, 2).double() for part in model.qkv(x).chunk(3, -1))
    scores = q @ k.mT * 0.7
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    expected = scores.softmax(-1).nan_to_num(0).detach().numpy()
    np.testing.assert_allclose(dense_weights(recording[0]), expected, rtol=0, atol=1e-6)
    if name == "bool":
        assert np.isneginf(recording[0].lse[1, :, 4]).all()
        assert np.isneginf(recording[0].lse).sum() == 3
    if name == "lowest":
        assert repr(recording[0].mask) == "Causal()"


class Plain(nn.Module):
    """Only the kernel."""

    def forward(self, query, key, value, **more):
        return functional.scaled_dot_product_attention(query, key, value, **more)


@pytest.mark.parametrize(
    ("shapes", "more"),
    [
        (((7, 5), (11, 5), (11, 5)), {}),
        (((2, 7, 5), (2, 11, 5), (2, 11, 3)), {}),
        (((2, 6, 7, 5), (2, 3, 11, 5), (2, 3, 11, 5)), {"enable_gqa": True}),
        (((2, 6, 7, 5), (2, 1, 11, 5), (2, 1, 11, 5)), {}),
        (((2, 3, 7, 5), (2, 3, 11, 5), (2, 3, 11, 5)), {"is_causal": True}),
        (((2, 3, 4, 7, 5), (2, 3, 4, 11, 5), (2, 3, 4, 11, 5)), {}),
    ],
)
def test_shapes_of_the_kernel(shapes, more):
    torch.manual_seed(6)
    query, key, value = (torch.randn(shape) for shape in shapes)
    captured = []
    recording = recorded(Plain(), query, key, value, outputs=captured, **more)
    assert torch.equal(captured[0], Plain()(query, key, value, **more))
    assert recording.names == ["(model)"]
    weights = dense_weights(recording[0])
    if more.get("enable_gqa"):
        value = value.repeat_interleave(2, dim=1)
    if query.ndim == 3:
        value = value[:, None]
    found = weights.reshape(*query.shape[:-3], *weights.shape[-3:]) if query.ndim > 4 else weights
    made = torch.from_numpy(found).float() @ value
    np.testing.assert_allclose(made.reshape(captured[0].shape), captured[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)


def test_dropout_in_training_leaves_weights_before_it():
    torch.manual_seed(6)
    query = torch.randn(2, 3, 7, 5)
    torch.manual_seed(9)
    expected = Plain()(query, query, query, dropout_p=0.5)
    torch.manual_seed(9)
    captured = []
    recording = recorded(Plain(), query, query, query, outputs=captured, dropout_p=0.5)
    assert torch.equal(captured[0], expected)
    np.testing.assert_allclose(dense_weights(recording[0]).sum(-1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
def test_transformer_encoder_is_read_also_where_torch_has_a_fast_path(padded):
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(15, 3, 31, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 11, 15)
    hidden = torch.zeros(2, 11, dtype=torch.bool)
    hidden[1, 8:] = padded
    captured = []
    with torch.no_grad():
        plain = model(x, src_key_padding_mask=hidden)
    recording = recorded(model, x, src_key_padding_mask=hidden, outputs=captured)
    np.testing.assert_allclose(captured[0][~hidden], plain[~hidden], rtol=0, atol=1e-5)
    assert recording.names == ["layers.0.self_attn", "layers.1.self_attn"]
    assert {layer.way for layer in recording} == {"mha"}
    assert {layer.kind for layer in recording} == {"self"}
    own = model.layers[0].self_attn
    _, expected = own(
        x, x, x, key_padding_mask=hidden, need_weights=True, average_attn_weights=False
    )
    np.testing.assert_allclose(dense_weights(recording[0]), expected.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_of_torch_is_read_with_and_without_weights(need_weights):
    torch.manual_seed(3)
    model = nn.MultiheadAttention(15, 3, kdim=7, vdim=5, batch_first=True)
    query, key, value = torch.randn(2, 11, 15), torch.randn(2, 13, 7), torch.randn(2, 13, 5)
    mask = torch.zeros(11, 13)
    mask[:, 9:] = -torch.inf
    plain = model(query, key, value, attn_mask=mask, need_weights=need_weights)[0]
    captured = []
    recording = recorded(
        model, query, key, value, attn_mask=mask, need_weights=need_weights, outputs=captured
    )
    assert torch.equal(captured[0], plain)
    _, expected = model(query, key, value, attn_mask=mask, average_attn_weights=False)
    assert (recording[0].kind, recording[0].way) == ("cross", "mha")
    np.testing.assert_allclose(dense_weights(recording[0]), expected.detach(), rtol=0, atol=1e-6)


def test_a_decoder_layer_of_torch_has_self_and_cross_attention():
    torch.manual_seed(3)
    model = nn.Transformer(
        14, 2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=31, batch_first=True
    ).eval()
    recording = recorded(model, torch.randn(2, 11, 14), torch.randn(2, 7, 14))
    found = [(layer.layer, layer.side, layer.kind) for layer in recording]
    assert found == [
        ("encoder.layers.0.self_attn", "encoder", "self"),
        ("decoder.layers.0.self_attn", "decoder", "self"),
        ("decoder.layers.0.multihead_attn", "decoder", "cross"),
    ]


@pytest.mark.parametrize("length", [11, 307])
def test_modules_of_atento_are_read(length):
    torch.manual_seed(3)
    model = nn.Sequential(
        MultiHeadAttention(12, 6, num_kv_heads=2, mask=Causal() & Window(left=4)), nn.Linear(12, 5)
    )
    x = torch.randn(2, length, 12)
    captured = []
    with torch.no_grad():
        plain = model(x)
        _, expected = model[0](x, return_weights=True)
    recording = recorded(model, x, outputs=captured)
    assert torch.equal(captured[0], plain)
    assert recording.names == ["0"]
    assert recording[0].way == "atento"
    assert recording[0].key.shape == (2, 2, length, 2)
    np.testing.assert_allclose(dense_weights(recording[0]), expected, rtol=0, atol=1e-6)


def test_the_front_door_itself_is_read_with_all_its_options():
    class Module(nn.Module):
        def forward(self, x, **options):
            return atento.attention(x, x, x, **options)

    torch.manual_seed(3)
    x = torch.randn(2, 3, 11, 5)
    options = {
        "mask": Causal(),
        "bias": torch.randn(3, 11, 11),
        "scale": 0.7,
        "softcap": 2.0,
        "sinks": torch.randn(3),
    }
    recording = recorded(Module(), x, **options)
    _, expected = atento.attention(x, x, x, return_weights=True, **options)
    np.testing.assert_allclose(dense_weights(recording[0]), expected, rtol=0, atol=1e-6)


class Softcapped(Written):
    """Grouped heads by einsum, a softcap, a bias and a step that nobody knows."""

    def __init__(self, odd=False):
        super().__init__()
        self.odd = odd

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (part.view(B, T, 3, 5) for part in self.qkv(x).chunk(3, -1))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k)
        scores = 3 * torch.tanh(0.5 * scores / 3)
        distance = torch.arange(T)[:, None] - torch.arange(T)
        scores = scores - 0.1 * distance.abs() if self.odd else scores + -0.1 * distance.abs()
        weights = torch.softmax(scores, dim=-1)
        self.weights = weights
        return torch.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, T, -1)


class OddAttention(Softcapped):
    """The same, with a step that is not followed, and a name that says what it is."""

    def __init__(self):
        super().__init__(odd=True)


def test_a_formula_with_softcap_and_bias_is_followed_step_by_step():
    torch.manual_seed(3)
    model = Softcapped()
    recording = recorded(model, 3 * torch.randn(2, 11, 15))
    assert recording[0].softcap == 3
    assert recording[0].bias.shape == (11, 11)
    assert recording[0].query.shape == (2, 3, 11, 5)
    np.testing.assert_allclose(dense_weights(recording[0]), model.weights, rtol=0, atol=1e-6)


def test_a_formula_with_unknown_steps_is_kept_by_its_scores():
    torch.manual_seed(3)
    model = OddAttention()
    recording = recorded(model, 3 * torch.randn(2, 11, 15))
    assert recording[0].bias.shape == (2, 3, 11, 11)
    np.testing.assert_allclose(dense_weights(recording[0]), model.weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("copy", [torch.clone, torch.Tensor.contiguous])
def test_copies_are_made_however_they_are_asked_for(copy):
    def attend(x):
        x = torch.clone(input=x) if copy is torch.clone else copy(x.mT).mT
        return functional.scaled_dot_product_attention(x, x, x)

    model = nn.Module()
    model.forward = attend
    assert recorded(model, torch.randn(2, 3, 7, 5))[0].shape == (2, 3, 7, 7)


def test_other_softmaxes_are_not_taken_for_attention():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend = Kernel()
            self.gate = nn.Linear(15, 7)
            self.matrix = nn.Parameter(torch.randn(15, 7))

        def forward(self, x):
            x = self.attend(x)
            return self.gate(x).softmax(-1) + (x @ self.matrix).softmax(-1)

    recording = recorded(Router(), torch.randn(2, 11, 15))
    assert recording.names == ["attend"]


class Grouped(nn.Module):
    """Groups of query heads as an axis of their own: (batch, key head, group, query, key)."""

    def __init__(self, key_heads=2, group=3):
        super().__init__()
        self.num_heads, self.sizes = key_heads * group, (key_heads, group)
        self.q, self.k = nn.Linear(15, 4 * self.num_heads), nn.Linear(15, 4 * key_heads)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (*self.sizes, 4)).permute(0, 2, 3, 1, 4)
        k = self.k(x).unflatten(-1, (self.sizes[0], 1, 4)).permute(0, 2, 3, 1, 4)
        self.weights = (q @ k.mT / 2).softmax(-1)
        return self.weights


def test_heads_in_groups_are_heads():
    model = Grouped()
    recording = recorded(model, 3 * torch.randn(2, 11, 15))
    assert recording[0].query.shape == (2, 6, 11, 4)
    expected = model.weights.flatten(1, 2)
    # Scores up to 20, in float32, are rounded by 2e-6; and so are what they are exponents of.
    np.testing.assert_allclose(weights_of(recording[0]), expected, rtol=0, atol=4e-6)


@pytest.mark.parametrize("sizes", [(1, 6), (6, 1)])
def test_heads_in_groups_that_could_be_blocks_are_refused(sizes):
    with pytest.raises(EngineError, match=r"2×.*×11×11, which are not for certain"):
        recorded(Grouped(*sizes), torch.randn(2, 11, 15))


class ScoresOfOtherAxesAttention(nn.Module):
    """A softmax over scores that came from nowhere, of a shape."""

    def __init__(self, shape, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.scores = nn.Parameter(torch.randn(shape))

    def forward(self):
        return self.scores.sin().softmax(-1)


OTHER_AXES = [
    (2, 13, 3, 5),  # (batch, query, head, key): windows
    (2, 3, 3, 5),  # the same, of as many queries as there are heads
    (2, 4, 7, 7),  # (batch, block, query, key)
    (2, 5, 3, 7, 7),  # (batch, block, head, query, key)
    (2, 1, 3, 7, 21),  # one block
    (2, 3, 1, 7, 11),
    (2, 2, 5, 3, 7, 7),
]


@pytest.mark.parametrize("shape", OTHER_AXES)
def test_scores_in_other_axes_are_refused(shape):
    model = ScoresOfOtherAxesAttention(shape, 3)
    said = "×".join(map(str, shape))
    with pytest.raises(EngineError, match=rf"^\(model\): its softmax is over scores of {said},"):
        recorded(model)
    with torch.no_grad(), capture(model, strict=False) as recording:
        model()
    assert len(recording) == 0
    assert [layer for layer, _ in recording.skipped] == ["(model)"]


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (2, 3, 3, 3), (2, 3, 1, 5), (6, 7, 5), (6, 3, 5)])
def test_scores_in_the_axes_of_attention_are_read(shape):
    model = ScoresOfOtherAxesAttention(shape, 3)
    recording = recorded(model)
    expected = model().detach().reshape(2, 3, *shape[-2:])
    np.testing.assert_allclose(weights_of(recording[0]), expected, rtol=0, atol=1e-6)


T5_LIKE = {"vocab_size": 101, "d_model": 24, "num_heads": 3, "num_layers": 1, "d_ff": 31, "d_kv": 8}


def longformer():
    config = transformers.LongformerConfig(**SMALL, attention_window=[4], pad_token_id=0)
    return transformers.LongformerModel(config), "encoder.layer.0.attention.self"


def big_bird():
    config = transformers.BigBirdConfig(**SMALL, block_size=4, num_random_blocks=1)
    return transformers.BigBirdModel(config), "encoder.layer.0.attention.self"


def long_t5():
    config = transformers.LongT5Config(**T5_LIKE, local_radius=5)
    return transformers.LongT5EncoderModel(config), r"encoder.block.0.layer.0.LocalSelfAttention"


@pytest.mark.parametrize("make", [longformer, big_bird, long_t5])
def test_attention_in_windows_and_blocks_is_refused(make):
    model, layer = make()
    model.eval()
    recording = None
    with torch.no_grad(), pytest.raises(EngineError, match=f"{layer}: its softmax is over scores"):  # noqa: SIM117
        with capture(model, statistics=()) as recording:
            model(input_ids=ids(length=64))
    assert len(recording) == 0  # of BigBird's blocks, the first are in order
    with torch.no_grad(), capture(model, statistics=(), strict=False) as recording:
        model(input_ids=ids(length=64))
    assert [record for record in recording if record.layer.endswith(layer)] == []
    assert any(name.endswith(layer) for name, _ in recording.skipped)


class SoftmaxOfItsOwn(Softcapped):
    """A bias, hidden keys and then the scale; and the softmax is a module."""

    def __init__(self, factor=0.5, rows=slice(None)):
        super().__init__()
        self.softmax, self.factor, self.rows = nn.Softmax(dim=-1), factor, rows

    def forward(self, x):
        B, T, _ = x.shape
        q, k, _ = (part.view(B, T, 3, 5).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        hidden = torch.zeros(T, T)
        hidden[self.rows] = torch.full((T, T), torch.finfo(x.dtype).min).triu(1)[self.rows]
        scores = (q @ k.mT + torch.arange(T).cos() + hidden) * self.factor
        scores = scores.masked_fill(torch.arange(T) == 4, -torch.inf) / 2
        self.weights = self.softmax(scores)
        return self.weights


def test_what_hides_keys_hides_them_behind_a_scale_too():
    torch.manual_seed(3)
    model = SoftmaxOfItsOwn()
    (layer,) = recorded(model, 3 * torch.randn(2, 11, 15))
    assert layer.layer == "(model)"
    assert layer.query.shape == (2, 3, 11, 5)
    assert layer.scale == 0.25
    np.testing.assert_allclose(layer.bias.ravel(), np.cos(np.arange(11)) / 4, rtol=0, atol=1e-6)
    assert np.isneginf(layer.lse).sum() == 0
    np.testing.assert_allclose(weights_of(layer), model.weights, rtol=0, atol=1e-6)


def test_a_scale_below_zero_makes_of_hidden_keys_those_that_are_seen():
    model = SoftmaxOfItsOwn(factor=-0.5, rows=[3])  # none of the rows that are compared
    with pytest.raises(InputError, match="no attention was seen"):  # not followed, not named so
        recorded(model, torch.randn(2, 11, 15))


def codegen():
    config = transformers.CodeGenConfig(
        vocab_size=101, n_embd=32, n_layer=2, n_head=4, n_positions=67, rotary_dim=4
    )
    torch.manual_seed(7)
    model = transformers.CodeGenForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(6)
    return model


@pytest.mark.parametrize("padded", [False, True])
def test_codegen_is_read_from_its_queries_and_keys(padded):
    model, keep = codegen(), torch.ones(2, 13, dtype=torch.long)
    keep[1, 9:] = 1 - padded
    inputs = {"input_ids": ids(), "attention_mask": keep}
    recording = recorded(model, **inputs)
    assert recording.names == [f"transformer.h.{i}.attn" for i in range(2)]
    with torch.no_grad():
        expected = model(**inputs, output_attentions=True).attentions
    for layer, own in zip(recording, expected, strict=True):
        assert layer.bias is None
        np.testing.assert_allclose(weights_of(layer), own, rtol=0, atol=1e-5)


def test_rows_that_a_large_number_hides_as_a_whole_are_even():
    model = ScoresOfOtherAxesAttention((2, 3, 7, 5), 3)
    with torch.no_grad():
        model.scores[1, :, 2:4] = 0
        model.forward = lambda: (model.scores - 1e9 * (model.scores == 0)).softmax(-1)
    recording = recorded(model)
    found = weights_of(recording[0])
    np.testing.assert_allclose(found[1, :, 2:4], np.full((3, 2, 5), 0.2), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found, model().detach(), rtol=0, atol=1e-6)


def test_layers_and_heads_can_be_chosen():
    family = llama()
    whole = recorded(family.model, **family.inputs)
    with torch.no_grad():
        with capture(family.model, layers=1, heads=[4, 1], statistics=()) as recording:
            family.model(**family.inputs)
        with capture(family.model, layers="*.0.*", statistics=()) as first:
            family.model(**family.inputs)
    assert recording.names == family.layers[1:]
    assert first.names == family.layers[:1]
    assert recording[0].shape == (2, 2, 13, 13)
    np.testing.assert_allclose(
        weights_of(recording[0]), weights_of(whole[1])[:, [4, 1]], rtol=0, atol=1e-7
    )


def test_heads_with_a_mask_and_bias_by_head_can_be_chosen():
    torch.manual_seed(3)
    query = torch.randn(2, 3, 7, 5)
    bias = torch.randn(2, 3, 7, 7).masked_fill(torch.rand(2, 3, 7, 7) < 0.3, -torch.inf)
    model = Plain()
    whole = recorded(model, query, query, query, attn_mask=bias)
    with capture(model, heads=2, statistics=()) as recording:
        model(query, query, query, attn_mask=bias)
    assert recording[0].heads == 1
    np.testing.assert_allclose(
        weights_of(recording[0])[:, 0], weights_of(whole[0])[:, 2], rtol=0, atol=1e-7
    )


def by_head_and_block(batch_idx, head_idx, q_idx, kv_idx):
    return (kv_idx <= q_idx) & (kv_idx // 4 >= head_idx)


@pytest.mark.parametrize("heads", [None, [4, 2]])
def test_a_mask_that_is_asked_is_that_of_head_0_in_all_heads(monkeypatch, heads):
    """As transformers makes it, which gives its functions no other head."""
    monkeypatch.setattr(masking_utils, "causal_mask_function", by_head_and_block)
    family = gpt2()
    keep = torch.ones(2, 13, dtype=torch.long)
    keep[1, 3:5] = 0  # so that the mask is made, and no kernel's own taken
    inputs = {**family.inputs, "attention_mask": keep}
    with torch.no_grad(), capture(family.model, heads=heads, statistics=()) as recording:
        family.model(**inputs)
    assert "Rule(" in repr(recording[0].mask)
    for layer, expected in eager_weights("gpt2", inputs).items():
        chosen = expected if heads is None else expected[:, heads]
        np.testing.assert_allclose(weights_of(recording[layer]), chosen, rtol=0, atol=1e-5)


def test_only_statistics_can_be_kept_and_dtypes_chosen():
    family = llama()
    with torch.no_grad():
        with capture(family.model, keep="statistics", statistics=["entropy"]) as recording:
            family.model(**family.inputs)
        with capture(family.model, dtype="float16", statistics=()) as half:
            family.model(**family.inputs)
    layer = recording[1]
    assert layer.query is None
    assert layer.key is None
    weights = dense_weights(recorded(family.model, **family.inputs)[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(weights > 0, weights * np.log(weights), 0).sum(-1)
    np.testing.assert_allclose(layer.statistics["entropy"], entropy, rtol=0, atol=1e-5)
    assert half[0].query.dtype == np.float16


def test_induction_and_duplicates_come_with_token_ids():
    family = gpt2()
    recording = recorded(family.model, statistics=None, **family.inputs)
    tokens = family.inputs["input_ids"].numpy()
    np.testing.assert_array_equal(recording.token_ids, tokens)
    same = np.tril(tokens[:, :, None] == tokens[:, None, :], -1)
    expected = (dense_weights(recording[0]) * same[:, None]).sum(-1)
    np.testing.assert_allclose(recording[0].statistics["duplicate"], expected, rtol=0, atol=1e-6)
    assert "induction" in recording[0].statistics
    no_tokens = recorded(bert().model, statistics=None, inputs_embeds=torch.randn(2, 7, 21))
    assert "duplicate" not in no_tokens[0].statistics


def test_several_passes_are_kept_apart():
    family = bert()
    with torch.no_grad(), capture(family.model, statistics=()) as recording:
        family.model(input_ids=ids(length=5))
        family.model(input_ids=ids(length=7))
    assert [run[0].queries for run in recording.passes] == [5, 7]


def test_a_model_without_attention_is_refused_with_its_classes():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(InputError, match=r"no attention was seen in Sequential.*Linear, ReLU, Seq"):
        recorded(model, torch.ones(2, 3))
    with capture(model, strict=False) as recording:
        model(torch.ones(2, 3))
    assert len(recording) == 0


def test_a_compiled_model_is_refused_by_name():
    compiled = torch._dynamo.eval_frame.OptimizedModule(Kernel(), lambda f: f)
    model = nn.Sequential(compiled)
    with pytest.raises(EngineError, match=r"0 is compiled by torch\.compile"):
        recorded(model, torch.ones(2, 3, 15))
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module; got str"):
        recorded("model")


class Half(nn.Module):
    """One layer that can be read, one that cannot."""

    def __init__(self, model):
        super().__init__()
        self.kernel, self.hidden = Kernel(), model

    def forward(self, x, **inputs):
        return self.kernel(x), self.hidden(**inputs)


def test_what_cannot_be_read_is_refused_by_name_or_skipped(monkeypatch):
    family = llama()
    interface = transformers.AttentionInterface
    sdpa = interface._global_mapping["sdpa"]
    monkeypatch.setitem(interface._global_mapping, "my_flash", sdpa)
    monkeypatch.setattr(family.model.config, "_attn_implementation_internal", "my_flash")
    model = Half(family.model)
    x = torch.randn(2, 11, 15)
    with pytest.raises(EngineError, match=r"layers\.0\.self_attn: .*'my_flash' cannot be read"):
        recorded(model, x, **family.inputs)
    with torch.no_grad(), capture(model, strict=False, statistics=()) as recording:
        model(x, **family.inputs)
    assert "kernel" in recording.names
    assert [layer for layer, _ in recording.skipped] == [
        f"hidden.{layer}" for layer in family.layers
    ]
    assert "'my_flash' cannot be read" in recording.skipped[0][1]
    assert recording.names == ["kernel"]  # though it ends in torch's attention
    changed = capture(model, strict=False, statistics=(), interventions=KnockOut("hidden.*"))
    with torch.no_grad(), changed:
        found = model(x, **family.inputs)[1].logits
    with torch.no_grad():
        assert torch.equal(found, family.model(**family.inputs).logits)


def test_eager_attention_that_does_something_else_is_refused(monkeypatch):
    family = llama(attn_implementation="eager")
    from transformers.models.llama import modeling_llama

    eager = modeling_llama.eager_attention_forward

    def other(module, query, key, value, mask, **kwargs):
        output, weights = eager(module, query, key, value, mask, **kwargs)
        return output, weights**1.1

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", other)
    with pytest.raises(EngineError, match="self_attn: its attention computes something else"):
        recorded(family.model, **family.inputs)


def test_layers_heads_and_options_that_are_not_there_are_refused():
    family = llama()
    unseen = r"no attention was seen in model\.layers\.9.*0: model\.layers"
    elsewhere = capture(family.model, layers=["model.layers.9.self_attn"], statistics=())
    with pytest.raises(InputError, match=unseen), elsewhere:
        family.model(**family.inputs)
    seventh = capture(family.model, heads=[6], statistics=())
    with pytest.raises(InputError, match="there is no head 6: the layer has 6"), seventh:
        family.model(**family.inputs)
    for options, message in (
        ({"keep": "all"}, "keep must be one of qk, statistics"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"layers": [-1]}, "counted from 0"),
        ({"layers": [1.5]}, "module paths or numbers"),
        ({"heads": []}, "heads is empty"),
        ({"heads": [-1]}, "whole numbers from 0 on"),
        ({"statistics": ["nonsense"]}, "nonsense"),
    ):
        with pytest.raises(InputError, match=message), capture(family.model, **options):
            pass


def test_modules_that_did_not_run_are_listed():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.MultiheadAttention(15, 3)
            self.two = nn.MultiheadAttention(15, 3)

        def forward(self, x):
            return self.one(x, x, x)[0]

    recording = recorded(Two(), torch.randn(7, 2, 15))
    assert recording.names == ["one"]
    assert [layer for layer, _ in recording.skipped] == ["two"]


def test_a_static_cache_with_room_for_more_tokens():
    family = llama()
    whole = recorded(family.model, **family.inputs)
    tokens = family.inputs["input_ids"]
    cache = transformers.StaticCache(config=family.model.config, max_cache_len=17)
    with torch.no_grad(), capture(family.model, statistics=()) as recording:
        family.model(input_ids=tokens[:, :12], past_key_values=cache)
        family.model(input_ids=tokens[:, 12:], past_key_values=cache)
    last = recording.records[-1]
    assert last.layer == family.layers[-1]
    expected = weights_of(whole[1])[:, :, -1]
    np.testing.assert_allclose(weights_of(last)[:, :, -1, :13], expected, rtol=0, atol=1e-5)
    assert not weights_of(last)[:, :, -1, 13:].any()


def test_a_bias_that_is_added_before_the_scale_is_scaled_too_and_stays_small():
    family = FAMILIES["falcon_with_alibi"](attn_implementation="eager")
    recording = recorded(family.model, **family.inputs)
    for layer in recording:
        assert layer.way == "softmax"
        assert layer.query.shape == (2, 5, 13, 4)
    bloom = FAMILIES["bloom"]()
    read = recorded(bloom.model, **bloom.inputs)
    assert read[0].bias.shape == (2, 5, 1, 13)
    assert repr(read[0].mask) == "Causal()"
