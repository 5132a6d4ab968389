"""What attention refuses: which argument, what was expected, what came, what to do."""

import numpy as np
import pytest
import torch

import atento
from atento import DTypeError, EngineError, InputError, ShapeError
from atento.masks import Causal, KeyPadding


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


Q, K, V = ones(3, 5), ones(7, 5), ones(7, 11)

REFUSED = {
    "features": (
        (ones(3, 5), ones(7, 6), V),
        {},
        ShapeError,
        "query and key must have the same number of features on their last axis; got 5 and 6",
    ),
    "transposed key": ((ones(3, 5), ones(5, 7), ones(5, 7)), {}, ShapeError, "Is key transposed?"),
    "tokens": (
        (Q, K, ones(6, 11)),
        {},
        ShapeError,
        "key and value must have the same number of tokens on axis −2; got 7 and 6",
    ),
    "axes": ((ones(2, 3, 5), K, V), {}, ShapeError, "same number of axes; got 3, 2 and 2"),
    "one vector": ((ones(5), K, V), {}, ShapeError, "One vector is one row: query[None, :]."),
    "no features": (
        (ones(3, 0), ones(7, 0), V),
        {},
        ShapeError,
        "feature axis d must not be empty",
    ),
    "heads": (
        (ones(4, 3, 5), ones(6, 7, 5), ones(6, 7, 5)),
        {},
        ShapeError,
        "key has 6 heads and query 4: query heads must be a multiple of key heads.",
    ),
    "heads swapped": (
        (ones(2, 3, 5), ones(6, 7, 5), ones(6, 7, 5)),
        {},
        ShapeError,
        "Did you swap them?",
    ),
    "value heads": (
        (ones(6, 3, 5), ones(6, 7, 5), ones(3, 7, 5)),
        {},
        ShapeError,
        "key and value must have the same number of heads on axis −3; got 6 and 3",
    ),
    "no key heads": (
        (ones(6, 3, 5), ones(0, 7, 5), ones(0, 7, 5)),
        {},
        ShapeError,
        "key has 0 heads",
    ),
    "batches": (
        (ones(2, 4, 3, 5), ones(3, 4, 7, 5), ones(3, 4, 7, 5)),
        {},
        ShapeError,
        "the batch axes (before head) must be equal; got (2,), (3,) and (3,)",
    ),
    "integers": (
        (Q.astype(int), K, V),
        {},
        DTypeError,
        "query must be a float16, float32 or float64 array; got int64: attention is not defined "
        "on integers: convert it to float first, as in query.astype('float32').",
    ),
    "a list of integers": (([[1, 2]], [[1, 2]], [[1, 2]]), {}, DTypeError, "got int64"),
    "bools": ((Q, K > 0, V), {}, DTypeError, "a bool array belongs in mask="),
    "complex": (
        (Q, K, V + 1j),
        {},
        DTypeError,
        "value must be a float16, float32 or float64 array; got complex64",
    ),
    "objects": ((Q.astype(object), K, V), {}, DTypeError, "it holds Python objects"),
    "text": (
        ("query", K, V),
        {},
        DTypeError,
        "query must be an array or a nested list of numbers; got str",
    ),
    "text array": ((np.array([["a"]]), K, V), {}, DTypeError, "convert it to float32"),
    "nothing": ((None, K, V), {}, DTypeError, "got NoneType"),
    "long double": (
        (Q.astype(np.longdouble), K, V),
        {},
        DTypeError,
        f"got {np.dtype(np.longdouble).name}",
    ),
    "ragged": (
        ([[1.0, 2.0], [3.0]], K, V),
        {},
        ShapeError,
        "query is a ragged list: all rows of an array have the same length; got row 0 with 2 "
        "entries and row 1 with 1",
    ),
    "ragged deeper": (
        ([[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], K, V),
        {},
        ShapeError,
        "row 1 with 2",
    ),
    "masked array": ((np.ma.array(Q), K, V), {}, DTypeError, "whose mask attention would lose"),
    "mixed dtypes": (
        (Q, K.astype(np.float64), V),
        {},
        DTypeError,
        "must have one dtype; got float32, float64 and float32",
    ),
    "mixed libraries": (
        (Q, torch.ones(7, 5), V),
        {},
        DTypeError,
        "query is a numpy array and key a torch array: all must come from one library",
    ),
    "mixed devices": (
        (torch.ones(3, 5), torch.ones(7, 5, device="meta"), torch.ones(7, 11)),
        {},
        DTypeError,
        "query is on cpu and key on meta: all must be on one device",
    ),
    "causal without align": (
        (Q, K, V),
        {"mask": Causal()},
        ShapeError,
        "there are 3 queries and 7 keys",
    ),
    "float mask": (
        (Q, K, V),
        {"mask": ones(3, 7)},
        DTypeError,
        "If it holds 0 and 1, write (mask == 1): True = attends",
    ),
    "mask shape": ((Q, K, V), {"mask": ones(3, 6) > 0}, ShapeError, "its key axis has size 6"),
    "mask with a batch for queries without": (
        (Q, K, V),
        {"mask": KeyPadding(ones(2, 7) > 0)},
        ShapeError,
        "do not broadcast",
    ),
    "mask of the wrong kind": ((Q, K, V), {"mask": "causal"}, DTypeError, "got 'causal'"),
    "bias shape": (
        (Q, K, V),
        {"bias": ones(7, 3)},
        ShapeError,
        "bias must broadcast to the weights' (..., head, query, key) = (3, 7); got (7, 3)",
    ),
    "bool bias": ((Q, K, V), {"bias": ones(3, 7) > 0}, DTypeError, "belongs in mask="),
    "bias of another library": (
        (Q, K, V),
        {"bias": torch.ones(3, 7)},
        DTypeError,
        "query is a numpy array and bias a torch",
    ),
    "sinks shape": (
        (ones(4, 3, 5), ones(2, 7, 5), ones(2, 7, 5)),
        {"sinks": ones(2)},
        ShapeError,
        "sinks must be one number, or one per query head: shape (4,); got (2,)",
    ),
    "sinks of another library": (
        (Q, K, V),
        {"sinks": torch.ones(1)},
        DTypeError,
        "query is a numpy array and sinks a torch",
    ),
    "scale of text": ((Q, K, V), {"scale": "big"}, InputError, "scale must be a number; got str"),
    "scale NaN": (
        (Q, K, V),
        {"scale": float("nan")},
        InputError,
        "scale must be a finite number; got nan",
    ),
    "softcap 0": ((Q, K, V), {"softcap": 0}, InputError, "softcap must be positive, or None"),
    "dropout 1": ((Q, K, V), {"dropout": 1.0}, InputError, "up to but not including 1; got 1.0"),
    "dropout below 0": ((Q, K, V), {"dropout": -0.1}, InputError, "got -0.1"),
    "seed": ((Q, K, V), {"dropout": 0.1, "seed": 1.5}, InputError, "seed must be a whole number"),
    "engine": (
        (Q, K, V),
        {"engine": "warp"},
        EngineError,
        "one of auto, dense, streaming, fused; got 'warp'",
    ),
    "fused numpy": (
        (Q, K, V),
        {"engine": "fused"},
        EngineError,
        "the fused engine is PyTorch's own attention; got numpy arrays",
    ),
    "fused softcap": (
        (torch.ones(3, 5),) * 3,
        {"engine": "fused", "softcap": 2.0},
        EngineError,
        "the fused engine computes what PyTorch's own attention can: a softcap",
    ),
}


@pytest.mark.parametrize("function", [atento.attention, atento.trace])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name, function):
    inputs, options, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        function(*inputs, **options)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


def test_trace_says_why_it_cannot_stream():
    with pytest.raises(EngineError, match="trace keeps every step, and the streaming engine"):
        atento.trace(Q, K, V, engine="streaming")


def test_errors_are_both_ours_and_pythons():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DTypeError, TypeError)
    for kind in (ShapeError, DTypeError, EngineError, InputError):
        assert issubclass(kind, atento.AtentoError)
