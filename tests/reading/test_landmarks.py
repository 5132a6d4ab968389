"""Nyström's method looks at landmarks: beyond them its weights are a product of softmaxes."""

import pytest
import torch
import transformers

from atento import EngineError
from atento.reading.capturing import capture

TOKENS, LANDMARKS = 12, 4


def model(landmarks):
    torch.manual_seed(3)
    config = transformers.NystromformerConfig(
        vocab_size=61,
        hidden_size=14,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=17,
        num_landmarks=landmarks,
        segment_means_seq_len=TOKENS,
        max_position_embeddings=31,
    )
    return transformers.NystromformerModel(config).eval()


IDS = torch.arange(1, 2 * TOKENS + 1).reshape(2, TOKENS)


def test_a_model_with_landmarks_is_refused_by_name():
    made, why = model(LANDMARKS), r"attention\.self: one call .* 12×4, 4×4: it looks at landmarks"
    with pytest.raises(EngineError, match=why), torch.no_grad(), capture(made):
        made(IDS)


def test_its_layers_are_listed_with_the_reason_where_others_may_be_read():
    made = model(LANDMARKS)
    with torch.no_grad(), capture(made, strict=False) as recording:
        made(IDS)
    assert not len(recording)
    assert [layer for layer, _ in recording.skipped] == [
        f"encoder.layer.{i}.attention.self" for i in range(2)
    ]
    assert all("landmarks" in reason for _, reason in recording.skipped)


def test_as_many_landmarks_as_tokens_are_a_softmax_that_is_read():
    made = model(TOKENS)
    with torch.no_grad(), capture(made) as recording:
        weights = made(IDS, output_attentions=True).attentions
    for layer, expected in zip(recording, weights, strict=True):
        assert layer.shape == (2, 2, TOKENS, TOKENS)
        found = torch.tensor(layer.weights(1, batch=1))
        torch.testing.assert_close(found, expected[1, 1], rtol=0, atol=1e-6)


class TwoAttentions(torch.nn.Module):
    """Attention to others and to the tokens themselves in one call: each is read."""

    def forward(self, x, other):
        for key in (other, x):
            x = torch.softmax(x @ key.transpose(-1, -2), -1) @ key
        return x


def test_two_softmaxes_that_are_no_product_are_both_read():
    made = TwoAttentions()
    with capture(made) as recording:
        made(torch.rand(2, 7, 3), torch.rand(2, 5, 3))
        made(torch.rand(2, 5, 3), torch.rand(2, 7, 3))
    shapes = [record.shape for record in recording.records]
    assert shapes == [(2, 1, 7, 5), (2, 1, 7, 7), (2, 1, 5, 7), (2, 1, 5, 5)]
