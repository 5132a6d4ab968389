"""What must not change a result, from blocks to autocast; and what a call leaves behind."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import atento
from atento.masks import Causal, KeyPadding, Window
from atento.positions import Alibi
from torch_cases import KEY, QUERY, TK, VALUE, H, asked_for, normal, tensors

HALVES = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
RICH = ("plain", "everything, by distance")


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 4), (64, 64, 64)])
@pytest.mark.parametrize("option", RICH)
def test_blocks_of_any_size(option, sizes, monkeypatch):
    rows, cols, widest = sizes
    for name, size in {
        "on_torch.streaming.LOW": rows,
        "on_torch.streaming.HIGH": 2 * rows,
        "on_torch.streaming.MADE": cols,
        "on_torch.blocks.FORWARD": (rows, cols),
        "on_torch.blocks.BACKWARD": (cols, rows),
        "schedule.WIDEST": widest,
    }.items():
        monkeypatch.setattr(f"atento.equation.{name}", size)
    asked, _ = asked_for("combined", option)
    found = atento.attention(*tensors(), **asked, engine="streaming", return_lse=True)
    wanted = atento.attention(*tensors(), **asked, engine="dense", return_lse=True)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", ["padding", "array of each, per head", "combined", "nobody"])
@pytest.mark.parametrize(
    "option", ["plain", "bias per head", "bias of −∞", "dropout", "sinks", "ALiBi"]
)
def test_masks_of_short_texts_are_written_out(mask, option, monkeypatch):
    """All items of a batch together, instead of one after the other."""
    asked, _ = asked_for(mask, option)
    made = []
    for longest in (0, 2**18):
        monkeypatch.setattr("atento.equation.on_torch.streaming.SHORT", longest)
        inputs = tensors(requires_grad=True)
        found = atento.attention(*inputs, **asked, engine="streaming", return_lse=True)
        seen = torch.where(found[1].isneginf(), 0, found[1])
        both = found[0].square().sum() + seen.sin().sum()
        made.append([*found, *torch.autograd.grad(both, inputs)])
    torch.testing.assert_close(made[1], made[0], rtol=1e-12, atol=1e-12)


def test_dropout_of_single_precision_is_that_of_the_formula(monkeypatch):
    """Blocks of float32 drop by their bits, those of float64 by a product."""
    monkeypatch.setattr("atento.equation.on_torch.blocks.FORWARD", (5, 7))
    monkeypatch.setattr("atento.equation.on_torch.blocks.BACKWARD", (7, 5))
    inputs = [torch.from_numpy(normal(2, 3, 23, 5)).float().requires_grad_() for _ in range(3)]
    made = []
    for engine in ("dense", "streaming"):
        output = atento.attention(*inputs, dropout=0.3, seed=11, engine=engine)
        made.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(made[0][0], atento.attention(*inputs), atol=1e-2)


@pytest.mark.parametrize("option", RICH)
def test_any_number_of_threads(streaming, option):
    asked, _ = asked_for("combined", option)
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            inputs = tensors(requires_grad=True)
            output = atento.attention(*inputs, **asked, engine=streaming)
            output.square().sum().backward()
            made.append([output, *(array.grad for array in inputs)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=1e-12, atol=1e-12)


def test_threads_are_as_many_as_before(engine):
    def elsewhere():
        return torch.get_num_threads()

    before = torch.get_num_threads()
    asked, _ = asked_for("combined", "everything")
    atento.attention(*tensors(requires_grad=True), **asked, engine=engine).sum().backward()
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:  # threads that are born later, too
        assert pool.submit(elsewhere).result() == before


def test_the_same_bits_each_time(streaming):
    """Which thread is done first must not be seen in what comes back."""
    query, key, value = normal(2, 12, 13, 5), normal(2, 1, 13, 5), normal(2, 1, 13, 3)
    bias = torch.from_numpy(normal(13, 13))
    made = []
    for _ in range(6):
        inputs = [torch.from_numpy(x).requires_grad_() for x in (query, key, value)]
        own = bias.clone().requires_grad_()
        output = atento.attention(*inputs, mask=Causal(), bias=own, softcap=2.0, engine=streaming)
        made.append([output, *torch.autograd.grad(output.square().sum(), [*inputs, own])])
    for other in made[1:]:
        for one, again in zip(made[0], other, strict=True):
            assert torch.equal(one, again)


def test_the_engine_that_auto_takes():
    asked = {"mask": Causal() & Window(left=255), "bias": Alibi(2)}
    inputs = [torch.from_numpy(normal(2, 300, 5)).float() for _ in range(3)]
    assert atento.plan(*inputs, **asked).engine == "streaming"
    auto, streamed, whole = (
        atento.attention(*inputs, **asked, engine=engine)
        for engine in ("auto", "streaming", "dense")
    )
    assert torch.equal(auto, streamed)
    torch.testing.assert_close(auto, whole, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("option", RICH)
def test_what_else_is_returned(engine, option):
    asked, _ = asked_for("combined", option)
    plain = atento.attention(*tensors(), **asked, engine=engine)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(
        atento.attention(*tensors(), **asked, engine=engine, return_lse=True)[0], plain, **close
    )
    torch.testing.assert_close(
        atento.attention(*tensors(), **asked, return_weights=True)[0], plain, **close
    )
    trace = atento.trace(*tensors(), **asked)
    torch.testing.assert_close(trace.output, plain, **close)
    for needs_gradients in (False, True):
        with torch.set_grad_enabled(needs_gradients):
            inputs = tensors(requires_grad=True)
            found = atento.attention(*inputs, **asked, engine=engine)
            torch.testing.assert_close(found, plain, **close)
            assert found.requires_grad == needs_gradients


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("option", ["plain", "sinks", "bias per head", "ALiBi", "softcap", "T5"])
@pytest.mark.parametrize("mask", ["everybody", "combined"])
def test_halves_are_computed_in_float32_and_come_back_as_halves(engine, dtype, option, mask):
    query, key, value = (array.to(dtype).requires_grad_() for array in tensors())
    asked, leaves = asked_for(mask, option, dtype)
    output, lse = atento.attention(query, key, value, **asked, engine=engine, return_lse=True)
    assert output.dtype == dtype
    assert lse.dtype == torch.float32
    asked, own = asked_for(mask, option, torch.float64)
    for leaf, rounded in zip(own, leaves, strict=True):
        leaf.data = rounded.double()
    wide = [array.detach().double().requires_grad_() for array in (query, key, value)]
    exact, exact_lse = atento.attention(*wide, **asked, engine="dense", return_lse=True)
    # One rounding, at the very end.
    unit = HALVES[dtype]
    torch.testing.assert_close(output.double(), exact, rtol=1.01 * unit, atol=2e-6)
    torch.testing.assert_close(lse.double(), exact_lse, rtol=2e-6, atol=2e-6)
    output.sum().backward()
    exact.sum().backward()
    for array, other in zip((query, key, value), wide, strict=True):
        assert array.grad.dtype == dtype
        torch.testing.assert_close(array.grad.double(), other.grad, rtol=4 * unit, atol=16 * unit)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mask", [None, Causal()])
def test_fused_halves(dtype, mask):
    query, key, value = (torch.from_numpy(normal(2, 3, 11, 8)).to(dtype) for _ in range(3))
    found = atento.attention(query, key, value, mask=mask, engine="fused")
    assert found.dtype == dtype
    exact = atento.attention(query.double(), key.double(), value.double(), mask=mask)
    torch.testing.assert_close(
        found.double(), exact, rtol=4 * HALVES[dtype], atol=4 * HALVES[dtype]
    )


@pytest.mark.parametrize("which", ["dense", "streaming", "fused", "auto"])
def test_autocast_leaves_float32_alone(which):
    made = []
    for cast in (False, True):
        inputs = [
            torch.from_numpy(array).float().requires_grad_()
            for array in (QUERY, np.repeat(KEY, 2, 1), np.repeat(KEY, 2, 1)[..., ::-1].copy())
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            found = atento.attention(*inputs, mask=Causal("start"), engine=which, return_lse=True)
            alone = atento.attention(*inputs, mask=Causal("start"), engine=which)
            weights = atento.attention(*inputs, mask=Causal("start"), return_weights=True)
        grads = torch.autograd.grad(found[0].square().sum() + alone.sum(), inputs)
        made.append([*found, alone, *weights, *grads])
    for plain, under in zip(*made, strict=True):
        assert under.dtype == torch.float32
        torch.testing.assert_close(under, plain, rtol=1e-6, atol=1e-6)


def test_backward_under_autocast(streaming):
    made = []
    for cast in (False, True):
        inputs = tensors(torch.float32, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            asked, _ = asked_for("combined", "softcap", torch.float32)
            output = atento.attention(*inputs, **asked, engine=streaming)
            made.append(torch.autograd.grad(output.square().sum(), inputs))
    torch.testing.assert_close(made[1], made[0], rtol=1e-5, atol=1e-6)


def test_a_trace_under_autocast():
    inputs = [torch.from_numpy(normal(3, 7, 5)).float() for _ in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = atento.trace(*inputs)
    for step, wanted in zip(under, atento.trace(*inputs), strict=True):
        assert step.value.dtype == torch.float32
        assert torch.equal(step.value, wanted.value)


@pytest.mark.parametrize("mask", ["everybody", "combined", "causal, start"])
@pytest.mark.parametrize("option", ["plain", "everything", "everything, by distance"])
def test_inputs_are_never_modified(engine, mask, option):
    inputs = tensors(requires_grad=True)
    asked, leaves = asked_for(mask, option, requires_grad=True)
    everything = [*inputs, *leaves]
    before = [array.detach().clone() for array in everything]
    versions = [array._version for array in everything]
    output, lse = atento.attention(*inputs, **asked, engine=engine, return_lse=True)
    kept = output.detach().clone(), lse.detach().clone()
    grads = torch.ones_like(output), torch.ones_like(lse)
    torch.autograd.backward((output, torch.where(lse.isfinite(), lse, 0)), grads)
    for array, copy, version in zip(everything, before, versions, strict=True):
        assert torch.equal(array.detach(), copy)
        assert array._version == version
    assert all((grad == 1).all() for grad in grads)
    assert torch.equal(output, kept[0])
    assert torch.equal(lse, kept[1])


def layouts(array):
    """The same numbers, lying otherwise in memory."""
    spread = torch.zeros(*array.shape[:-1], 2 * array.shape[-1], dtype=array.dtype)
    spread[..., ::2] = array
    return {
        "(batch, token, head, feature)": array.transpose(1, 2).contiguous().transpose(1, 2),
        "(batch, head, feature, token)": array.mT.contiguous().mT,
        "every other feature": spread[..., ::2],
        "part of one projection": torch.cat([array, array], -1)[..., : array.shape[-1]],
        "first axis last": array.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    }


@pytest.mark.parametrize("name", list(layouts(torch.zeros(1, 1, 1, 1))))
@pytest.mark.parametrize(
    ("mask", "option"), [("causal, start", "plain"), ("combined", "everything")]
)
def test_any_layout_in_memory(engine, name, mask, option):
    asked, _ = asked_for(mask, option)
    found = []
    for strided in (False, True):
        inputs = tensors(requires_grad=True)
        given = [layouts(array)[name] for array in inputs] if strided else inputs
        output = atento.attention(*given, **asked, engine=engine)
        (layouts(output)[name] if strided else output).square().sum().backward()
        found.append([output, *(array.grad for array in inputs)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_expanded_inputs(engine):
    """One key and value for the whole batch, without a copy."""
    query = torch.from_numpy(normal(3, 2, 7, 5)).requires_grad_()
    key, value = (torch.from_numpy(normal(1, 2, 11, 5)).requires_grad_() for _ in range(2))
    shared = atento.attention(
        query, key.expand(3, -1, -1, -1), value.expand(3, -1, -1, -1), engine=engine
    )
    copied = atento.attention(
        query, key.repeat(3, 1, 1, 1), value.repeat(3, 1, 1, 1), engine=engine
    )
    torch.testing.assert_close(shared, copied, rtol=1e-13, atol=1e-13)
    grads = [torch.autograd.grad(x.square().sum(), (key, value)) for x in (shared, copied)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_one_tensor_as_query_key_and_value(engine):
    x = torch.from_numpy(normal(2, 3, 7, 5)).requires_grad_()
    output = atento.attention(x, x, x, mask=Causal(), engine=engine)
    wanted = atento.attention(
        *(x.detach().clone() for _ in range(3)), mask=Causal(), engine="dense"
    )
    torch.testing.assert_close(output, wanted, rtol=1e-12, atol=1e-12)
    assert torch.autograd.grad(output.sum(), x)[0].shape == x.shape


def test_several_python_threads_at_once(streaming):
    asked, _ = asked_for("combined", "everything, by distance")

    def run(_):
        inputs = tensors(requires_grad=True)
        output = atento.attention(*inputs, **asked, engine=streaming)
        output.square().sum().backward()
        return [output.detach(), *(array.grad for array in inputs)]

    wanted = run(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(run, range(24)):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_an_error_in_a_block_comes_out_and_leaves_all_as_it_was(streaming):
    from atento.masks import Rule

    calls = []

    def breaks(batch, head, query, key):
        calls.append(threading.get_ident())
        if len(calls) > 3:
            raise ZeroDivisionError
        return (query + key) % 2 == 0

    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        atento.attention(*tensors(), mask=Rule(breaks), softcap=1.0, engine=streaming)
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()
    asked, _ = asked_for("combined", "everything")
    assert atento.attention(*tensors(), **asked, engine=streaming).isfinite().all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_after_a_fork(streaming):
    """As in the workers of a DataLoader: the child has none of the parent's threads."""
    asked, _ = asked_for("combined", "everything")
    wanted = atento.attention(*tensors(), **asked, engine=streaming)  # the parent's are at work
    child = os.fork()
    if child == 0:  # no assertion may leave the child
        code = 1
        try:
            torch.set_num_threads(2)
            found = atento.attention(*tensors(), **asked, engine=streaming)
            code = 0 if torch.allclose(found, wanted, rtol=1e-12, atol=1e-12) else 2
        finally:
            os._exit(code)
    done = threading.Event()
    threading.Timer(60, lambda: done.is_set() or os.kill(child, 9)).start()
    _, status = os.waitpid(child, 0)
    done.set()
    assert os.waitstatus_to_exitcode(status) == 0
    torch.testing.assert_close(
        atento.attention(*tensors(), **asked, engine=streaming), wanted, rtol=1e-12, atol=1e-12
    )


def test_masks_of_torch_tensors_are_as_those_of_numpy(engine):
    keep = np.arange(TK) % 3 > 0
    for of_numpy, of_torch in (
        (KeyPadding(keep), KeyPadding(torch.from_numpy(keep))),
        (np.tri(7, TK, dtype=bool), torch.from_numpy(np.tri(7, TK, dtype=bool))),
    ):
        found = [
            atento.attention(*tensors(), mask=mask, engine=engine) for mask in (of_numpy, of_torch)
        ]
        assert torch.equal(*found)
    assert VALUE.shape[-2] == TK
    assert QUERY.shape[1] == H


def test_results_do_not_share_memory_with_inputs(engine):
    value = tensors()[2]
    one = atento.attention(
        torch.zeros(1, 1, 5, dtype=torch.float64),
        torch.zeros(1, 1, 5, dtype=torch.float64),
        value[:1, 0, :1],
        engine=engine,
    )
    one.fill_(7)
    assert not (value == 7).any()
