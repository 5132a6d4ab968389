"""A survey in the terminal, and as JSON."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

import atento
from atento.masks import Causal, Prefix
from atento.statistics import WeightOn
from atento.views.survey_doors import is_survey, save_survey, show_survey, survey_json
from atento.views.terminal_survey import survey_rows
from oracle import attention_oracle


@pytest.fixture
def qkv():
    return np.random.default_rng(3).standard_normal((3, 2, 3, 5, 7))


def shown(survey, width=80, lang="en"):
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    show_survey(survey, lang, console)
    return console.file.getvalue()


def strict(text):
    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
def test_a_head_has_the_means_over_batch_and_queries_that_see_a_key(qkv, library):
    visible = np.tri(5, dtype=bool) & (np.arange(5) >= 2)
    survey = atento.survey(*map(library, qkv), mask=Causal() & ~Prefix(2))
    weights = attention_oracle(*qkv, visible=visible)[1][:, :, 2:]  # the first two see no key
    for head, row in enumerate(survey_rows(survey)):
        assert row["head"] == head
        own = weights[:, head]
        assert row["max"] == pytest.approx(own.max(-1).mean(), rel=1e-12)
        entropy = -np.where(own > 0, own * np.log(np.where(own > 0, own, 1)), 0).sum(-1)
        assert row["entropy"] == pytest.approx(entropy.mean(), rel=1e-12)
        assert "max_key" not in row
        assert "received" not in row


def test_the_table():
    x = np.zeros((1, 2, 3, 5))
    text = shown(atento.survey(x, x, x, statistics=["entropy", WeightOn([0], name="commas")]))
    assert " ".join(text.split()) == (
        "2 heads, 3 queries Means over the queries that see a key. "
        "head entropy commas 0 1.10 0.33 1 1.10 0.33"
    )
    assert "consultas" in shown(atento.survey(x, x, x), lang="es")
    assert "1,10" in shown(atento.survey(x, x, x), lang="es")


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (1, 2, 3, 5), (2, 1, 2, 3, 5)])
@pytest.mark.parametrize("width", [40, 60, 170])
def test_any_axes_and_widths(shape, width):
    x = np.ones(shape)
    text = shown(atento.survey(x, x, x, mask=Causal(), top_k=1), width=width)
    heads = shape[-3] if len(shape) > 2 else 1
    assert max(map(len, text.splitlines())) <= width
    assert [line.split()[0] for line in text.splitlines()[-heads:]] == [
        str(head) for head in range(heads)
    ]


def test_where_no_query_sees_a_key():
    x = np.ones((2, 3, 5))
    assert shown(atento.survey(x, x, x, mask=Prefix(0))).count("–") >= 2
    assert shown(atento.survey(x, x, x, statistics=[])).split()[-3:] == ["head", "0", "1"]


def test_a_name_that_would_act_on_the_terminal():
    x = np.ones((3, 5))
    named = WeightOn([0], name="\x1b[31mred")
    assert "␛[31mred" in shown(atento.survey(x, x, x, statistics=[named]))


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (1, 2, 3)])
def test_json_has_every_number_with_its_axes(qkv, leading, tmp_path):
    query, key, value = (x.reshape(-1, 5, 7)[: int(np.prod(leading))] for x in qkv)
    query, key, value = (x.reshape(*leading, 5, 7) for x in (query, key, value))
    survey = atento.survey(query, key, value, mask=Causal() & ~Prefix(1), top_k=2)
    save_survey(survey, tmp_path / "numbers.json", "en", {})
    found = strict((tmp_path / "numbers.json").read_text("utf-8"))
    assert found["format"] == "atento.survey/1"
    assert set(found["statistics"]) == {"lse", *survey}
    for name, told in found["statistics"].items():
        wanted = survey.lse if name == "lse" else survey[name]
        numbers = np.array(told["value"], dtype=float)
        if name == "lse":
            numbers = np.where(np.isnan(numbers), -np.inf, numbers)
            assert np.isneginf(numbers[..., 0]).all()
        np.testing.assert_array_equal(numbers, wanted)
        assert len(told["axes"]) == wanted.ndim
    assert found["statistics"]["lse"]["axes"] == found["statistics"]["entropy"]["axes"]


def test_json_of_nan_and_of_halves():
    x = np.full((3, 5), np.nan)
    assert strict(survey_json(atento.survey(x, x, x)))["statistics"]["entropy"]["value"][0] == "NaN"
    half = torch.ones(3, 5, dtype=torch.bfloat16, requires_grad=True)
    assert strict(survey_json(atento.survey(half, half, half)))["statistics"]["lse"]["value"]


def test_what_a_survey_has_not_is_refused_in_words(qkv, tmp_path):
    survey = atento.survey(*qkv)
    with pytest.raises(atento.InputError, match=r"\(.html\) needs queries and keys"):
        save_survey(survey, tmp_path / "page.html", "en", {})
    with pytest.raises(atento.InputError, match="layers: is for other records"):
        save_survey(survey, tmp_path / "numbers.json", "en", {"layers": [0]})
    assert not list(tmp_path.iterdir())


def test_what_a_survey_is(qkv):
    assert is_survey(atento.survey(*qkv))
    assert not is_survey(atento.trace(*qkv))
