"""Candidates: few keys proposed, and an exact softmax over them."""

import numpy as np
import pytest

from atento import AtentoError, InputError
from atento.retrieval.candidates import FaissCandidates, proposed, recall
from atento.retrieval.keys import HeldKeys
from atento.retrieval.scan import scan
from retrieval.scan_oracle import scan_oracle


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def clustered(count, dim=24, centres=60, seed=0):
    """Unit vectors around centres, as those of texts on some topics."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, dim))
    rows = middle[rng.integers(0, centres, count)] + 0.5 * rng.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Fixed:
    """Proposes what it was told."""

    name = "fixed"

    def __init__(self, rows):
        self.rows = np.asarray(rows)

    def propose(self, queries, count):
        self.asked = queries.shape, count
        return self.rows


# --- any candidates


@pytest.mark.parametrize("temperature", [0, 0.3])
def test_the_softmax_is_exact_over_what_is_proposed(temperature):
    queries, keys, values = vectors(2, 6), vectors(50, 6, seed=1), vectors(50, 3, seed=2)
    rows = np.array([[3, 40, 7, -1], [9, 3, 12, 49]])
    fixed = Fixed(rows)
    found = scan(
        queries,
        HeldKeys(keys),
        values,
        scale=0.5,
        temperature=temperature,
        candidates=fixed,
        top_k=2,
    )
    assert fixed.asked == ((2, 6), 256)
    for i, own in enumerate(([3, 40, 7], [9, 3, 12, 49])):
        scores, weights, lse, value = scan_oracle(
            queries[[i]], keys[own], values[own], scale=0.5, temperature=temperature
        )
        order = np.argsort(-scores[0])[:2]
        assert found.rows[i].tolist() == np.array(own)[order].tolist()
        np.testing.assert_allclose(found.weights[i], weights[0, order], rtol=1e-6)
        np.testing.assert_allclose(found.lse[i], lse[0], rtol=1e-6)
        np.testing.assert_allclose(found.value[i], value[0], rtol=1e-6)


def test_a_row_that_is_proposed_twice_counts_once():
    keys = HeldKeys(vectors(5, 3))
    twice = scan(vectors(1, 3), keys, scale=1.0, candidates=Fixed([[2, 4, 2, 2]]), top_k=5)
    once = scan(vectors(1, 3), keys, scale=1.0, candidates=Fixed([[2, 4]]), top_k=5)
    np.testing.assert_array_equal(twice.rows, once.rows)
    np.testing.assert_array_equal(twice.weights, once.weights)


def test_nothing_proposed_is_nothing_seen():
    keys, values = HeldKeys(vectors(5, 3)), vectors(5, 2)
    for rows in (np.empty((2, 0), int), [[-1, -1], [-1, -1]]):
        found = scan(vectors(2, 3), keys, values, scale=1.0, candidates=Fixed(rows), top_k=3)
        assert (found.rows == -1).all()
        assert (found.lse == -np.inf).all()
        assert not found.value.any()


def test_recall_is_the_weight_that_the_candidates_hold():
    queries, keys = vectors(3, 6), vectors(50, 6, seed=1)
    rows = np.argsort(vectors(3, 50, seed=2), axis=1)[:, :20]
    held = HeldKeys(keys)
    found = scan(queries, held, scale=1.0, candidates=Fixed(rows))
    weights = scan_oracle(queries, keys, scale=1.0)[1]
    expected = np.take_along_axis(weights, rows, 1).sum(axis=1)
    share = recall(scan(queries, held, scale=1.0), found)
    np.testing.assert_allclose(share, expected, rtol=1e-5)
    assert (share < 0.99).all()
    everything = Fixed(np.tile(np.arange(50), (3, 1)))
    all_of_it = scan(queries, held, scale=1.0, candidates=everything)
    np.testing.assert_allclose(recall(scan(queries, held, scale=1.0), all_of_it), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 5]], "fixed proposed row 5, and there are 5 keys: its index belongs to other keys"),
        ([[0, -2]], "fixed proposed row -2"),
        ([[0.0, 1.0]], r"fixed must propose whole numbers \(1, n\) .* got float64"),
        ([[0], [1]], r"whole numbers \(1, n\) for 1 queries; got int64 \(2, 1\)"),
        ([0, 1], r"whole numbers \(1, n\)"),
    ],
)
def test_proposals_that_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        scan(vectors(1, 3), HeldKeys(vectors(5, 3)), scale=1.0, candidates=Fixed(rows))


def test_a_negative_scale_wants_the_farthest():
    with pytest.raises(InputError, match=r"scale must be above 0; got -1"):
        scan(vectors(1, 3), HeldKeys(vectors(5, 3)), scale=-1.0, candidates=Fixed([[0]]))


def test_proposals_stay_as_they_are():
    rows = np.array([[4, 1, 4]])
    proposed(Fixed(rows), vectors(1, 3), 3, 5)
    assert rows.tolist() == [[4, 1, 4]]


def test_recall_of_other_queries_is_refused():
    keys = HeldKeys(vectors(5, 3))
    with pytest.raises(InputError, match="of the same queries; got 1 and 2"):
        recall(scan(vectors(1, 3), keys, scale=1.0), scan(vectors(2, 3), keys, scale=1.0))


# --- FAISS, the real thing


@pytest.fixture(scope="module")
def faiss():
    return pytest.importorskip("faiss")


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss_finds_nearly_all_weight(faiss, kind):
    keys = HeldKeys(clustered(6000))
    queries = clustered(20, seed=0)
    candidates = FaissCandidates(keys, kind)
    assert candidates.name == f"faiss-{kind}"
    exact = scan(queries, keys, scale=1.0, temperature=0.05)
    found = scan(queries, keys, scale=1.0, temperature=0.05, candidates=candidates, proposals=500)
    assert recall(exact, found).mean() > 0.9
    few = scan(queries, keys, scale=1.0, temperature=0.05, candidates=candidates, proposals=10)
    assert recall(exact, few).mean() < recall(exact, found).mean()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss_by_distance(faiss, kind):
    """Lengths differ: the nearest key is not the one of the largest product."""
    rows = clustered(3000, dim=8) * np.random.default_rng(0).uniform(0.5, 2, (3000, 1))
    keys, queries = HeldKeys(rows), rows[:20].astype(np.float32)
    bias = -(rows**2).sum(axis=1) / 2
    found = {}
    for metric in ("product", "distance"):
        candidates = FaissCandidates(keys, kind, metric=metric, looked_at=200)
        found[metric] = scan(
            queries, keys, scale=1.0, bias=bias, candidates=candidates, proposals=5, top_k=1
        ).rows[:, 0]
    assert (found["distance"] == np.arange(20)).mean() > 0.9
    assert (found["product"] == np.arange(20)).mean() < 0.9


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss_follows_keys_that_are_added(faiss, kind):
    rows = clustered(2000)
    keys = HeldKeys(rows[:1500])
    candidates = FaissCandidates(keys, kind, looked_at=1000)
    assert candidates.add() == 0
    keys.append(rows[1500:])
    assert candidates.add() == 500
    found = scan(rows[1500:1520], keys, scale=1.0, candidates=candidates, top_k=1)
    assert (found.rows[:, 0] == np.arange(1500, 1520)).mean() > 0.9
    while keys.size > 1000:
        keys.drop(keys.size - 1)
    with pytest.raises(InputError, match="there were 2000 keys and now there are 1000"):
        candidates.add()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_faiss_with_very_few_keys(faiss, kind, capfd):
    keys = HeldKeys(vectors(3, 4))
    candidates = FaissCandidates(keys, kind)
    found = scan(vectors(2, 4), keys, scale=1.0, candidates=candidates, top_k=3)
    exact = scan(vectors(2, 4), keys, scale=1.0, top_k=3)
    np.testing.assert_array_equal(found.rows, exact.rows)
    assert capfd.readouterr().err == ""


def test_the_same_seed_learns_the_same_cells(faiss):
    keys, queries = HeldKeys(clustered(30000, dim=6)), clustered(9, dim=6)
    one, same = (FaissCandidates(keys, cells=8, looked_at=1, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.propose(queries, 50), same.propose(queries, 50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "flat"}, "kind must be one of ivf, hnsw; got 'flat'"),
        ({"metric": "cosine"}, "metric must be one of product, distance; got 'cosine'"),
        ({"cells": 0}, "cells must be a whole number ≥ 1; got 0"),
        ({"looked_at": 0}, "looked_at must be a whole number ≥ 1; got 0"),
        ({"kind": "hnsw", "neighbours": 1.5}, "neighbours must be a whole number ≥ 1; got 1.5"),
    ],
)
def test_faiss_candidates_refuse(faiss, arguments, message):
    with pytest.raises(AtentoError, match=message):
        FaissCandidates(HeldKeys(vectors(5, 3)), **arguments)


def test_an_index_of_no_keys_is_refused(faiss):
    with pytest.raises(AtentoError, match="learned from keys, and there are none yet"):
        FaissCandidates(HeldKeys(dim=3))


def test_without_faiss_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("atento._optional.find_spec", lambda name: None)
    with pytest.raises(AtentoError, match=r'to propose candidates.*pip install "atento\[search\]"'):
        FaissCandidates(HeldKeys(vectors(5, 3)))
