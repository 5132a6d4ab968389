"""The loop: the schedule, what decays, and the same weights from the same seed."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atento.lm.mini import recipe as recipe_module
from atento.lm.mini.objective import language_loss, meaning_vectors, repeated_rows, tokenize
from atento.lm.mini.recipe import Recipe, make, prepare, train_mini
from atento.lm.mini.training import TrainingSettings, adamw, learning_rate
from atento.lm.mini.transformer import Transformer, TransformerConfig, from_gpt2, to_gpt2

pytestmark = pytest.mark.slow

SHORT = Recipe(steps=4, sentences=300, text_rows=2, repeated_rows=1, words=8, other_words=100)


def test_the_rate_climbs_straight_and_falls_by_half_a_cosine() -> None:
    settings = TrainingSettings(steps=110, learning_rate=1.0, final_learning_rate=0.2, warm_up=10)
    assert learning_rate(0, settings) == pytest.approx(0.1)
    assert learning_rate(9, settings) == pytest.approx(1.0)
    assert learning_rate(60, settings) == pytest.approx(0.6)
    assert learning_rate(110, settings) == pytest.approx(0.2)


def test_only_matrices_decay() -> None:
    model = Transformer(TransformerConfig(11, 7, 6, 1, 2))
    decayed, kept = adamw(model, TrainingSettings(1, weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3
    assert kept["weight_decay"] == 0.0
    assert all(p.dim() == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_the_same_recipe_gives_the_same_weights_bit_for_bit() -> None:
    def weights(recipe: Recipe) -> list[torch.Tensor]:
        return list(train_mini(recipe, *prepare(recipe))[0].parameters())

    first, second, other = weights(SHORT), weights(SHORT), weights(replace(SHORT, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[1], other[1])
    assert all(torch.equal(p, p.half().float()) for p in first)


def test_an_interrupted_run_leaves_the_shipped_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mini"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"shipped")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe_module, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(SHORT, out)
    assert (out / "model.safetensors").read_bytes() == b"shipped"
    assert list(tmp_path.iterdir()) == [out]


def test_repeated_rows_repeat_with_a_period() -> None:
    ids, repeats = repeated_rows(20, 64, 500, np.random.default_rng(3))
    assert ids.min() >= 3
    assert ids.max() < 500
    for row, mask in zip(ids, repeats, strict=True):
        period = int(np.argmax(mask))
        assert 4 <= period <= 32
        assert mask[period:].all()
        np.testing.assert_array_equal(row[period:], row[:-period])


def test_the_sampled_loss_over_all_tokens_is_the_whole_loss() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(97, 13, 12, 1, 3))
    ids = np.random.default_rng(0).integers(0, 97, (5, 14))
    counted = np.ones(ids.shape, np.bool_)
    whole, everyone = (language_loss(model, ids, counted, n) for n in (None, 97))
    assert everyone.item() == pytest.approx(whole.item(), abs=1e-5)
    sampled = np.mean([language_loss(model, ids, counted, 20).item() for _ in range(200)])
    assert sampled == pytest.approx(whole.item(), abs=0.02)


def test_targets_that_do_not_count_change_nothing() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(31, 9, 8, 1, 2))
    ids = np.arange(10)[None] % 31
    counted = np.zeros(ids.shape, np.bool_)
    counted[0, 4] = True
    logits = model(torch.from_numpy(ids[:, :-1]))[0, 3]
    expected = torch.logsumexp(logits, 0) - logits[4]
    assert language_loss(model, ids, counted).item() == pytest.approx(expected.item(), abs=1e-5)


def test_meaning_moves_no_token_vector_but_its_own() -> None:
    model = Transformer(TransformerConfig(17, 5, 8, 1, 2))
    ids = torch.tensor([[2, 4, 2], [2, 5, 6]])
    meaning_vectors(model, ids, ids != 2, 2, 0.0).sum().backward()
    gradient = model.token_embedding.weight.grad
    assert gradient is not None
    moved = gradient.abs().sum(dim=1).nonzero().flatten().tolist()
    assert moved == [2]


def test_a_new_model_is_as_unsure_as_its_vocabulary_is_large() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(211))
    ids = np.random.default_rng(1).integers(0, 211, (3, 40))
    loss = language_loss(model, ids, np.ones(ids.shape, np.bool_))
    assert loss.item() == pytest.approx(math.log(211), abs=0.4)


def test_weights_survive_the_journey_to_gpt2_names() -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(23, 7, 12, 2, 3))
    again = from_gpt2(model.config, to_gpt2(model))
    ids = torch.arange(7)[None]
    assert torch.equal(model(ids), again(ids))


def test_a_word_split_at_random_is_spelled_the_same() -> None:
    tokenizer, _ = prepare(SHORT)
    spelled = {number: piece for piece, number in tokenizer.vocabulary.items()}
    for word in ("casa", "journey", "niño", "a"):
        for seed in range(5):
            pieces = [spelled[i] for i in tokenize([word], tokenizer, 1.0, seed)[0]]
            assert "".join(piece.removeprefix("##") for piece in pieces) == word
            assert len(pieces) > 1 or len(word) < 3
