"""Masks of large negative numbers in formulas written out: a row may be hidden as a whole."""

import numpy as np
import pytest
import torch

from atento.reading.capturing import capture

B, H, T, D = 2, 3, 11, 5
WHOLE_ROWS = [4, 7]  # none that the record is checked on


class WrittenAttention(torch.nn.Module):
    num_heads = H

    def forward(self, query, key, added):
        weights = torch.softmax(query @ key.transpose(-1, -2) * D**-0.5 + added, -1)
        self.weights = weights
        return weights @ key


@pytest.mark.parametrize("number", [-50.0, -10_000.0, -1e9, -1e30])
def test_rows_that_a_large_number_hides_are_what_the_model_left_of_them(number):
    torch.manual_seed(5)
    query, key = torch.randn(2, B, H, T, D)
    added = torch.where(torch.ones(T, T).tril().bool(), 0.0, number).repeat(B, 1, 1, 1)
    added[1, :, WHOLE_ROWS] = number
    model = WrittenAttention()
    with capture(model, statistics=["entropy"]) as recording:
        model(query, key, added)
    layer, expected = recording[0], model.weights.numpy()
    for batch, head in np.ndindex(B, H):
        np.testing.assert_allclose(
            layer.weights(head, batch=batch), expected[batch, head], rtol=0, atol=1e-5
        )
    logs = np.log(np.maximum(expected, np.finfo(np.float32).tiny))
    entropy = -(expected * logs).sum(-1)
    np.testing.assert_allclose(layer.statistics["entropy"], entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("number", [-50.0, -1e9])
def test_a_mask_that_leaves_each_row_a_key_keeps_queries_and_keys(number):
    query, key = torch.randn(2, B, H, T, D)
    added = torch.where(torch.ones(T, T).tril().bool(), 0.0, number)
    model = WrittenAttention()
    with capture(model, statistics=()) as recording:
        model(query, key, added)
    assert recording[0].query.shape == (B, H, T, D)
