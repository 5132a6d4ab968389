"""Positions as modules take them: rotations, biases on the scores, vectors added to the input."""

import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from atento import InputError, ShapeError
from atento.masks import Causal
from atento.nn import (
    AttentionHead,
    CrossAttention,
    LearnedPositions,
    MultiHeadAttention,
    RelativePositionBias,
)
from atento.positions import Alibi, Rotary, Sinusoidal, sinusoidal
from multi_head_oracle import multi_head_oracle, rotated

B, T, H, D, C = 2, 7, 3, 4, 11
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def make(**options):
    torch.manual_seed(61)
    return MultiHeadAttention(C, H, head_dim=D, dtype=torch.float64, **options)


def tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(67), dtype=torch.float64)


def t5(**options):
    bias = RelativePositionBias(H, 8, max_distance=20, dtype=torch.float64, **options)
    with torch.no_grad():
        bias.table.copy_(tokens(8, H))
    return bias


def t5_bias(bias, Tq, Tk, offset=0):
    """(head, query, key) by transformers' own buckets."""
    distance = torch.arange(Tk) - torch.arange(Tq)[:, None] - offset
    buckets = T5Attention._relative_position_bucket(distance, bias.bidirectional, 8, 20)
    return bias.table.detach()[buckets].permute(2, 0, 1).numpy()


def test_rotary():
    module, x = make(position=Rotary()), tokens(B, T, C)
    expected, weights = multi_head_oracle(module.state_dict(), x, heads=H, rotate=rotated)
    with torch.no_grad():
        output, given = module(x, return_weights=True)
        np.testing.assert_allclose(module(x), expected, **EXACT)
    np.testing.assert_allclose(output, expected, **EXACT)
    np.testing.assert_allclose(given, weights, **EXACT)
    names = [step.name for step in module.trace(x)]
    assert names.index("rotated_queries") < names.index("rotated_keys") < names.index("queries")
    assert not np.allclose(make()(x).detach(), expected)


def test_queries_and_keys_are_normalised_before_they_are_rotated():
    module, x = make(position=Rotary(), qk_norm="rms"), tokens(B, T, C)
    expected, _ = multi_head_oracle(module.state_dict(), x, heads=H, norm="rms", rotate=rotated)
    np.testing.assert_allclose(module(x).detach(), expected, **EXACT)
    names = [step.name for step in module.trace(x)]
    assert names.index("normalized_keys") < names.index("rotated_queries")


def test_alibi():
    module, x = make(position=Alibi(H), mask=Causal()), tokens(B, T, C)
    slopes = np.array([1 / 16, 1 / 256, 1 / 4])  # of 2 heads, then the first of 4
    distance = np.arange(T)[:, None] - np.arange(T)
    expected, weights = multi_head_oracle(
        module.state_dict(),
        x,
        heads=H,
        visible=distance >= 0,
        bias=-slopes[:, None, None] * distance,
    )
    with torch.no_grad():
        np.testing.assert_allclose(module(x), expected, **EXACT)
        np.testing.assert_allclose(module(x, return_weights=True)[1], weights, **EXACT)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_t5(bidirectional):
    position = t5(bidirectional=bidirectional)
    module, x = make(position=position), tokens(B, 31, C)
    bias = t5_bias(position, 31, 31)
    expected, _ = multi_head_oracle(module.state_dict(), x, heads=H, bias=bias)
    np.testing.assert_allclose(module(x).detach(), expected, **EXACT)
    np.testing.assert_allclose(position(31).detach(), bias, **EXACT)
    assert "position.table" in module.state_dict()


@pytest.mark.parametrize(("align", "offset"), [("start", 0), ("end", 4)])
def test_t5_between_sequences_of_two_lengths(align, offset):
    torch.manual_seed(71)
    position = t5(align=align)
    module = CrossAttention(C, H, head_dim=D, kdim=5, position=position, dtype=torch.float64)
    x, memory = tokens(B, T, C), tokens(B, T + 4, 5)
    expected, _ = multi_head_oracle(
        module.state_dict(), x, memory, heads=H, bias=t5_bias(position, T, T + 4, offset)
    )
    np.testing.assert_allclose(module(x, memory).detach(), expected, **EXACT)


def test_a_bias_rule_without_an_alignment_is_refused_where_the_lengths_differ():
    for position in (Alibi(H), t5()):
        module = make(position=position)
        with pytest.raises(ShapeError, match="needs align= when the lengths differ"):
            module(tokens(T, C), tokens(T + 1, C))


