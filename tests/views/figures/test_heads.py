"""What a picture is made of: the weights themselves, pooled exactly, and what may be seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import atento
from atento.masks import Causal, Explicit, Prefix, Rule, Segments, Window
from atento.reading.recording import Recording
from atento.views.figures.choosing import Choice, heads_of
from atento.views.figures.heads import Dense, Recorded, zoom_for
from atento.views.figures.seen import seen_cells
from reading_records import MASKS, OPTIONS, TK, TQ, record, record_of


def brute(weights, seen, rows, cols, side, pool):
    """Cells by loops; the last ones as whole as the weights allow."""
    fold = np.max if pool == "max" else np.mean
    cells = [
        [(slice(i, i + side), slice(j, j + side)) for j in range(cols.start, cols.stop, side)]
        for i in range(rows.start, rows.stop, side)
    ]
    return (
        np.array([[fold(weights[cell]) for cell in line] for line in cells]),
        np.array([[seen[cell].any() for cell in line] for line in cells]),
    )


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_recorded_head_and_a_dense_one_have_the_cells_of_the_oracle(mask, pool):
    made, weights = record(mask)
    rule = MASKS[mask][1]
    for head, batch, most in ((0, 0, 99), (4, 1, 4), (5, 1, 7)):
        seen = np.ones((TQ, TK), bool) if rule is None else np.broadcast_to(rule, weights.shape)
        seen = seen if seen.ndim == 2 else seen[batch, head]
        for rows, cols in ((range(TQ), range(TK)), (range(2, 9), range(4, 13))):
            side = 1 << zoom_for(rows, cols, most)
            expected = brute(weights[batch, head], seen, rows, cols, side, pool)
            for source in (Recorded(made, head, batch), Dense(weights[batch, head], seen)):
                cells = source.cells(rows, cols, most, pool)
                np.testing.assert_allclose(cells.weights, expected[0], rtol=1e-10, atol=1e-14)
                np.testing.assert_array_equal(cells.seen, expected[1])
                assert cells.sides == (side, side)
                assert cells.corner == (rows.start, cols.start)
                assert max(cells.weights.shape) <= most


@pytest.mark.parametrize("option", OPTIONS)
def test_a_bias_of_minus_infinity_closes_a_place(option):
    made, weights = record("everybody", option)
    cells = Recorded(made, 3, 1).cells(range(TQ), range(TK), 99, "max")
    np.testing.assert_allclose(cells.weights, weights[1, 3], rtol=1e-10, atol=1e-14)
    closed = option == "bias of −∞"
    np.testing.assert_array_equal(cells.seen, weights[1, 3] > 0 if closed else True)


RULES = [
    lambda T, w: Causal("end"),
    lambda T, w: Window(w, w // 2, "start"),
    lambda T, w: Prefix(w) | Causal("start"),
    lambda T, w: Segments(np.arange(T[0]) // (w + 1), np.arange(T[1]) // (w + 1)),
    lambda T, w: Rule(lambda b, h, q, k: (q * 7 + k * 3) % (w + 5) == 0),
    lambda T, w: Explicit(np.random.default_rng(w).random(T) < 0.05),
    lambda T, w: Prefix(0),
]


@given(
    st.sampled_from(RULES),
    st.integers(1, 70),
    st.integers(1, 90),
    st.integers(0, 20),
    st.integers(0, 4),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_seen_cells_are_those_of_the_rule(rule, Tq, Tk, width, zoom, row, col):
    from atento.views.figures import seen

    mask = rule((Tq, Tk), width).bind((Tq, Tk)).at(())
    row, col, side = min(row, Tq - 1), min(col, Tk - 1), 1 << zoom
    shape = -(-(Tq - row) // side), -(-(Tk - col) // side)
    dense = rule((Tq, Tk), width).dense(Tq, Tk)
    _, expected = brute(dense, dense, range(row, Tq), range(col, Tk), side, "max")
    small, seen.SMALL = seen.SMALL, 16  # so that blocks are halved here, too
    try:
        found = seen_cells(mask, (row, col), side, shape, (Tq, Tk))
    finally:
        seen.SMALL = small
    np.testing.assert_array_equal(found, expected)


def test_what_may_be_seen_is_asked_for_in_large_blocks():
    asked = []

    class Counting:
        def __init__(self, rule):
            self.rule = rule

        def coverage(self, rows, cols):
            asked.append(len(rows) * len(cols))
            return self.rule.coverage(rows, cols)

        def block(self, rows, cols):
            return self.rule.block(rows, cols)

    T = 65_536
    rule = Counting(Causal("start").bind((T, T)).at(()))
    seen = seen_cells(rule, (0, 0), 256, (256, 256), (T, T))
    np.testing.assert_array_equal(seen, np.tri(256, dtype=bool))
    assert len(asked) < 3000  # of 65,536 cells


def test_statistics_alone_serve_what_they_can():
    T = 70
    rng = np.random.default_rng(5)
    query, key = rng.normal(size=(2, 1, 1, T, 3))
    whole, weights = record_of(query, key, np.tri(T, dtype=bool), Causal("start"))
    bins = -(-T // 4)
    means = np.array([[weights[0, 0, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean()
                       for j in range(bins)] for i in range(bins)])  # fmt: skip
    maxima = np.array([[weights[0, 0, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].max()
                        for j in range(bins)] for i in range(bins)])  # fmt: skip
    whole.query = whole.key = None
    whole.key_length = T
    whole.statistics = {"overview_mean": means[None, None], "overview_max": maxima[None, None]}
    whole.axes = dict.fromkeys(whole.statistics, ("head", "row bin", "column bin"))
    source = Recorded(whole, 0, 0)
    cells = source.cells(range(T), range(T), 512, "max")
    assert cells.sides == (4, 4)
    np.testing.assert_allclose(cells.weights, maxima, rtol=1e-12)
    np.testing.assert_array_equal(cells.seen, maxima > 0)
    assert source.cells(range(T), range(T), 10, "mean").sides == (8, 8)
    whole.statistics = {}
    with pytest.raises(atento.InputError, match=r'only statistics: record with keep="qk"'):
        source.cells(range(T), range(T), 512, "max")


def test_a_survey_has_its_overview(surveyed):
    (heads,) = heads_of(surveyed, Choice(), every=True)
    assert [head.number for head in heads] == [0, 1]
    cells = heads[1].source.cells(range(11), range(11), 512, "mean")
    np.testing.assert_array_equal(cells.weights, surveyed["overview_mean"][1])
    axis, values = heads[1].statistics["received"]
    assert axis == "key"
    np.testing.assert_array_equal(values, surveyed["received"][1])
    with pytest.raises(atento.InputError, match="a survey keeps an overview of all weights"):
        heads[0].source.cells(range(5), range(11), 512, "max")


@pytest.mark.parametrize("leading", [(), (2,), (3, 2)])
def test_a_survey_of_any_axes(leading):
    x = np.random.default_rng(6).normal(size=(3, *leading, 7, 4))
    found = atento.survey(*x)
    batch, head = (2 if len(leading) == 2 else 0), (1 if leading else 0)
    ((one,),) = heads_of(found, Choice(head=head, batch=batch), every=False)
    index = (batch, head)[2 - len(leading) :]
    np.testing.assert_array_equal(one.statistics["entropy"][1], found["entropy"][index])


def test_heads_are_called_as_the_record_calls_them(recording):
    for layer in recording:
        layer.head_numbers = (3, 7, 8, 10, 11, 20)
    layers = heads_of(recording, Choice(layer="blocks.1.attn", head=[20, 3]), every=False)
    assert [[head.number for head in layer] for layer in layers] == [[20, 3]]
    assert layers[0][0].layer == 1
    expected = recording[1].weights(20, batch=0)
    cells = layers[0][0].source.cells(range(TQ), range(TK), 99, "max")
    np.testing.assert_array_equal(cells.weights, expected)
    np.testing.assert_array_equal(
        layers[0][0].statistics["entropy"][1], recording[1].statistics["entropy"][0, 5]
    )
    ((last,),) = heads_of(recording, Choice(layer=0, head=-1, batch=1), every=False)
    assert last.number == 20
    with pytest.raises(
        atento.InputError, match=r"no head 4 in layer 0: there are heads 3, 7, 8, 10, 11, 20\."
    ):
        heads_of(recording, Choice(layer=0, head=4), every=False)


def test_a_layer_that_was_loaded_from_a_file(recording, tmp_path):
    recording.save(tmp_path / "run.safetensors")
    layer = atento.load_recording(tmp_path / "run.safetensors")[1]
    ((head,),) = heads_of(layer, Choice(head=2, batch=1), every=False)
    assert head.layer == "blocks.1.attn"
    cells = head.source.cells(range(TQ), range(TK), 99, "max")
    np.testing.assert_array_equal(cells.weights, recording[1].weights(2, batch=1))


def test_tokens_are_the_queries_own(recording):
    first = TK - TQ
    ((head,),) = heads_of(recording, Choice(layer=0, head=0), every=False)
    assert list(head.tokens) == [str(n) for n in range(first, TK)]
    assert list(head.key_tokens) == [str(n) for n in range(TK)]
    ((second,),) = heads_of(recording, Choice(layer=0, head=0, batch=1), every=False)
    assert list(second.key_tokens) == [str(n) for n in range(TK, 2 * TK)]
    recording[0].kind = "cross"
    ((crossed,),) = heads_of(recording, Choice(layer=0, head=0), every=False)
    assert crossed.key_tokens is None
    ((named,),) = heads_of(
        recording, Choice(layer=0, head=0, key_tokens=["k"] * TK, tokens=["q"] * TQ), every=False
    )
    assert (named.tokens, named.key_tokens) == (["q"] * TQ, ["k"] * TK)


def test_names_given_for_one_sequence_are_for_both_sides():
    x = np.eye(3)
    ((head,),) = heads_of(atento.trace(x, x, x), Choice(tokens=["a", "b", "c"]), every=False)
    assert head.tokens == head.key_tokens == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (Choice(layer=3, head=0), "there are 3 layers, 0 to 2; got layer 3"),
        (Choice(layer="first", head=0), "layer must be a number from 0 on; got 'first'"),
        (Choice(head=4), r"there is no head 4 in layer \d: there are heads 0 to 3\."),
        (Choice(head=-5), "there is no head -5"),
        (Choice(head="1"), "head must be a number or a list of numbers; got '1'"),
        (Choice(head=[]), r"head must be a number or a list of numbers; got \[\]"),
        (Choice(head=True), "head must be a number or a list"),
        (Choice(head=[1, 1]), "head names one head twice"),
        (Choice(layer=0), "there are 4 heads in layer 0: say which with head="),
        (Choice(batch=1), "there is 1 batch item, number 0; got batch 1"),
        (Choice(tokens=["a"]), "tokens must hold one name for each of the 6 queries; got 1"),
        (Choice(tokens="abcdef"), "tokens must be a list of str"),
        (Choice(key_tokens=[1] * 6), "key_tokens must be a list of str"),
    ],
)
def test_what_is_not_there_is_refused_in_words(mini, choice, why):
    assert mini.layer != 0
    with pytest.raises(atento.InputError, match=why):
        heads_of(mini, choice, every=False)


def test_what_of_a_recording_is_not_there(recording, surveyed):
    for choice, why in (
        (Choice(head=0), "there are 2 layers: say which with layer="),
        (Choice(layer=2, head=0), "there is no layer 2. There are 2: 0: blocks.0.attn"),
        (Choice(layer=0), "there are 6 heads in layer 0: say which with head="),
        (Choice(layer=0, head=6), "no head 6 in layer 0: there are heads 0 to 5"),
        (Choice(layer=0, head=0, batch=2), "there are 2 batch items"),
    ):
        with pytest.raises(atento.InputError, match=why):
            heads_of(recording, choice, every=False)
    with pytest.raises(atento.InputError, match="this is one already"):
        heads_of(recording[0], Choice(layer=0), every=True)
    with pytest.raises(atento.InputError, match="no layers: run the model inside"):
        heads_of(Recording(), Choice(), every=True)
    with pytest.raises(atento.InputError, match="a survey is of one"):
        heads_of(surveyed, Choice(layer=0), every=True)
    with pytest.raises(atento.DTypeError, match=r"a figure is drawn of a Trace.*; got list"):
        heads_of([1], Choice(), every=True)
