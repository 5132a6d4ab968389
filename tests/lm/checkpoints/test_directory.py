"""What is saved here transformers loads, and the other way round; what does not fit is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from atento import InputError
from atento.embedded import load_mini
from atento.embedded.load import MINI
from atento.lm import (
    BPETokenizer,
    CharTokenizer,
    Transformer,
    TransformerConfig,
    load_model,
    save_model,
)
from atento.positions import DynamicNTKScaling, LinearScaling, Llama3Scaling, YarnScaling

LLAMA = {
    "position": "rotary",
    "norm": "rms",
    "feed_forward": "swiglu",
    "bias": False,
    "tied": False,
    "hidden": 53,
}
SHAPES = {
    "gpt2": {},
    "gpt2, untied, another width": {"tied": False, "hidden": 37},
    "llama": LLAMA,
    "llama, grouped": LLAMA | {"num_kv_heads": 2},
    "llama, tied, biases": LLAMA | {"tied": True, "bias": True},
    "llama, biases of attention": LLAMA | {"bias": True, "forward_bias": False},
    "llama, biases of the feed-forward": LLAMA | {"forward_bias": True},
    "llama, wide heads": LLAMA | {"head_size": 10, "num_kv_heads": 2},
    "llama, narrow heads": LLAMA | {"head_size": 4},
    "mistral, wide heads": LLAMA | {"window": 5, "head_size": 10},
    "llama, base": LLAMA | {"rotary_base": 500.0},
    "mistral": LLAMA | {"window": 5, "num_kv_heads": 1},
    "linear": LLAMA | {"rotary_scaling": LinearScaling(3.0)},
    "dynamic": LLAMA | {"rotary_scaling": DynamicNTKScaling(3.0, 17)},
    "yarn": LLAMA | {"rotary_scaling": YarnScaling(4.0, 11)},
    "llama3": LLAMA | {"rotary_scaling": Llama3Scaling(8.0, 1.0, 4.0, 11)},
}


def made(**changes):
    torch.manual_seed(3)
    sizes = {"context": 17, "d_model": 24, "num_layers": 2, "num_heads": 4}
    model = Transformer(TransformerConfig(29, **(sizes | changes))).eval()
    with torch.no_grad():  # first weights are so small that a wrong one would hardly be seen
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


IDS = torch.randint(29, (3, 13), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_the_same_logits(tmp_path, shape):
    model = made(**SHAPES[shape])
    save_model(model, tmp_path)
    theirs, told = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, model(IDS), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(load_model(tmp_path)(IDS), model(IDS), rtol=0, atol=0)
    assert load_model(tmp_path).config == TransformerConfig(
        **{**vars(model.config), "num_kv_heads": load_model(tmp_path).config.num_kv_heads,
           "hidden": model.config.hidden_size}
    )  # fmt: skip


THEIRS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=29, n_positions=17, n_embd=24, n_layer=2, n_head=4)
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=29,
            max_position_embeddings=17,
            hidden_size=24,
            intermediate_size=31,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(
            vocab_size=29,
            max_position_embeddings=17,
            hidden_size=24,
            intermediate_size=31,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            sliding_window=4,
            head_dim=6,
        )
    ),
}


@pytest.mark.parametrize("shards", [1, 5])
@pytest.mark.parametrize("kind", THEIRS)
def test_their_directories_load_here(tmp_path, kind, shards):
    torch.manual_seed(4)
    theirs = THEIRS[kind]().eval()
    theirs.save_pretrained(tmp_path, max_shard_size="5KB" if shards > 1 else "5GB")
    assert (tmp_path / "model.safetensors").exists() == (shards == 1)
    ours = load_model(tmp_path)
    assert not ours.training
    assert all(parameter.requires_grad for parameter in ours.parameters())
    assert all(parameter.is_contiguous() for parameter in ours.parameters())
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("stored", ["the same", "another"])
def test_scores_have_their_own_matrix_where_the_file_has_another(tmp_path, stored):
    """transformers does not tie two matrices that differ, whatever config.json says."""
    save_model(made(**LLAMA | {"tied": True}), tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    head = weights["model.embed_tokens.weight"].clone()
    weights["lm_head.weight"] = head if stored == "the same" else torch.randn(head.shape)
    save_file(weights, path, metadata={"format": "pt"})
    theirs, ours = AutoModelForCausalLM.from_pretrained(tmp_path), load_model(tmp_path)
    assert ours.config.tied == (stored == "the same")
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_numbers_are_read_as_float32(tmp_path, dtype):
    torch.manual_seed(4)
    THEIRS["llama"]().to(dtype).save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.no_grad():
        ours = load_model(tmp_path)(IDS)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs(IDS).logits, rtol=1e-5, atol=1e-4)


def test_own_models_of_before_come_back(tmp_path):
    """config.json had two fields less."""
    save_model(model := made(feed_forward=None), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["head_size"], settings["forward_bias"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load_model(tmp_path).config == model.config


def test_names_of_the_first_gpt2_checkpoints_are_known(tmp_path):
    save_model(model := made(), tmp_path)
    path = tmp_path / "model.safetensors"
    old = {name.removeprefix("transformer."): weight for name, weight in load_file(path).items()}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 17, 17), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(old, path)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(IDS), model(IDS))


def test_the_embedded_model_loads():
    ids = load_mini().encode("Your journey starts with one step").ids
    model = load_model(MINI)
    with torch.no_grad():
        expected = torch.from_numpy(load_mini()(ids).copy())
        torch.testing.assert_close(model(torch.tensor([ids]))[0], expected, rtol=1e-5, atol=1e-4)
    assert tuple(model.tokenizer.encode("your journey")) == tuple(
        load_mini().encode("your journey").ids
    )


def test_a_model_of_attention_alone_comes_back(tmp_path):
    model = made(feed_forward=None)
    save_model(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(IDS), model(IDS))
    assert load_model(tmp_path).config == model.config


@pytest.mark.parametrize(
    "tokenizer",
    [CharTokenizer("abcdefghijklmnopqrstuvwxyz .,"), BPETokenizer.train(["a b"], 257)],
    ids=["characters", "byte pairs"],
)
def test_the_tokenizer_comes_along(tmp_path, tokenizer):
    save_model(made(), tmp_path, tokenizer)
    assert load_model(tmp_path).tokenizer.encode("a cab.") == tokenizer.encode("a cab.")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("a cab.")["input_ids"] == tokenizer.encode("a cab.")
    save_model(load_model(tmp_path), tmp_path / "again")
    assert load_model(tmp_path / "again").tokenizer.encode("cab") == tokenizer.encode("cab")


def rewritten(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "bert"}, "type 'bert'; loaded here are gpt2, llama, mistral, atento"),
        ({"vocab_size": 30}, r"transformer.wte.weight has shape \(29, 24\); .* \(30, 24\)"),
        ({"n_layer": 3}, r"without transformer\.h\.2\.ln_1\.weight.* and 6 more"),
        ({"n_layer": 1}, r"with transformer\.h\.1.*unknown here"),
        ({"n_inner": 50}, r"c_fc.weight has shape \(24, 96\).*\(24, 50\)"),
        ({"n_head": 5}, "multiple of num_heads; got 5"),
        ({"activation_function": "relu"}, "activation_function = 'relu'"),
        ({"scale_attn_weights": False}, "scale_attn_weights = False"),
        ({"vocab_size": "many"}, "whole number"),
        ({"layer_norm_epsilon": "tiny"}, "norm_epsilon must be at least 0"),
        ({"resid_pdrop": "some"}, "dropout must be at least 0"),
        ({"tie_word_embeddings": "no"}, "tied must be True or False; got 'no'"),
    ],
)
def test_a_directory_that_does_not_fit_says_where(tmp_path, changes, said):
    save_model(made(), tmp_path)
    rewritten(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        load_model(tmp_path)


def test_settings_that_are_missing_are_named(tmp_path):
    save_model(made(), tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["n_embd"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="lacks what is needed: 'n_embd'"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 9000])
def test_a_broken_configuration_is_told(tmp_path, text):
    save_model(made(), tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize("end", [0, 7, 100, 5000, -1])
def test_weights_that_end_too_soon_are_told(tmp_path, end):
    save_model(made(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path)


@pytest.mark.parametrize("index", [
    "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "[" * 99_999,
    '{"weight_map": {"a": "b.safetensors"}}',
])  # fmt: skip
def test_a_broken_index_is_told(tmp_path, index):
    save_model(made(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.txt").write_text("a")
    with pytest.raises(InputError, match=r"model\.txt is no model"):
        load_model(tmp_path / "model.txt")


def test_a_pickle_is_refused(tmp_path):
    save_model(made(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin, a pickle"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        load_model(tmp_path)


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be"):
        save_model(made(), tmp_path / "file")


def test_a_shape_of_no_family_says_what_each_lacks(tmp_path):
    model = made(norm="rms", rotary_scaling=LinearScaling(2.0))
    with pytest.raises(InputError, match="gpt2 has no norm = 'rms'; llama has no position"):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_index_reaches_no_file_outside_the_folder(tmp_path):
    save_model(made(), tmp_path / "secret")
    folder = tmp_path / "model"
    save_model(made(), folder)
    (folder / "model.safetensors").unlink()
    parts = {"weight_map": {"x": "../secret/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(parts))
    with pytest.raises(InputError, match="cannot be read"):
        load_model(folder)
