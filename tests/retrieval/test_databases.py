"""Candidates from LanceDB, the real one: an exact softmax over what it proposes."""

import lancedb
import numpy as np
import pytest

import atento
from atento.retrieval.candidates import recall
from atento.retrieval.databases import LanceCandidates
from atento.retrieval.keys import HeldKeys
from atento.retrieval.scan import scan

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(40, 16))
VECTORS = (CENTRES[RNG.integers(40, size=3001)] + 0.2 * RNG.normal(size=(3001, 16))).astype("f4")
QUERIES = (CENTRES[:5] + 0.2 * RNG.normal(size=(5, 16))).astype("f4")


@pytest.fixture(scope="module")
def keys():
    return HeldKeys(VECTORS)


@pytest.fixture(scope="module")
def whole(keys, tmp_path_factory):
    return LanceCandidates.build(tmp_path_factory.mktemp("lance"), keys)


def test_without_cells_the_nearest_are_proposed(whole, keys):
    rows = whole.propose(QUERIES, 7)
    wanted = np.argsort(-(QUERIES.astype(float) @ VECTORS.T.astype(float)), axis=1)[:, :7]
    assert (rows.shape, rows.dtype) == ((5, 7), np.int64)
    np.testing.assert_array_equal(np.sort(rows), np.sort(wanted))
    assert whole.name == "lancedb"


def test_the_softmax_over_them_is_exact(whole, keys):
    values = np.arange(3001.0)[:, None]
    seen = scan(QUERIES, keys, values, scale=1.0, top_k=3, candidates=whole, proposals=11)
    for at, rows in enumerate(whole.propose(QUERIES, 11)):
        scores = VECTORS[rows].astype(np.float64) @ QUERIES[at].astype(np.float64)
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        order = np.argsort(-scores)[:3]
        np.testing.assert_array_equal(seen.rows[at], rows[order])
        np.testing.assert_allclose(seen.weights[at], weights[order], rtol=1e-5)
        np.testing.assert_allclose(seen.value[at, 0], weights @ values[rows, 0], rtol=1e-5)


def test_all_keys_as_candidates_are_the_exact_scan(whole, keys):
    exact = scan(QUERIES, keys, scale=1.0)
    seen = scan(QUERIES, keys, scale=1.0, candidates=whole, proposals=3001)
    np.testing.assert_array_equal(seen.rows, exact.rows)
    np.testing.assert_allclose(seen.lse, exact.lse, rtol=1e-6)
    np.testing.assert_allclose(recall(exact, seen), 1, atol=1e-5)


def test_cells_hold_most_of_the_weight_and_more_cells_hold_more(keys, tmp_path):
    exact = scan(QUERIES, keys, scale=1.0)
    LanceCandidates.build(tmp_path, keys, cells=16, looked_at=1)
    table = lancedb.connect(str(tmp_path)).open_table("keys")
    held = [
        recall(
            exact,
            scan(
                QUERIES,
                keys,
                scale=1.0,
                candidates=LanceCandidates(table, looked_at=looked_at),
                proposals=500,
            ),
        ).mean()
        for looked_at in (1, 4, 16)
    ]
    assert held[0] <= held[1] <= held[2] + 1e-6
    assert held[2] > 0.95


def test_distance(keys, tmp_path):
    near = LanceCandidates.build(tmp_path, keys, name="far", metric="distance")
    rows = near.propose(QUERIES, 5)
    wanted = np.argsort(((QUERIES[:, None] - VECTORS) ** 2).sum(axis=-1), axis=1)[:, :5]
    np.testing.assert_array_equal(np.sort(rows), np.sort(wanted))


def test_a_table_of_somebody_else(keys, tmp_path):
    data = [{"id": 7 - at, "embedding": VECTORS[at].tolist()} for at in range(8)]
    table = lancedb.connect(str(tmp_path)).create_table("theirs", data)
    theirs = LanceCandidates(table, row="id", vector="embedding")
    assert theirs.propose(VECTORS[:1], 100)[0, :9].tolist().count(-1) == 1
    np.testing.assert_array_equal(np.sort(theirs.propose(VECTORS[:1], 8)[0]), np.arange(8))
    with pytest.raises(atento.InputError, match=r"'theirs' has no column 'row'; it has id, embed"):
        LanceCandidates(table)


def test_what_is_refused(keys, tmp_path, monkeypatch):
    LanceCandidates.build(tmp_path, keys)
    with pytest.raises(atento.InputError, match="has a table 'keys' already"):
        LanceCandidates.build(tmp_path, keys)
    with pytest.raises(atento.InputError, match="made of keys, and there are none yet"):
        LanceCandidates.build(tmp_path, HeldKeys(dim=3))
    with pytest.raises(atento.InputError, match="cells are learned from 256 keys at least"):
        LanceCandidates.build(tmp_path, HeldKeys(VECTORS[:9]), cells=2)
    with pytest.raises(atento.InputError, match="metric must be one of product, distance"):
        LanceCandidates.build(tmp_path, keys, name="x", metric="cosine")
    from atento import _optional

    monkeypatch.setattr(_optional, "find_spec", lambda _name: None)
    with pytest.raises(ImportError, match="lancedb is needed to write a table of vectors"):
        LanceCandidates.build(tmp_path, keys)
