"""Parts over some heads: what they hold, where they stand, and what whole batches are made of."""

import tracemalloc

import numpy as np
import pytest

from atento import InputError, ShapeError
from atento.masks import Causal, Window
from atento.statistics import (
    Entropy,
    Extent,
    Maximum,
    Overview,
    QuerySum,
    Received,
    Statistic,
    as_statistics,
    default_statistics,
    registered,
    sharing,
)
from atento.statistics.gathering import gathered
from atento.statistics.survey import survey

H, T = 7, 53
RNG = np.random.default_rng(2027)
QUERY, KEY = (RNG.standard_normal((3, H, T, 5)) for _ in range(2))


def of_all_heads(statistic):
    """The same, but that it says of no head that it is of that head alone."""
    kind = type(statistic)
    merged = type(f"Merged{kind.__name__}", (kind,), {"by_head": False})
    made = merged.__new__(merged)
    made.__dict__.update(statistic.__dict__)
    return made


@pytest.fixture(params=[1, 2, 3, 31])
def threads(request, monkeypatch):
    monkeypatch.setattr("atento.statistics.on_numpy.available_cores", lambda: request.param)
    monkeypatch.setattr(sharing, "ROWS", 16)


@pytest.mark.usefixtures("threads")
def test_results_side_by_side_are_those_of_parts_over_all_heads():
    tokens = np.arange(T) % 5
    wishes = [*default_statistics(with_tokens=True), *as_statistics("top_k")]
    asked = {"mask": Causal(), "tokens": tokens}
    found = survey(QUERY, KEY, KEY, **asked, statistics=wishes)
    merged = survey(QUERY, KEY, KEY, **asked, statistics=list(map(of_all_heads, wishes)))
    assert set(found) == set(merged)
    for name in found:
        np.testing.assert_array_equal(found[name], merged[name], err_msg=name)
    assert found.axes == merged.axes


def test_all_statistics_of_ours_are_by_head():
    assert all(statistic.by_head for statistic in registered().values())
    assert not Statistic.by_head
    assert not QuerySum.by_head


class Seen(QuerySum):
    """Which head each entry is of, as its extent says."""

    by_head = True

    def update(self, block):
        heads = self.extent.first_head + np.asarray(block.heads)
        self.sum[block.at_queries] = heads[:, None]
        assert len(block.heads) == len(block.weights) <= self.extent.heads
        assert block.extent is self.extent


@pytest.mark.usefixtures("threads")
def test_a_part_over_some_heads_knows_which_they_are():
    found = survey(QUERY, KEY, KEY, statistics=[Seen("head")])
    np.testing.assert_array_equal(found["head"], np.indices((3, H, T))[1])


class OverHeads(Statistic):
    """The mean over heads of the weights, which no part over some heads knows."""

    results = {"mean": ("query", "key")}  # noqa: RUF012

    def _begin(self):
        self.sum = self.extent.full((self.extent.queries, self.extent.keys), 0.0)

    def update(self, block):
        at = tuple(slice(span.start, span.stop) for span in (block.rows, block.cols))
        self.sum[at] += block.weights.sum(0) / self.extent.heads
        assert block.extent.heads == H

    def merge(self, other):
        self.sum += other.sum

    def result(self):
        return {"mean": self.sum}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("by_head", [False, True])
def test_what_is_over_all_heads_is_merged_also_beside_what_is_by_head(by_head):
    class Mean(OverHeads):
        pass

    Mean.by_head = by_head  # its result has no axis "head": this changes nothing
    found = survey(QUERY, KEY, KEY, mask=Causal(), statistics=[Entropy(), Mean(), Seen("head")])
    scores = QUERY @ KEY.swapaxes(-1, -2) / np.sqrt(5)
    terms = np.exp(scores) * np.tri(T)
    weights = terms / terms.sum(-1, keepdims=True)
    np.testing.assert_allclose(found["mean"], weights.mean(1), rtol=1e-12, atol=1e-15)
    logs = np.log(np.where(weights > 0, weights, 1))
    np.testing.assert_allclose(found["entropy"], -(weights * logs).sum(-1), 1e-11, 1e-12)


def test_a_part_holds_no_more_than_the_heads_that_its_thread_folds(monkeypatch):
    """Before, each of them held the maps of all heads: 8 times the results, where it is 4 here."""
    monkeypatch.setattr("atento.statistics.on_numpy.available_cores", lambda: 2)
    heads, length = 16, 4096
    query = RNG.standard_normal((heads, length, 4)).astype("f4")
    asked = {"mask": Causal() & Window(left=8, align="end"), "statistics": [Overview(width=8)]}
    survey(query[:, :99], query[:, :99], query[:, :99], **asked)
    survey(query, query, query, mask=asked["mask"], statistics=["entropy"])  # what is loaded once
    tracemalloc.start()
    try:
        found = survey(query, query, query, **asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * sum(array.nbytes for array in found.statistics.values())


def an_extent(heads, first_head=0):
    whole = Extent(9, 5, 6, 0, np, np.dtype("f8"), "cpu")
    return whole.of_heads(range(first_head, first_head + heads))


def test_parts_over_other_heads_are_not_merged():
    part = Received().start(an_extent(2, 3))
    part.merge(Received().start(an_extent(2, 3)))
    with pytest.raises(InputError, match=r"first_head are \(2, 5, 6, 0, 3\) here .* 0, 5\) there"):
        part.merge(Received().start(an_extent(2, 5)))
    assert an_extent(4, 3).of_heads(range(1, 3)).first_head == 4


def test_a_result_that_fits_no_heads_is_refused():
    class Narrow(Maximum):
        def result(self):
            return {name: array[:1] for name, array in super().result().items()}

    parts = [Narrow().start(an_extent(4, first)) for first in (0, 4)]
    with pytest.raises(ShapeError, match=r"'max' has results of several shapes, \(4, 5\) and \(1"):
        gathered(iter((0, [part]) for part in parts), 8)
