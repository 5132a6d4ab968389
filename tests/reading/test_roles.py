"""Head roles: heads built to do one thing are told to do it, with the numbers that say so."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from atento._errors import MissingLibraryError
from atento.masks import Causal, KeyPadding
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.reading.roles import OTHER, ROLES, role_of
from reading_records import B, H, dense_statistics, record

T = 29
TOKENS = np.random.default_rng(3).integers(0, 7, T)
_i, _j = np.indices((T, T))
_past = _j <= _i


def normalised(weights):
    weights = np.where(_past, weights, 0.0)
    return weights / weights.sum(-1, keepdims=True)


def looking_back(distance):
    return normalised((_j == np.maximum(_i - distance, 0)) + 1e-3)


_same = _past & (_j < _i) & (TOKENS[:, None] == TOKENS)
_after_same = np.zeros((T, T), bool)
_after_same[:, 1:] = _same[:, :-1]
_after_same &= _past

# What a head looks at, and the role that it should get.
HEADS = {
    "sink": normalised((_j == 0) + 1e-3),
    "previous token": looking_back(1),
    "diagonal": normalised((_j == _i) + 1e-3),
    "positional": looking_back(3),
    "duplicate": normalised(20.0 * _same + (_j == 0)),
    "induction": normalised(20.0 * _after_same + (_j == 0)),
    "uniform": normalised(np.ones((T, T))),
    OTHER: normalised(np.exp(3 * np.sin(_i * 1.7 + _j * 2.3))),
}


def with_heads(weights, mask=None, **changes):
    """A record of statistics alone, of weights (batch, head, query, key)."""
    statistics, axes = dense_statistics(weights)
    statistics["duplicate"] = (weights * _same).sum(-1)
    statistics["induction"] = (weights * _after_same).sum(-1)
    axes |= dict.fromkeys(("duplicate", "induction"), ("head", "query"))
    total = weights.sum(-1)
    return LayerRecord(
        layer="layers.0",
        kind="self",
        side=None,
        way="sdpa",
        query=None,
        key=None,
        lse=np.where(total > 0, 1.0, -np.inf),
        mask=(Causal() if mask is None else mask).bind(weights.shape),
        scale=1.0,
        **{"statistics": statistics, "axes": axes, **changes},
    )


@pytest.fixture
def summary():
    return Recording([with_heads(np.stack([list(HEADS.values())] * 2))]).summary()


def test_heads_that_do_one_thing_have_its_role(summary):
    assert [row["role"] for row in summary] == list(HEADS)
    assert [row["head"] for row in summary] == list(range(len(HEADS)))
    assert {row["layer"] for row in summary} == {"layers.0"}


def test_numbers_are_the_means_over_queries_after_the_first_few(summary):
    for row, weights in zip(summary, HEADS.values(), strict=True):
        late = weights[4:]
        assert row["first"] == pytest.approx(late[:, 0].mean(), rel=1e-12)
        assert row["max"] == pytest.approx(late.max(-1).mean(), rel=1e-12)
        assert row["self"] == pytest.approx(np.diag(weights)[4:].mean(), rel=1e-12)
        assert row["duplicate"] == pytest.approx((weights * _same)[4:].sum(-1).mean(), rel=1e-12)
        distance = (weights * (_i - _j)).sum(-1)[4:]
        assert row["distance_mean"] == pytest.approx(distance.mean(), rel=1e-12)
        back = (np.arange(T) - weights.argmax(-1))[4:]
        assert row["offset"] == pytest.approx(np.median(back), rel=1e-12)
        near = abs(back - np.median(back)) <= 1
        positional = (late.max(-1) * near).mean()
        assert row["positional"] == pytest.approx(positional, rel=1e-12)
        entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)
        uniform = (entropy[4:] / np.log(np.arange(5, T + 1))).mean()
        assert row["uniform"] == pytest.approx(uniform, rel=1e-12)


def test_uniform_is_measured_against_the_keys_that_the_mask_shows():
    keep = np.ones((B, T), bool)
    keep[1, 10:] = False
    weights = np.broadcast_to(
        keep[:, None, None, :] / keep.sum(-1)[:, None, None, None], (B, 1, T, T)
    )
    made = with_heads(weights.copy(), KeyPadding(keep))
    row = Recording([made]).summary()[0]
    assert row["role"] == "uniform"
    assert row["uniform"] == pytest.approx(1, rel=1e-12)


def test_queries_that_see_no_key_do_not_count():
    weights = np.zeros((2, 1, T, T))
    weights[0, 0] = HEADS["sink"]
    row = Recording([with_heads(weights)]).summary()[0]
    assert row["first"] == pytest.approx(HEADS["sink"][4:, 0].mean(), rel=1e-12)
    nothing = Recording([with_heads(np.zeros((2, 1, T, T)))]).summary()[0]
    assert nothing["role"] == OTHER
    assert all(
        value is None for name, value in nothing.items() if name not in ("layer", "head", "role")
    )


def test_padding_does_not_count_on_either_side():
    """A batch of a short and a long text: the short one's empty places say nothing of a head."""
    weights = np.stack([HEADS["previous token"], HEADS["sink"]])
    for keep in (np.arange(T) < 11, np.arange(T) >= T - 11):
        both = np.stack([np.ones(T, bool), keep])
        batch = np.stack([weights, weights])
        batch[1, :, ~keep] = 1 / T  # what a model computes for padding
        found = list(Recording([with_heads(batch, KeyPadding(both).bind(batch.shape))]).summary())
        rows = [weights[:, 4:], weights[:, keep & (np.arange(T) >= 4)]]
        previous = np.concatenate(
            [
                np.array([np.diagonal(w, -1) for w in weights])[:, 3:],
                np.array([np.diagonal(w, -1) for w in weights])[
                    :, (keep & (np.arange(T) >= 4))[1:]
                ],
            ],
            axis=1,
        )
        for head in range(2):
            first = np.concatenate([part[head, :, 0] for part in rows]).mean()
            assert found[head]["first"] == pytest.approx(first, rel=1e-12)
            assert found[head]["previous"] == pytest.approx(previous[head].mean(), rel=1e-12)


