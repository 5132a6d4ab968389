"""Which engine serves a request on torch, why, and what the engines refuse."""

import numpy as np
import pytest
import torch

import atento
from atento import DTypeError, EngineError, InputError, ShapeError
from atento.masks import Causal, KeyPadding, Prefix, Window
from atento.positions import Alibi, RelativeBias

LONG, SHORT = torch.zeros(2, 1100, 5), torch.zeros(2, 7, 5)
WIDE = torch.zeros(2, 1100, 11)
SCALAR = torch.zeros(())

MISFITS = {
    "a softcap": {"softcap": 2.0},
    "sinks": {"sinks": 1.0},
    "dropout by seed": {"dropout": 0.1, "seed": 1},
    "a bias": {"bias": SCALAR},
    "a bias by rule": {"bias": Alibi(2)},
    "a scale that is not positive": {"scale": -1.0},
    "a scale that is not positive, causal": {"scale": 0.0, "mask": Causal()},
    "a mask other than causal from the start": {"mask": Window(2, 2)},
    "a mask other than causal from the start, padding": {"mask": KeyPadding([True] * 7)},
}


def words_of(name):
    return name.removesuffix(" by rule").partition(",")[0]


@pytest.mark.parametrize("name", MISFITS)
def test_what_fused_cannot_do(name):
    asked = MISFITS[name]
    with pytest.raises(EngineError) as caught:
        atento.attention(SHORT, SHORT, SHORT, engine="fused", **asked)
    assert words_of(name) in str(caught.value)
    assert 'Use engine="streaming", "dense", or "auto".' in str(caught.value)
    chosen = atento.plan(SHORT, SHORT, SHORT, **asked)
    assert (chosen.engine, words_of(name) in chosen.reason) == ("dense", True)
    assert "98 weights fit in the cache" in chosen.reason
    if "padding" not in name:
        chosen = atento.plan(LONG, LONG, LONG, **asked)
        assert (chosen.engine, words_of(name) in chosen.reason) == ("streaming", True)
        assert "2,420,000 weights: block by block" in chosen.reason


@pytest.mark.parametrize("shape", [(2, 300, 5), (40, 7, 250, 5)])
def test_short_rows_are_computed_whole_where_there_would_be_blocks(shape):
    x = torch.zeros(shape)
    table = torch.zeros(1, x.shape[-2], requires_grad=True)
    for asked in ({"softcap": 2.0}, {"dropout": 0.1, "seed": 1}, {"bias": table}):
        chosen = atento.plan(x, x, x, **asked)
        assert (chosen.engine, "weights in short rows" in chosen.reason) == ("dense", True)
    for asked in ({"mask": Window(2, 2)}, {"bias": table.detach()}, {"sinks": 1.0}):
        assert atento.plan(x, x, x, **asked).engine == "streaming"


def test_many_short_rows_are_too_many_to_be_whole():
    x = torch.zeros(1, device="meta").expand(1000, 7, 250, 5)
    assert atento.plan(x, x, x, softcap=2.0).engine == "dense"  # no numbers to look at
    x = torch.zeros(1).expand(1000, 7, 250, 5)
    assert atento.plan(x, x, x, softcap=2.0).engine == "streaming"


@pytest.mark.parametrize("mask", [None, Causal(), Causal("start"), Causal("end")])
def test_what_fused_computes_exactly(mask):
    for x in (SHORT, LONG, SHORT[0], SHORT[None]):
        chosen = atento.plan(x, x, x, mask=mask)
        assert chosen.engine == "fused"
        assert chosen.reason == "PyTorch's own attention computes exactly this"
        assert atento.plan(x, x, x, mask=mask, engine="fused").reason == "asked for"


def test_shapes_that_decide():
    assert atento.plan(SHORT, SHORT, SHORT[..., :3]).reason.startswith("values of another size")
    assert atento.plan(LONG, LONG, WIDE).engine == "streaming"
    assert "nothing to compute" in atento.plan(SHORT, SHORT[:, :0], SHORT[:, :0]).reason
    assert atento.plan(SHORT, LONG, LONG, mask=Causal("start")).engine == "fused"
    assert atento.plan(SHORT, LONG, LONG, mask=Causal("end")).engine == "dense"
    one_query = SHORT[:, :1]
    assert atento.plan(one_query, LONG, LONG, mask=Causal("end")).engine == "fused"
    assert atento.plan(one_query, LONG, LONG, mask=Window(left=9, align="end")).engine == "dense"


def test_naming_an_engine_is_a_reason():
    for engine in ("dense", "streaming", "fused"):
        chosen = atento.plan(SHORT, SHORT, SHORT, engine=engine)
        assert (chosen.engine, chosen.reason) == (engine, "asked for")
    with pytest.raises(
        EngineError, match="must be one of auto, dense, streaming, fused; got 'fast'"
    ):
        atento.plan(SHORT, SHORT, SHORT, engine="fast")


