"""T5's relative bias: equal to transformers' buckets and bias, bit for bit."""

import numpy as np
import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from atento import DTypeError, InputError, ShapeError
from atento.positions import RelativeBias, relative_bias, relative_buckets

SETTINGS = [
    (num_buckets, bidirectional, max_distance)
    for bidirectional in (True, False)
    for num_buckets in (4, 6, 10, 32, 34, 64)
    for max_distance in (20, 37, 64, 100, 128, 256, 1000, 1024)
    if max_distance > num_buckets // (4 if bidirectional else 2)
]


@pytest.mark.parametrize(("num_buckets", "bidirectional", "max_distance"), SETTINGS)
def test_buckets_are_those_of_transformers(num_buckets, bidirectional, max_distance):
    distance = torch.arange(-1500, 1500)
    wanted = T5Attention._relative_position_bucket(
        distance, bidirectional, num_buckets, max_distance
    )
    options = {"bidirectional": bidirectional, "max_distance": max_distance}
    assert torch.equal(relative_buckets(distance, num_buckets, **options), wanted)
    ours = relative_buckets(distance.numpy().reshape(3, -1), num_buckets, **options)
    np.testing.assert_array_equal(ours, wanted.numpy().reshape(3, -1))


def test_boundaries_of_t5_by_hand():
    # 16 buckets to a side: 0 … 7, then one begins at 8 · 2^(k / 2)
    begins = [8, 12, 16, 23, 32, 46, 64, 91]
    for bucket, n in enumerate(begins, start=8):
        np.testing.assert_array_equal(
            relative_buckets([-n, 1 - n, n]), [bucket, bucket - 1, bucket + 16]
        )
    assert relative_buckets(-(2**40)) == 15


@pytest.mark.parametrize("is_decoder", [False, True])
@pytest.mark.parametrize("past", [0, 4])
def test_the_bias_is_that_of_transformers(is_decoder, past):
    config = T5Config(
        d_model=14, d_kv=2, num_heads=7, is_decoder=is_decoder, relative_attention_num_buckets=10,
        relative_attention_max_distance=13,
    )  # fmt: skip
    layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    torch.nn.init.normal_(layer.relative_attention_bias.weight)
    Tq, Tk = 19, 19 + past
    wanted = layer.compute_bias(Tq, Tk, past_seen_tokens=past)[0]
    table = layer.relative_attention_bias.weight
    ours = relative_bias(table, Tq, Tk, bidirectional=not is_decoder, max_distance=13, align="end")
    assert torch.equal(ours, wanted)
    (ours * torch.arange(19.0)[:, None]).sum().backward()
    grad, table.grad = table.grad, None
    (wanted * torch.arange(19.0)[:, None]).sum().backward()
    torch.testing.assert_close(grad, table.grad)
    of_numpy = relative_bias(
        table.detach().numpy(), Tq, Tk, bidirectional=not is_decoder, max_distance=13, align="end"
    )
    np.testing.assert_array_equal(of_numpy, wanted.detach().numpy())


def test_aligned_fixes_what_was_left_open():
    table = np.zeros((6, 2))
    rule = RelativeBias(table, bidirectional=False, max_distance=17)
    assert repr(rule.aligned("end")) == (
        "RelativeBias(table (6, 2), bidirectional=False, max_distance=17, align='end')"
    )
    assert rule.aligned("end").table is table
    assert rule.aligned("start").aligned("end").align == "start"


@pytest.mark.parametrize(
    ("table", "options", "error", "text"),
    [
        (np.zeros(6), {}, ShapeError, r"axes \(num_buckets, head\); got shape \(6,\)"),
        (np.zeros((6, 2), int), {}, DTypeError, "table must hold floating-point numbers; got int"),
        (np.zeros((7, 2)), {}, InputError, "an even number, at least 4: half for each side; got 7"),
        (np.zeros((2, 2)), {}, InputError, "an even number, at least 4"),
        (np.zeros((1, 2)), {"bidirectional": False}, InputError, "must be at least 2; got 1"),
        (np.zeros((32, 2)), {"max_distance": 8}, InputError, "must be more; got 8"),
        (np.zeros((32, 2)), {"max_distance": 8.5}, InputError, "must be a whole number; got 8.5"),
        (np.zeros((6, 2)), {"align": "left"}, InputError, 'align must be "start" or "end"'),
    ],
)
def test_wrong_tables_are_refused(table, options, error, text):
    with pytest.raises(error, match=text):
        RelativeBias(table, **options)


def test_wrong_use_is_refused():
    import array_api_compat.torch as xp

    rule = RelativeBias(np.zeros((6, 3)))
    with pytest.raises(DTypeError, match="is a numpy array and query a torch array: all must come"):
        rule.bind((3, 5, 5), xp, torch.device("cpu"), torch.float32)
    with pytest.raises(DTypeError, match="is on meta and query on cpu: all must be on one device"):
        RelativeBias(torch.zeros(6, 3, device="meta")).bind(
            (3, 5, 5), xp, torch.device("cpu"), torch.float32
        )
    with pytest.raises(ShapeError, match="is for 3 heads, and there are 2 query heads"):
        rule.bind((2, 5, 5), np, "cpu", np.float64)
    with pytest.raises(ShapeError, match="needs align= when the lengths differ: there are 5 quer"):
        relative_bias(np.zeros((6, 3)), 5, 7)
    with pytest.raises(DTypeError, match=r"distance must hold whole numbers .* got float64"):
        relative_buckets([0.5])