def test_a_mask_that_hides_the_diagonal_is_no_padding():
    weights = HEADS["previous token"][None, None]
    hides = ~Causal()  # nobody sees itself
    kept = list(Recording([with_heads(weights, hides.bind(weights.shape))]).summary())
    plain = list(Recording([with_heads(weights)]).summary())
    assert kept[0]["previous"] == plain[0]["previous"] > 0.5


def test_numbers_whose_statistic_is_missing_are_none_and_decide_nothing():
    made = with_heads(HEADS["previous token"][None, None])
    made.statistics = {"first": made.statistics["first"]}
    row = Recording([made]).summary()[0]
    assert row["role"] == OTHER
    assert row["previous"] is row["uniform"] is row["offset"] is None
    assert row["first"] is not None


def test_a_text_of_few_tokens_has_a_summary_too():
    made = with_heads(HEADS["diagonal"][None, None])
    made.statistics = {name: array[:, :, :3] for name, array in made.statistics.items()}
    made.axes = {name: axes for name, axes in made.axes.items() if "key" not in axes}
    made.statistics = {name: made.statistics[name] for name in made.axes}
    made.lse, made.mask = made.lse[:, :, :3], Causal().bind((1, 1, 3, 3))
    row = Recording([made]).summary()[0]
    assert row["self"] == pytest.approx(np.diag(HEADS["diagonal"])[:3].mean(), rel=1e-12)


def test_a_layer_without_queries_has_rows_without_numbers():
    made = with_heads(np.zeros((1, 2, T, T)))
    made.axes = {name: axes for name, axes in made.axes.items() if "key" not in axes}
    made.statistics = {name: made.statistics[name][:, :, :0] for name in made.axes}
    made.lse, made.mask = made.lse[:, :, :0], None
    assert [row["role"] for row in Recording([made]).summary()] == [OTHER, OTHER]


def test_each_threshold_decides_and_the_table_is_in_order():
    for place, role in enumerate(ROLES):
        assert role_of({role.number: role.threshold}) == role.name
        assert role_of({role.number: role.threshold - 1e-9}) == OTHER
        everything = {later.number: 1.0 for later in ROLES[place:]}
        assert role_of(everything) == role.name


def test_a_summary_is_a_table_of_text(summary):
    lines = str(summary).splitlines()
    assert len(lines) == 1 + len(HEADS)
    assert lines[0].split()[:4] == ["layer", "head", "role", "entropy"]
    assert lines[2].startswith("layers.0     1  previous token  ")
    numbers = lines[2].split()[4:]
    assert numbers[1] == f"{summary[1]['max']:.3f}"
    assert len(summary) == len(HEADS)
    assert repr(summary) == f"Summary({len(HEADS)} heads)"
    assert str(Recording().summary()) == "no heads were recorded"
    made, _ = record()
    made.statistics = {}
    assert "entropy" not in str(Recording([made]).summary())


def test_a_summary_is_plain_values_that_json_can_hold(summary):
    whole = json.loads(json.dumps(summary.to_dict()))
    assert whole["rows"] == list(summary)
    assert [role["name"] for role in whole["roles"]] == [role.name for role in ROLES]
    recording = Recording([record()[0]], token_ids=[1, 2], skipped=[("a", "b")])
    said = json.loads(json.dumps(recording.to_dict()))
    assert said["layers"] == ["layers.0.attn"]
    assert said["tokens"] == ["1", "2"]
    assert said["token_ids"] == [[1, 2]]
    assert said["skipped"] == [["a", "b"]]
    assert len(said["heads"]) == H


def test_pandas_gets_the_rows_and_is_asked_for_in_words_when_missing(summary, monkeypatch):
    made = {}
    pandas = SimpleNamespace(
        DataFrame=lambda rows, columns: made.update(rows=rows, columns=columns) or made,
        __spec__=importlib.util.find_spec("json"),
    )
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert summary.to_pandas()["rows"] == list(summary)
    assert made["columns"] == list(summary[0])
    assert Recording([record()[0]]).to_pandas()["columns"] == list(summary[0])
    monkeypatch.setattr("atento._optional.find_spec", lambda library: None)
    with pytest.raises(MissingLibraryError, match=r"pandas is needed for summary\(\)\.to_pandas"):
        summary.to_pandas()