def test_numbers_that_cannot_be_looked_at():
    x = torch.zeros(2, 300, 5, device="meta")
    assert atento.plan(x, x, x).engine == "fused"
    chosen = atento.plan(x, x, x, softcap=2.0)
    assert chosen.engine == "dense"
    assert chosen.reason == "a softcap, and the numbers cannot be looked at"
    with pytest.raises(EngineError) as caught:
        atento.attention(x, x, x, engine="streaming")
    assert "block by block, which cannot be done while torch traces the call" in str(caught.value)
    assert 'Use engine="auto"' in str(caught.value)


def test_streaming_is_refused_while_traced():
    def attend(x):
        return atento.attention(x, x, x, engine="streaming")

    with pytest.raises(EngineError, match="cannot be done while torch traces the call"):
        torch.func.grad(lambda x: attend(x).sum())(SHORT)
    with pytest.raises(EngineError, match="cannot be done while torch traces the call"):
        torch.func.vmap(attend)(LONG[:, :7])


def test_weights_come_from_dense_alone():
    for engine in ("streaming", "fused"):
        with pytest.raises(EngineError) as caught:
            atento.attention(SHORT, SHORT, SHORT, engine=engine, return_weights=True)
        assert f"the {engine} engine never holds the weights" in str(caught.value)
        with pytest.raises(EngineError, match=f"the {engine} engine keeps none"):
            atento.trace(SHORT, SHORT, SHORT, engine=engine)


REFUSED = {
    "mixed dtypes": (
        lambda: atento.attention(SHORT, SHORT.double(), SHORT),
        DTypeError,
        "must have one dtype; got float32, float64 and float32",
    ),
    "halves of two kinds": (
        lambda: atento.attention(SHORT.half(), SHORT.half(), SHORT.bfloat16()),
        DTypeError,
        "got float16, float16 and bfloat16",
    ),
    "integers": (
        lambda: atento.attention(SHORT.int(), SHORT.int(), SHORT.int()),
        DTypeError,
        "got int32: attention is not defined on integers",
    ),
    "complex": (
        lambda: atento.attention(SHORT, SHORT, SHORT.cfloat()),
        DTypeError,
        "got complex64: attention is defined on real numbers",
    ),
    "key elsewhere": (
        lambda: atento.attention(SHORT, SHORT.to("meta"), SHORT),
        DTypeError,
        "query is on cpu and key on meta: all must be on one device",
    ),
    "bias elsewhere": (
        lambda: atento.attention(SHORT, SHORT, SHORT, bias=SCALAR.to("meta")),
        DTypeError,
        "query is on cpu and bias on meta",
    ),
    "sinks elsewhere": (
        lambda: atento.attention(SHORT, SHORT, SHORT, sinks=torch.zeros(2, device="meta")),
        DTypeError,
        "query is on cpu and sinks on meta",
    ),
    "table elsewhere": (
        lambda: atento.attention(
            SHORT, SHORT, SHORT, bias=RelativeBias(torch.zeros(8, 2, device="meta"))
        ),
        DTypeError,
        "the table of RelativeBias is on meta and query on cpu",
    ),
    "bias of NumPy": (
        lambda: atento.attention(SHORT, SHORT, SHORT, bias=np.zeros((7, 7))),
        DTypeError,
        "query is a torch array and bias a numpy array",
    ),
    "bias of another shape": (
        lambda: atento.attention(SHORT, SHORT, SHORT, bias=torch.zeros(3, 7, 7)),
        ShapeError,
        "bias must broadcast to the weights' (..., head, query, key) = (2, 7, 7); got (3, 7, 7)",
    ),
    "slopes for other heads": (
        lambda: atento.attention(SHORT, SHORT, SHORT, bias=Alibi(3)),
        ShapeError,
        "is for 3 heads, and there are 2 query heads",
    ),
    "sinks for other heads": (
        lambda: atento.attention(SHORT, SHORT, SHORT, sinks=torch.zeros(3)),
        ShapeError,
        "one per query head: shape (2,); got (3,)",
    ),
    "causal without align": (
        lambda: atento.attention(SHORT, LONG, LONG, mask=Causal()),
        ShapeError,
        "needs align= when the lengths differ: there are 7 queries and 1100 keys",
    ),
    "a float mask": (
        lambda: atento.attention(SHORT, SHORT, SHORT, mask=torch.zeros(7, 7)),
        DTypeError,
        "mask must be a bool array; got float32",
    ),
    "dropout of everything": (
        lambda: atento.attention(SHORT, SHORT, SHORT, dropout=1.0),
        InputError,
        "dropout must be a probability from 0 up to but not including 1; got 1.0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("engine", ["auto", "dense", "streaming"])
def test_what_is_refused(name, engine, monkeypatch):
    call, kind, words = REFUSED[name]
    usual = atento.attention
    monkeypatch.setattr(
        atento, "attention", lambda *inputs, **asked: usual(*inputs, **asked, engine=engine)
    )
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


def test_a_prefix_of_nothing_is_a_mask_like_any_other():
    assert atento.plan(LONG, LONG, LONG, mask=Prefix(0)).engine == "streaming"
