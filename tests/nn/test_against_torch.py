"""MultiHeadAttention beside nn.MultiheadAttention with the same weights, masks the other way up."""

import pytest
import torch

from atento.masks import Causal, KeyPadding
from atento.nn import MultiHeadAttention

B, T, C, H = 3, 7, 12, 2
HIDDEN = torch.arange(T) >= torch.tensor([[7], [5], [2]])


@pytest.fixture
def pair():
    """One function twice: torch's packs three weights into one."""
    torch.manual_seed(79)
    theirs = torch.nn.MultiheadAttention(C, H, batch_first=True).double()
    ours = MultiHeadAttention(C, H, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_bias.normal_()
    state = theirs.state_dict()
    packed = zip(
        ("query", "key", "value"),
        state["in_proj_weight"].split(C),
        state["in_proj_bias"].split(C),
        strict=True,
    )
    state = {f"output.{kind}": state[f"out_proj.{kind}"] for kind in ("weight", "bias")}
    for role, weight, bias in packed:
        state |= {f"{role}.weight": weight, f"{role}.bias": bias}
    ours.load_state_dict(state)
    return ours, theirs


CASES = {
    "plain": ({}, {}),
    "causal": (
        {"mask": Causal()},
        {"attn_mask": torch.ones(T, T, dtype=torch.bool).triu(1), "is_causal": True},
    ),
    "padding": ({"mask": KeyPadding(~HIDDEN)}, {"key_padding_mask": HIDDEN}),
    "both": (
        {"mask": Causal() & KeyPadding(~HIDDEN)},
        {"attn_mask": torch.ones(T, T, dtype=torch.bool).triu(1), "key_padding_mask": HIDDEN},
    ),
    "bias": (
        {"bias": torch.eye(T, dtype=torch.float64)},
        {"attn_mask": torch.eye(T, dtype=torch.float64)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_output_weights_and_gradients(pair, case):
    ours, theirs = pair
    own, their = CASES[case]
    x = torch.randn(B, T, C, dtype=torch.float64)
    output, weights = ours(x, **own, return_weights=True)
    expected, expected_weights = theirs(x, x, x, **their, average_attn_weights=False)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-12)
    ours(x, **own).square().sum().backward()
    expected.square().sum().backward()
    made = torch.cat([ours.query.weight.grad, ours.key.weight.grad, ours.value.weight.grad])
    torch.testing.assert_close(made, theirs.in_proj_weight.grad, rtol=1e-10, atol=1e-12)


def test_there_and_back(pair):
    ours, theirs = pair
    x = torch.randn(B, T, C, dtype=torch.float64)
    made = MultiHeadAttention.from_torch(theirs)
    torch.testing.assert_close(made(x), ours(x), rtol=1e-12, atol=1e-12)
    back, _ = made.to_torch()(x, x, x)
    torch.testing.assert_close(back, ours(x), rtol=1e-12, atol=1e-12)