def test_alibi_for_another_number_of_heads_is_refused():
    with pytest.raises(ShapeError, match="heads"):
        make(position=Alibi(2))(tokens(T, C))


@pytest.mark.parametrize("position", [Alibi(H), t5()], ids=["alibi", "t5"])
def test_the_bias_of_a_call_is_added_to_that_of_the_positions(position):
    module, x, bias = make(position=position), tokens(B, T, C), tokens(B, 1, T, T)
    if isinstance(position, Alibi):
        own = -np.array([1 / 16, 1 / 256, 1 / 4])[:, None, None] * np.abs(
            np.arange(T)[:, None] - np.arange(T)
        )
    else:
        own = t5_bias(position, T, T)
    expected, _ = multi_head_oracle(module.state_dict(), x, heads=H, bias=own + bias.numpy())
    np.testing.assert_allclose(module(x, bias=bias).detach(), expected, **EXACT)


def test_the_table_of_t5_learns():
    module, x = make(position=t5(bidirectional=False), mask=Causal()), tokens(1, 4, C)

    def output(table):
        return torch.func.functional_call(module, {"position.table": table}, (x,))

    assert torch.autograd.gradcheck(output, module.position.table.detach().requires_grad_())
    module(x).square().sum().backward()
    assert module.position.table.grad.abs().sum() > 0


def test_one_t5_table_for_two_layers():
    shared = t5()
    layers = torch.nn.ModuleList([make(position=shared), make(position=shared)])
    assert len([name for name, _ in layers.named_parameters() if "table" in name]) == 1
    assert {"0.position.table", "1.position.table"} <= set(layers.state_dict())


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_positions_of_the_input(kind):
    if kind == "learned":
        position = LearnedPositions(T + 2, C, std=1.0, dtype=torch.float64)
        table = position.table.detach()[:T]
    else:
        position, table = Sinusoidal(), torch.from_numpy(sinusoidal(T, C))
    module, x = make(position=position), tokens(B, T, C)
    expected, _ = multi_head_oracle(module.state_dict(), x + table, heads=H)
    np.testing.assert_allclose(module(x).detach(), expected, **EXACT)
    first = next(iter(module.trace(x)))
    assert first.name == "positioned"
    torch.testing.assert_close(first.value.detach(), x + table)
    with pytest.raises(InputError, match="several inputs: add it to them before the call"):
        module(x, x)


def test_learned_positions_alone():
    torch.manual_seed(73)
    positions = LearnedPositions(9, C)
    assert set(positions.state_dict()) == {"table"}
    assert positions.table.std() < 0.05
    torch.testing.assert_close(positions(4, start=5), positions.table[5:9])
    x = torch.ones(B, T, C)
    torch.testing.assert_close(positions.embed(x), 1 + positions.table[:T].expand(B, T, C))
    with pytest.raises(ShapeError, match="there are max_length = 9 positions, and tokens 5 to 9"):
        positions(5, start=5)


def test_relative_position_bias_alone():
    bias = RelativePositionBias(H)
    assert set(bias.state_dict()) == {"table"}
    assert bias.table.shape == (32, H)
    assert not bias(5, 7 - 2).any()  # it starts as no bias at all
    with pytest.raises(ShapeError, match="needs align="):
        bias(5, 7)


@pytest.mark.parametrize("position", [Alibi(H), t5(), Rotary()], ids=["alibi", "t5", "rotary"])
def test_the_module_is_the_sum_of_its_heads(position):
    module, x = make(position=position, mask=Causal()), tokens(B, T, C)
    with torch.no_grad():
        total = module.output.bias + sum(
            module.head(h)(x) @ module.output.weight[:, h * D : (h + 1) * D].T for h in range(H)
        )
        torch.testing.assert_close(total, module(x), rtol=1e-12, atol=1e-12)
        joined = MultiHeadAttention.from_heads(
            [module.head(h) for h in range(H)], output=module.output
        )
        torch.testing.assert_close(joined(x), module(x), rtol=0, atol=0)
    assert joined.position is module.position


def test_heads_of_their_own_bias_cannot_be_joined_into_one_rule():
    heads = [AttentionHead(C, D, position=Alibi(1)) for _ in range(2)]
    with pytest.raises(InputError, match="the heads must share one position="):
        MultiHeadAttention.from_heads(heads)


def test_half_precision_positions():
    for position in (Rotary(), Alibi(H), t5(), Sinusoidal(), LearnedPositions(T, C)):
        module, x = make(position=position), tokens(B, T, C)
        exact = module.double()(x)
        output = module.bfloat16()(x.bfloat16())
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.double(), exact, rtol=0.1, atol=0.1)
