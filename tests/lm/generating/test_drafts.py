"""Drafts make a text come sooner, and never another one."""

import pytest
import torch

from atento.lm import Transformer, TransformerConfig
from atento.lm.generating.decoding import decoded
from atento.lm.generating.drafts import AGAIN, LONGEST, WORTH, Drafts
from atento.lm.generating.sampling import Sampling
from atento.lm.generating.stepping import Stepper

SHAPES = {
    "gpt2": {},
    "window": {
        "position": "rotary",
        "norm": "rms",
        "feed_forward": "swiglu",
        "bias": False,
        "num_kv_heads": 2,
        "window": 6,
    },
}


def made(**changes):
    torch.manual_seed(3)
    sizes = {"context": 90, "d_model": 24, "num_layers": 2, "num_heads": 4}
    model = Transformer(TransformerConfig(9, **(sizes | changes))).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def written(model, sampling, tokens, prompt=(1, 2, 3, 4, 1, 2)):
    steps = decoded(model, [list(prompt)], sampling, torch.Generator().manual_seed(5))
    return [next(steps)[0] for _ in range(tokens)]


@pytest.fixture
def passes(monkeypatch):
    """How many tokens each pass has read."""
    made, read = [], Stepper.read
    monkeypatch.setattr(Stepper, "read", lambda self, t: made.append(len(t)) or read(self, t))
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sampling", [Sampling(0), Sampling(0.6), Sampling(1.0, 3, 0.9, 0.01, 1.3)])
def test_the_text_is_that_of_one_token_at_a_time(shape, sampling, passes, monkeypatch):
    model = made(**SHAPES[shape])
    text = written(model, sampling, 200)  # the context of 90 fills up on the way
    drafted, passes[:] = list(passes), []
    monkeypatch.setattr(Drafts, "make", lambda self, text, room: [])
    assert written(model, sampling, 200) == text
    assert len(set(text)) > 1
    assert len(drafted) < len(passes)
    assert max(drafted) > 1 == max(passes)


def test_a_context_of_one_token_goes_on():
    model = made(context=1)
    text = written(model, Sampling(0), 5, prompt=[3])
    assert text[1:] == [written(model, Sampling(0), 1, prompt=[token])[0] for token in text[:4]]


@pytest.mark.parametrize("shape", SHAPES)
def test_wrong_drafts_change_nothing(shape, passes, monkeypatch):
    model = made(**SHAPES[shape])
    text = written(model, Sampling(0.8), 100)
    chance = torch.Generator().manual_seed(1)

    def draft(self, text, room):
        return torch.randint(9, (min(room, 7),), generator=chance).tolist()

    monkeypatch.setattr(Drafts, "make", draft)
    passes.clear()
    assert written(model, Sampling(0.8), 100) == text
    assert max(passes) == 8
    assert 50 < len(passes) < 100  # one guess of nine is right


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_read_together_have_the_logits_of_the_whole_text(shape):
    model = made(**SHAPES[shape])
    ids = torch.randint(9, (1, 40), generator=torch.Generator().manual_seed(2))
    caches = model.new_caches()
    with torch.no_grad():
        expected = model(ids)[0]
        model(ids[:, :10], caches)
        stepper = Stepper(model, caches)
        stepper.read([8, 8, 8, 8, 8])  # and what was read in vain leaves nothing behind
        stepper.forget(5)
        for begin, end in ((10, 11), (11, 19), (19, 22), (22, 40)):
            found = stepper.read(ids[0, begin:end].tolist())
            torch.testing.assert_close(found, expected[begin:end], rtol=1e-9, atol=1e-12)
    assert stepper.room == 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ([1, 2, 3, 4, 5, 9, 1, 2, 3], [4, 5, 9]),
        ([1, 2, 3, 4, 5, 1, 2, 3, 7, 8, 1, 2, 3], [7, 8, 1]),  # the last time counts
        ([5, 5, 5, 5], [5, 5, 5]),
        ([1, 2, 1, 2, 1], [2, 1, 2]),
        ([1, 2, 3, 4], []),
        ([1, 2], []),
        ([1], []),
    ],
)
def test_what_followed_before_is_drafted(text, expected):
    assert Drafts().make(text, 50) == expected
    assert Drafts().make(text, 1) == expected[:1]
    assert Drafts().make(text, 0) == []


def test_a_text_that_runs_in_circles_is_drafted_around():
    assert Drafts().make([1, 2, 3] * 6, 50) == ([1, 2, 3] * 4)[: min(10, LONGEST)]


def test_drafts_grow_where_they_are_taken_and_cease_where_not():
    drafts, text = Drafts(), [1, 2, 3, 4, 1, 2, 3]
    for _ in range(30):
        drafts.learn(len(drafts.make(text, 50))) if drafts.make(text, 50) else None
    assert len(drafts.make(text, 50)) == LONGEST
    while drafts.make(text, 50):
        drafts.learn(0)
    waited = 1
    while not drafts.make(text, 50):
        waited += 1
    assert 1 < waited <= 2 + WORTH / AGAIN
    assert len(drafts.make(text, 50)) == 1
