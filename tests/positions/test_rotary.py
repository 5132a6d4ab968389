"""Rotary positions: the rotation by its definition, and transformers' tables and functions."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPTJConfig, GPTNeoXConfig, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox import modeling_gpt_neox as neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

from atento import DTypeError, InputError, ShapeError
from atento.positions import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    Rotary,
    YarnScaling,
    rotary,
    rotary_frequencies,
)

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 131}
SCALINGS = [
    (None, {"rope_type": "default"}),
    (LinearScaling(3.0), {"rope_type": "linear", "factor": 3.0}),
    (DynamicNTKScaling(3.0, 17), {"rope_type": "dynamic", "factor": 3.0}),
    (YarnScaling(4.0, 131), YARN),
    (YarnScaling(4.0, 131, truncate=False), YARN | {"truncate": False}),
    (YarnScaling(4.0, 131, 17.0, 2.0), YARN | {"beta_fast": 17.0, "beta_slow": 2.0}),
    (YarnScaling(4.0, 131, attention_factor=1.3), YARN | {"attention_factor": 1.3}),
    (YarnScaling(4.0, 131, mscale=0.7, mscale_all_dim=1.1),
     YARN | {"mscale": 0.7, "mscale_all_dim": 1.1}),
    (YarnScaling(4.0, 131, mscale=0.7), YARN | {"mscale": 0.7}),
    (YarnScaling(0.5, 131), YARN | {"factor": 0.5}),
    (YarnScaling(4.0, 2), YARN | {"original_max_position_embeddings": 2}),
    (Llama3Scaling(8.0, 1.0, 4.0, 131),
     {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 131}),
]  # fmt: skip
scalings = pytest.mark.parametrize(("scaling", "parameters"), SCALINGS, ids=lambda s: repr(s)[:40])


def llama_config(parameters, base=10000.0):
    return LlamaConfig(
        hidden_size=3 * 22,
        num_attention_heads=3,
        max_position_embeddings=17 if parameters["rope_type"] == "dynamic" else 524,
        rope_parameters=parameters | {"rope_theta": base},
    )


def by_definition(x, positions, base=10000.0, interleaved=False, r=None):
    """Each pair (a, b) as a complex number, times exp(i · position · base^(−2 k / r))."""
    r = x.shape[-1] if r is None else r
    y = np.array(x, np.float64)
    for k in range(r // 2):
        one, two = (2 * k, 2 * k + 1) if interleaved else (k, k + r // 2)
        turned = (x[..., one] + 1j * x[..., two]) * np.exp(
            1j * np.asarray(positions) * base ** (-2 * k / r)
        )
        y[..., one], y[..., two] = turned.real, turned.imag
    return y


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("r", [None, 2, 6])
def test_the_rotation_by_its_definition(interleaved, r):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 10))
    for positions in (None, np.array([5, 0, 3, 3, 11, 99, 2])):
        y = rotary(x, positions, base=313.0, interleaved=interleaved, rotary_dim=r)
        where = range(7) if positions is None else positions
        np.testing.assert_allclose(y, by_definition(x, where, 313.0, interleaved, r), rtol=1e-11)


def test_positions_per_batch_turn_each_batch_by_its_own():
    rng = np.random.default_rng(1)
    positions = rng.integers(0, 50, (2, 7))
    for shape in ((2, 3, 7, 10), (2, 7, 10), (2, 3, 5, 7, 10)):
        x = rng.standard_normal(shape)
        wanted = np.stack([by_definition(x[b], positions[b]) for b in range(2)])
        np.testing.assert_allclose(rotary(x, positions), wanted, rtol=1e-11, atol=1e-13)
        np.testing.assert_array_equal(rotary(x, positions[:1]), rotary(x, positions[0]))


@scalings
@pytest.mark.parametrize("base", [10000.0, 500000.0])
def test_tables_are_those_of_transformers(scaling, parameters, base):
    config = llama_config(parameters, base)
    if scaling is None:
        table, factor = llama.LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        table, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config)
    ours, our_factor = rotary_frequencies(22, base=base, scaling=scaling, like=torch.zeros(1))
    assert our_factor == factor
    assert torch.equal(ours, table)  # the same bits: angles grow with the position
    of_numpy, _ = rotary_frequencies(22, base=base, scaling=scaling)
    assert of_numpy.dtype == np.float64
    np.testing.assert_allclose(of_numpy, table, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 17, 18, 100, 1000])
def test_dynamic_ntk_depends_on_the_length(length):
    scaling = DynamicNTKScaling(3.0, 17)
    config = llama_config(dict(SCALINGS[2][1]))
    for seq_len in (length, torch.tensor(length)):
        table, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, seq_len=seq_len)
        ours, _ = rotary_frequencies(22, scaling=scaling, length=length, like=torch.zeros(1))
        torch.testing.assert_close(ours, table, rtol=1e-6, atol=0)
        np.testing.assert_allclose(
            rotary_frequencies(22, scaling=scaling, length=length)[0], table, rtol=2e-6
        )
    plain, _ = rotary_frequencies(22, like=torch.zeros(1))
    assert torch.equal(ours, plain) == (length <= 17)


@scalings
def test_rotated_queries_are_those_of_llama(scaling, parameters):
    rope = llama.LlamaRotaryEmbedding(llama_config(parameters))
    query, key = torch.randn(2, 3, 19, 22), torch.randn(2, 1, 19, 22)
    positions = torch.stack([torch.arange(19), torch.arange(19) + 71])
    wanted = llama.apply_rotary_pos_emb(query, key, *rope(query, positions))
    rule = Rotary(scaling=scaling)
    torch.testing.assert_close(rule.rotate(query, positions), wanted[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rule.rotate(key, positions), wanted[1], rtol=1e-6, atol=1e-6)


def test_rotated_queries_are_those_of_gpt_neox_partial_rotary():
    config = GPTNeoXConfig(
        hidden_size=3 * 20,
        num_attention_heads=3,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.3},
    )
    query = torch.randn(2, 3, 19, 20)
    positions = torch.arange(19)[None] + 5
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(query, positions)
    wanted, _ = neox.apply_rotary_pos_emb(query, query, cos, sin)
    ours = rotary(query, positions[0], rotary_dim=6)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(ours[..., 6:], query[..., 6:])


def test_rotated_queries_are_those_of_gpt_j():
    config = GPTJConfig(n_embd=3 * 20, n_head=3, rotary_dim=8)
    query = torch.randn(2, 19, 3, 20)  # GPT-J turns before heads are moved: (batch, token, head, d)
    sin, cos = gptj.create_sinusoidal_positions(19, config.rotary_dim).chunk(2, dim=-1)
    wanted = query.clone()
    wanted[..., :8] = gptj.apply_rotary_pos_emb(query[..., :8], sin[None], cos[None])
    ours = rotary(query.transpose(1, 2), interleaved=True, rotary_dim=8)
    torch.testing.assert_close(ours, wanted.transpose(1, 2), rtol=1e-6, atol=1e-6)


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.booleans())
def test_scores_depend_on_the_distance_only(i, j, shift, interleaved):
    query, key = np.random.default_rng(i).standard_normal((2, 1, 14))

    def score(i, j):
        turned = [rotary(x, [p], interleaved=interleaved) for x, p in ((query, i), (key, j))]
        return float(turned[0][0] @ turned[1][0])

    assert score(i, j) == pytest.approx(score(i + shift, j + shift), rel=1e-9, abs=1e-9)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=7), st.booleans(), st.integers(1, 7))
def test_norms_are_kept(positions, interleaved, pairs):
    x = np.random.default_rng(pairs).standard_normal((3, len(positions), 14))
    y = rotary(x, positions, interleaved=interleaved, rotary_dim=2 * pairs)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("scaling", [None, *(s for s, _ in SCALINGS[1:])], ids=repr)
def test_libraries_and_dtypes(scaling):
    x = np.random.default_rng(3).standard_normal((2, 3, 7, 22))
    wanted = rotary(x, scaling=scaling)
    strict = rotary(array_api_strict.asarray(x), scaling=scaling)
    np.testing.assert_allclose(np.asarray(strict), wanted, rtol=1e-12, atol=1e-12)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 3e-6), ("bfloat16", 2e-2)):
        y = rotary(torch.tensor(x).to(getattr(torch, dtype)), scaling=scaling)
        assert y.dtype == getattr(torch, dtype)
        np.testing.assert_allclose(y.double(), wanted, rtol=tolerance, atol=tolerance)
    assert rotary(x[:, :, :0], scaling=scaling).shape == (2, 3, 0, 22)
    meta = rotary(torch.zeros(2, 3, 7, 22, device="meta"), scaling=scaling)
    assert meta.shape == (2, 3, 7, 22)


def test_half_precision_turns_in_float32_even_at_far_positions():
    x = torch.randn(3, 1, 8).bfloat16()
    far = torch.tensor([1001])  # bfloat16 would make it 1000
    wanted = rotary(x.double(), far).to(torch.bfloat16)
    torch.testing.assert_close(rotary(x, far), wanted, rtol=1e-2, atol=1e-3)


def test_gradients():
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    for interleaved in (False, True):
        rule = Rotary(interleaved=interleaved, rotary_dim=4, scaling=YarnScaling(2.0, 3))
        assert torch.autograd.gradcheck(rule.rotate, x)
        assert torch.autograd.gradgradcheck(rule.rotate, x)


X = np.zeros((2, 3, 7, 10))


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        (X, {"rotary_dim": 5}, ShapeError, "rotary_dim must be even, since pairs turn; got 5"),
        (X, {"rotary_dim": 12}, ShapeError, "rotary_dim is 12, and x has only 10 features"),
        (X, {"rotary_dim": 0}, InputError, "rotary_dim must be at least 2; got 0"),
        (X[..., :9], {}, ShapeError, "pass rotary_dim=8 to leave the last one"),
        (X[0, 0, 0], {}, ShapeError, r"\(..., token, feature\); got shape \(10,\)"),
        (X.astype(int), {}, DTypeError, "x must hold floating-point numbers; got int64"),
        (X, {"base": 0.5}, InputError, "base must be a finite number above 1; got 0.5"),
        (X, {"base": "1e4"}, InputError, "base must be a number; got '1e4'"),
        (X, {"base": float("nan")}, InputError, "base must be a finite number above 1; got nan"),
        (X, {"scaling": 2.0}, InputError, "scaling must be None or one of LinearScaling, Dynamic"),
        (X, {"scaling": DynamicNTKScaling(2.0, 5), "rotary_dim": 2}, ShapeError, "at least 4 rot"),
        (X, {"positions": np.arange(6)}, ShapeError, r"of x \(2, 3, 7, 10\); got \(6,\)"),
        (X, {"positions": np.zeros((3, 7), int)}, ShapeError, r"; got \(3, 7\)"),
        (X[0, 0], {"positions": np.zeros((1, 7), int)}, ShapeError, r"; got \(1, 7\)"),
        (X, {"positions": np.arange(7.0)}, DTypeError, "must be whole numbers; got float"),
        (X, {"positions": np.ones(7, bool)}, DTypeError, "must be whole numbers; got bool"),
        (X, {"positions": torch.arange(7)}, DTypeError, "x is a numpy array and positions a torch"),
        (torch.zeros(7, 2), {"positions": torch.zeros(7, dtype=torch.int64, device="meta")},
         DTypeError, "x is on cpu and positions on meta"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused(x, options, error, text):
    with pytest.raises(error, match=text):
        rotary(x, **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LinearScaling(0), "LinearScaling: factor must be a finite number above 0; got 0"),
        (lambda: DynamicNTKScaling(2.0, 0), "original_length must be at least 1; got 0"),
        (lambda: YarnScaling(2.0, 100.5), "original_length must be a whole number; got 100.5"),
        (
            lambda: YarnScaling(2.0, 64, 1, 32),
            "beta_fast must be more than beta_slow; got 1 and 32",
        ),
        (lambda: Llama3Scaling(8, 4, 1, 64), "high_freq_factor must be more than low_freq_factor"),
        (lambda: Llama3Scaling(float("inf"), 1, 4, 64), "factor must be a finite number above 0"),
    ],
)
def test_wrong_scalings_are_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()
