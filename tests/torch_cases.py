"""Every mask and every option of attention on torch, with what each means by its definition."""

from functools import cache

import numpy as np
import pytest
import torch

from atento.equation.dropout import kept
from atento.masks import Causal, Explicit, KeyPadding, Prefix, Rule, Segments, Window
from atento.positions import Alibi, RelativeBias, alibi, relative_bias
from oracle import attention_oracle

# Every axis has a size of its own, so that a swapped one cannot go unseen.
B, HKV, G, TQ, TK, D, DV = 2, 3, 2, 7, 11, 5, 13
H = HKV * G
RATE, SEED = 0.4, 99

_rng = np.random.default_rng(2017)


def normal(*shape):
    """Numbers that float32 holds exactly, so that one oracle serves both precisions."""
    return _rng.standard_normal(shape).astype(np.float32).astype(np.float64)


QUERY, KEY, VALUE = normal(B, H, TQ, D), normal(B, HKV, TK, D), normal(B, HKV, TK, DV)

_b, _h, _i, _j = np.indices((B, H, TQ, TK))
_keep = _rng.random((B, TK)) < 0.7
_ids = _rng.integers(0, 3, (B, TQ)), _rng.integers(0, 3, (B, TK))
_pairs = _rng.random((B, 1, TQ, TK)) < 0.5
_per_head = _rng.random((H, TQ, TK)) < 0.5
_per_unit = _rng.random((B, H, TQ, TK)) < 0.5
_end = _j <= _i + TK - TQ

MASKS = {
    "everybody": (None, None),
    "causal, start": (Causal("start"), _j <= _i),
    "causal, end": (Causal("end"), _end),
    "window": (Window(2, 1, "end"), (_j >= _i + TK - TQ - 2) & (_j <= _i + TK - TQ + 1)),
    "window, left only": (Window(left=1, align="start"), _j >= _i - 1),
    "padding": (KeyPadding(_keep), _keep[:, None, None, :] & (_i >= 0)),
    "padding of all alike": (KeyPadding(_keep[0]), _keep[0] & (_i >= 0)),
    "segments": (
        Segments(np.arange(TQ) // 3, np.arange(TK) // 4),
        (np.arange(TQ) // 3)[:, None] == (np.arange(TK) // 4) + 0 * _i,
    ),
    "segments of each": (
        Segments(*_ids),
        _ids[0][:, None, :, None] == _ids[1][:, None, None, :] + 0 * _i,
    ),
    "prefix": (Causal("start") | Prefix(4), (_j <= _i) | (_j < 4)),
    "rule": (
        Rule(lambda b, h, q, k: (q + 2 * k + h + b) % 3 != 0),
        (_i + 2 * _j + _h + _b) % 3 != 0,
    ),
    "array of each": (Explicit(_pairs), _pairs & (_i >= 0)),
    "array per head": (_per_head, _per_head & (_i >= 0)),
    "array of each, per head": (_per_unit, _per_unit),
    "combined": (
        ~Prefix(2) & Causal("end") & KeyPadding(_keep),
        (_j >= 2) & _end & _keep[:, None, None, :],
    ),
    "nobody": (Prefix(0), _j < 0),
}

_biases = {
    "bias": normal(B, H, TQ, TK),
    "bias per head": normal(H, TQ, TK),
    "bias of all alike": normal(TQ, TK),
    "bias per key": normal(TK),
    "bias per query of each": normal(B, 1, TQ, 1),
    "bias per head and key": normal(H, 1, TK),
    "one bias": normal(),
    "bias of −∞": np.where(_rng.random((H, TQ, TK)) < 0.4, -np.inf, normal(H, TQ, TK)),
}
_table = normal(8, H)
_sinks = normal(H)
_kept = np.stack(
    [
        kept(SEED, RATE, unit, np.arange(TQ)[:, None], np.arange(TK), np).reshape(TQ, TK)
        for unit in range(B * H)
    ]
).reshape(B, H, TQ, TK)
_dropped = {"dropout": RATE, "kept": _kept}

# What is asked of attention, and what the oracle is told, where that is something else.
OPTIONS = (
    {
        "plain": ({}, {}),
        "scale": ({"scale": 0.75}, {}),
        "negative scale": ({"scale": -0.75}, {}),
        "no scale": ({"scale": 0.0}, {}),
        "softcap": ({"softcap": 1.5}, {}),
        "sinks": ({"sinks": _sinks}, {}),
        "one sink": ({"sinks": 0.25}, {}),
        "dropout": ({"dropout": RATE, "seed": SEED}, _dropped),
        "ALiBi": ({"bias": Alibi(H, "end")}, {"bias": alibi(H, TQ, TK, align="end")}),
        "ALiBi, one-sided": (
            {"bias": Alibi(H, "start", symmetric=False)},
            {"bias": alibi(H, TQ, TK, align="start", symmetric=False)},
        ),
        "T5": (
            {"bias": RelativeBias(_table, max_distance=7, align="end")},
            {"bias": relative_bias(_table, TQ, TK, max_distance=7, align="end")},
        ),
    }
    | {name: ({"bias": bias}, {}) for name, bias in _biases.items()}
    | {
        "everything": (
            {
                "scale": 0.3,
                "softcap": 2.0,
                "sinks": _sinks,
                "bias": _biases["bias per head"],
                "dropout": RATE,
                "seed": SEED,
            },
            _dropped,
        ),
        "everything, by distance": (
            {
                "softcap": 2.0,
                "sinks": _sinks,
                "bias": RelativeBias(_table, max_distance=7, align="end"),
                "dropout": RATE,
                "seed": SEED,
            },
            {"bias": relative_bias(_table, TQ, TK, max_distance=7, align="end"), **_dropped},
        ),
    }
)


# A rule of each kind with every option and the other way round; the rest in the slow half.
FEW_MASKS = ("everybody", "causal, start", "combined")
FEW_OPTIONS = ("plain", "everything", "everything, by distance")
ALL_WITH_ALL = [
    pytest.param(
        mask, option, marks=() if mask in FEW_MASKS or option in FEW_OPTIONS else pytest.mark.slow
    )
    for mask in MASKS
    for option in OPTIONS
]


@cache
def oracle(mask, option):
    """Output, weights and log-sum-exp of one mask and one option, by their names."""
    asked, told = OPTIONS[option]
    asked = {name: given for name, given in asked.items() if name != "seed"}
    return attention_oracle(QUERY, KEY, VALUE, visible=MASKS[mask][1], **(asked | told))


def tensors(dtype=torch.float64, requires_grad=False):
    return tuple(
        torch.from_numpy(array).to(dtype).requires_grad_(requires_grad)
        for array in (QUERY, KEY, VALUE)
    )


def asked_for(mask, option, dtype=torch.float64, requires_grad=False):
    """The arguments of attention, and the tensors among them that may need gradients."""
    arguments, leaves = {"mask": MASKS[mask][0]}, []

    def tensor(array):
        leaves.append(torch.from_numpy(np.array(array)).to(dtype).requires_grad_(requires_grad))
        return leaves[-1]

    for name, given in OPTIONS[option][0].items():
        if isinstance(given, RelativeBias):
            given = RelativeBias(tensor(given.table), given.bidirectional, 7, given.align)
        elif isinstance(given, np.ndarray):
            given = tensor(given)
        arguments[name] = given
    return arguments, leaves
