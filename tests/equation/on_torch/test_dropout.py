"""Dropout on torch: which weights it drops is decided by the seed, and by nothing else."""

import numpy as np
import pytest
import torch

import atento
from atento import InputError
from atento.masks import Causal
from torch_cases import DV, KEY, QUERY, VALUE, asked_for, tensors

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def dropped(engine, seed, rate=0.4, **rest):
    return atento.attention(*tensors(), dropout=rate, seed=seed, engine=engine, **rest)


@pytest.mark.parametrize("seed", [0, 99, 2**32 + 1, 2**63 - 1])
def test_numpy_and_torch_drop_the_same(engine, seed):
    for rate in (0.1, 0.5, 0.9):
        wanted = atento.attention(
            QUERY, KEY, VALUE, dropout=rate, seed=seed, mask=Causal("end"), engine="dense"
        )
        found = dropped(engine, seed, rate, mask=Causal("end"))
        torch.testing.assert_close(found, torch.from_numpy(wanted), **CLOSE)


def test_seeds_differ_in_every_part(engine):
    made = [dropped(engine, seed) for seed in (5, 6, 5 + 2**32, 5 + 2**40)]
    for index, one in enumerate(made):
        for other in made[index + 1 :]:
            assert not torch.equal(one, other)


def test_a_tensor_and_a_whole_number_of_numpy_are_seeds_too(engine):
    wanted = dropped(engine, 77)
    for seed in (torch.tensor(77), torch.tensor(77, dtype=torch.int32), np.int64(77)):
        torch.testing.assert_close(dropped(engine, seed), wanted, rtol=0, atol=1e-14)


def test_generators_make_it_repeatable(engine):
    def twice(make):
        return [dropped(engine, make()) for _ in range(2)]

    for make in (lambda: torch.Generator().manual_seed(3), lambda: np.random.default_rng(3)):
        first, second = twice(make)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-14)
    generator = torch.Generator().manual_seed(3)
    first, second = twice(lambda: generator)  # which has moved on
    assert not torch.allclose(first, second)


def test_without_a_seed_manual_seed_decides(engine):
    def draw():
        return dropped(engine, None)

    torch.manual_seed(11)
    first, second = draw(), draw()
    assert not torch.allclose(first, second)
    torch.manual_seed(11)
    torch.testing.assert_close(draw(), first, rtol=0, atol=1e-14)


def test_a_seed_leaves_torch_s_own_random_state_alone(engine):
    state = torch.get_rng_state()
    dropped(engine, 4)
    atento.attention(*tensors(), engine=engine)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_kept_grows_and_the_share_is_right():
    query, key = (torch.zeros(2, 3, 101, 5, dtype=torch.float64) for _ in range(2))
    identity = torch.eye(101, dtype=torch.float64).expand(2, 3, 101, 101)  # output = weights
    for engine in ("dense", "streaming"):
        weights = atento.attention(query, key, identity, dropout=0.3, seed=8, engine=engine)
        kept = weights > 0
        torch.testing.assert_close(weights[kept] * 101 * 0.7, torch.ones(int(kept.sum())).double())
        assert abs(kept.double().mean() - 0.7) < 0.01
        per_head = kept.double().mean((2, 3))
        assert ((per_head - 0.7).abs() < 0.03).all()
        flat = kept.view(6, -1)
        for other in range(1, 6):  # heads and batch items drop weights of their own
            assert abs((flat[0] == flat[other]).double().mean() - 0.58) < 0.03


def test_rate_zero_is_no_dropout_and_reads_no_seed(engine):
    plain = atento.attention(*tensors(), engine=engine)
    assert torch.equal(atento.attention(*tensors(), dropout=0.0, engine=engine), plain)
    state = torch.get_rng_state()
    atento.attention(*tensors(), dropout=0.0, seed=None, engine=engine)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_with_dropout_drop_the_same_weights(streaming):
    found = []
    for engine in ("dense", streaming):
        inputs = tensors(requires_grad=True)
        asked, _ = asked_for("combined", "everything")
        output = atento.attention(*inputs, **asked, engine=engine)
        weighing = torch.arange(DV, dtype=torch.float64).cos()
        found.append(torch.autograd.grad((output * weighing).sum(), inputs))
    for own, wanted in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(own, wanted, **CLOSE)


def test_weights_come_before_dropout():
    plain = atento.attention(*tensors(), return_weights=True)[1]
    output, weights = atento.attention(*tensors(), dropout=0.4, seed=1, return_weights=True)
    torch.testing.assert_close(weights, plain, **CLOSE)
    assert not torch.allclose(output, atento.attention(*tensors()))


REFUSED = {
    "a float tensor": (torch.tensor(1.5), "of an integer dtype); got shape () and torch.float32"),
    "several numbers": (torch.tensor([1, 2]), "got shape (2,) and torch.int64"),
    "a bool tensor": (torch.tensor(True), "torch.bool"),
    "text": ("seven", "generator of torch or NumPy, or None; got str"),
    "a float": (1.5, "got float"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_seeds_that_are_none(name):
    seed, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        dropped("auto", seed)
    assert words in str(caught.value)
