"""The NumPy forward pass: equal to torch's and to transformers', and clear when it cannot run."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from atento import attention
from atento._errors import AtentoError, InputError
from atento.embedded import load_mini
from atento.embedded.load import MINI
from atento.embedded.weights import read_safetensors
from atento.lm.mini.transformer import Transformer, TransformerConfig, from_gpt2
from atento.masks import Causal

TEXTS = [
    "Your journey starts with one step",
    "El gato se sentó en la alfombra porque estaba cansado. ¿Por qué? No lo sé.",
    "dos más tres son cinco; two plus three is five!",
    "</script> 漢字 İ 😀",
    "a",
    "the dog and the cat " * 25,
]


@pytest.fixture(scope="module")
def torch_model() -> Transformer:
    mini = load_mini()
    config = TransformerConfig(
        len(mini.tokenizer.vocabulary),
        mini.context,
        mini.d_model,
        mini.num_layers,
        mini.num_heads,
    )
    return from_gpt2(config, load_file(MINI / "model.safetensors")).eval()


@pytest.mark.parametrize("text", TEXTS)
def test_logits_equal_our_torch_model(text: str, torch_model: Transformer) -> None:
    ids = load_mini().encode(text).ids
    with torch.no_grad():
        expected = torch_model(torch.tensor([ids]))[0].numpy()
    # Logits reach 15, where float32 steps by 1e-6: within 1e-5 of their size.
    np.testing.assert_allclose(load_mini()(ids), expected, rtol=1e-5, atol=1e-5)


def test_logits_and_ids_equal_transformers() -> None:
    model = AutoModelForCausalLM.from_pretrained(MINI, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(MINI)
    for text in TEXTS:
        ids = load_mini().encode(text).ids
        assert tokenizer(text)["input_ids"] == list(ids)
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(load_mini()(ids), expected, rtol=1e-5, atol=1e-5)


def test_a_run_holds_what_attention_computed() -> None:
    mini = load_mini()
    ids = mini.encode(TEXTS[1]).ids
    run = mini.run(ids)
    assert run.logits.shape == (len(ids), len(mini.tokenizer.vocabulary))
    assert len(run.layers) == mini.num_layers
    size = mini.d_model // mini.num_heads
    for layer in run.layers:
        assert layer.query.shape == layer.context.shape == (mini.num_heads, len(ids), size)
        context = attention(layer.query, layer.key, layer.value, mask=Causal())
        np.testing.assert_array_equal(layer.context, context)
        for head in range(mini.num_heads):
            columns = slice(head * size, (head + 1) * size)
            for weight, bias, projected in (
                (layer.query_weight, layer.query_bias, layer.query),
                (layer.key_weight, layer.key_bias, layer.key),
                (layer.value_weight, layer.value_bias, layer.value),
            ):
                by_hand = layer.input @ weight[:, columns] + bias[columns]
                np.testing.assert_allclose(projected[head], by_hand, atol=1e-5)


def test_a_token_never_sees_what_follows() -> None:
    mini = load_mini()
    ids = mini.encode("the dog is sleeping under the oak").ids
    np.testing.assert_allclose(mini(ids)[:4], mini(ids[:4]), atol=1e-5)


def test_vectors_are_the_same_alone_and_together() -> None:
    mini = load_mini()
    words = ["país", "méxico", "buenos aires", "perro", "zzyzx"]
    together = mini.vectors(words)
    assert together.shape == (5, mini.d_model)
    for word, row in zip(words, together, strict=True):
        np.testing.assert_allclose(mini.vectors([word])[0], row, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), np.sqrt(10), rtol=1e-5)


def test_the_example_of_the_documentation() -> None:
    mini = load_mini()
    key = mini.vectors(["méxico", "alemania", "inglaterra", "perro"])
    weights = attention(mini.vectors(["país"]), key, np.eye(4, dtype=np.float32), scale=1.0)[0]
    assert weights.argmin() == 3
    assert weights[3] < 0.05


@pytest.mark.parametrize("text", ["", "   \n\t"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no visible character"):
        load_mini().encode(text)


def test_too_long_a_text_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"at most 128 tokens .* has 129: cut it .*--cut"):
        load_mini().encode("dog " * 129)
    assert len(load_mini().encode("dog " * 128)) == 128
    with pytest.raises(InputError, match="has 129"):
        load_mini()([5] * 129)
    with pytest.raises(InputError, match="has 129"):
        load_mini().vectors(["dog " * 128])


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "non-empty"),
        ([[1, 2]], r"shape \(1, 2\)"),
        ([1.5], "float64"),
        ([-1], "-1 to -1"),
        ([10**6], "another tokenizer"),
    ],
)
def test_ids_that_are_none_are_refused(ids: list[int], said: str) -> None:
    with pytest.raises(AtentoError, match=said):
        load_mini()(ids)


def test_our_reader_equals_safetensors() -> None:
    ours, theirs = (
        read_safetensors(MINI / "model.safetensors"),
        load_file(MINI / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name].numpy())
        assert array.dtype == np.float16


def test_the_room_loads_no_torch() -> None:
    script = (
        "import sys; from atento.embedded import load_mini; m = load_mini(); "
        "m(m.encode('hola').ids); m.vectors(['hola']); "
        "print([n for n in ('torch', 'transformers', 'tokenizers', 'matplotlib', 'rich') "
        "if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_shipped_directory_is_small() -> None:
    assert sum(file.stat().st_size for file in MINI.iterdir()) <= 4 * 1024 * 1024


def test_a_head_that_is_off_passes_nothing_on():
    mini = load_mini()
    ids = mini.encode("Your journey starts with one step").ids
    silent = copy.copy(mini)
    silent._weights = dict(mini._weights)
    size = mini.d_model // mini.num_heads
    for layer, head in [(0, 1), (2, 0), (2, 3)]:
        name = f"h.{layer}.attn.c_proj.weight"
        weight = silent._weights[name].copy()
        weight[head * size : (head + 1) * size] = 0  # what the head writes to
        silent._weights[name] = weight
    found = mini.run(ids, off=[(0, 1), (2, 0), (2, 3)])
    np.testing.assert_allclose(found.logits, silent(ids), atol=1e-5)
    assert np.abs(found.logits - mini(ids)).max() > 0.01
    np.testing.assert_array_equal(found.layers[0].context, mini.run(ids).layers[0].context)
    np.testing.assert_array_equal(mini.run(ids, off=()).logits, mini(ids))


@pytest.mark.parametrize("off", [(0, 4), (3, 0), (-1, 0), (0, -1)])
def test_a_head_that_is_not_there_cannot_be_off(off):
    with pytest.raises(InputError, match=r"has layers 0 to 2, each with heads 0 to 3\.$"):
        load_mini().run([1, 2], off=[off])
