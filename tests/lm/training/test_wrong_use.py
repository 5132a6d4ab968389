"""Trainings that are asked for wrongly: told before any work, and nothing is overwritten."""

import pytest

from atento import InputError
from atento.lm import CharTokenizer, Transformer, TransformerConfig, train

pytestmark = pytest.mark.slow

TEXT = "to be or not to be, that is the question. " * 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corpus": []}, "holds nothing"),
        ({"corpus": [""]}, "holds nothing"),
        ({"corpus": ["aaaa" * 99]}, "one character 'a' again and again"),
        ({"corpus": ["ab"]}, "has 2 tokens, and one row takes 17"),
        ({"corpus": [5]}, "is of texts; got int"),
        ({"corpus": None}, "corpus is missing"),
        ({"corpus": "nowhere.txt"}, "no corpus at nowhere.txt"),
        ({"steps": 0}, "steps must be a whole number ≥ 1; got 0"),
        ({"batch": 5, "accumulate": 2}, "batch must be a multiple of accumulate; got 5"),
        ({"learning_rate": -1}, "learning_rate must be above 0 and below 10"),
        ({"betas": (0.9, 1.0)}, "betas must be two below 1"),
        ({"betas": (0.9,)}, "betas must be two below 1"),
        ({"learning_rate": "0.1"}, "learning_rate must be above 0 and below 10; got '0.1'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and below 10; got 0.0"),
        ({"clip": None}, "clip must be ≥ 0; got None"),
        ({"seed": 2**64}, "seed must be a whole number of at most 64 bits"),
        ({"device": "meta"}, "device 'meta' is not there"),
        ({"final_learning_rate": 1.0}, "final_learning_rate must be from 0 to learning_rate"),
        ({"colour": 1}, "no setting colour; there are steps, batch"),
        ({"tokenizer": 5}, 'must be "char", "bpe"'),
        ({"tokenizer": CharTokenizer("ab")}, "is not among the 2 known"),
        ({"config": None, "preset": "huge"}, "no preset 'huge'"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not there"),
        ({"device": "warp"}, "device 'warp' is not there"),
        ({"model": Transformer(TransformerConfig(5))}, "leave out model="),
        ({"model": Transformer(TransformerConfig(5)), "config": None}, "do not belong together"),
    ],
)
def test_wrong_use_is_told_before_any_work(small, options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        small(**options)
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_run_is_not_overwritten_and_is_resumed_as_it_was(small, tmp_path):
    small(steps=4)
    with pytest.raises(InputError, match="holds a run already: say resume=True"):
        small(steps=4)
    with pytest.raises(InputError, match="started with batch = 4, and this asks for 8"):
        train(out=tmp_path / "run", resume=True, batch=8)
    with pytest.raises(InputError, match="there is no run in"):
        train(out=tmp_path / "other", resume=True)
    assert train(out=tmp_path / "run", resume=True, progress=False, batch=4).ended == "steps"


@pytest.mark.parametrize("given", ["corpus", "config", "model"])
def test_a_run_goes_on_with_what_it_had(small, tmp_path, given):
    small(steps=4)
    values = {
        "corpus": [TEXT],
        "config": TransformerConfig(5),
        "model": Transformer(TransformerConfig(5)),
    }
    with pytest.raises(InputError, match=f"with the {given} that the run was started with"):
        train(out=tmp_path / "run", resume=True, **{given: values[given]})
