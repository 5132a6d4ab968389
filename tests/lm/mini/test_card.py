"""The card's figures: measured again on the shipped weights, and good enough."""

import json
from typing import Any

import numpy as np
import pytest

from atento.embedded.load import MINI
from atento.lm.mini.card import best_head, card
from atento.lm.mini.evaluate import evaluate

pytestmark = pytest.mark.slow

FIGURES: dict[str, Any] = json.loads((MINI / "figures.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return evaluate(MINI, FIGURES["recipe"]["seed"])


def test_the_figures_are_those_of_the_shipped_weights(measured: dict[str, Any]) -> None:
    assert measured["held_out_loss"] == pytest.approx(FIGURES["held_out_loss"], abs=2e-3)
    assert measured["unigram_loss"] == pytest.approx(FIGURES["unigram_loss"], abs=2e-3)
    for scores in ("previous_token", "induction"):
        np.testing.assert_allclose(measured[scores], FIGURES[scores], atol=2e-3)
    assert measured["probes"] == FIGURES["probes"]
    assert measured["probes_failed"] == FIGURES["probes_failed"]


def test_the_model_reaches_every_figure_asked_for(measured: dict[str, Any]) -> None:
    assert measured["held_out_loss"] < 0.5 * measured["unigram_loss"]
    assert sum(measured["probes"].values()) >= 90
    assert best_head(measured["previous_token"])[1] >= 0.6
    assert best_head(measured["induction"])[1] >= 0.6


def test_the_card_is_the_one_that_the_figures_write() -> None:
    assert (MINI / "README.md").read_text("utf-8") == card(FIGURES)


def test_the_best_head_is_named_by_layer_and_head() -> None:
    assert best_head([[0.1, 0.7], [0.9, 0.2], [0.3, 0.4]]) == ((1, 0), 0.9)
