"""The page of models that are read: it says what the script measures, and the script can fail."""

import re

import numpy as np
import pytest
import torch
from experiments.coverage import own
from experiments.coverage.__main__ import FAMILIES, PAGE, measured
from experiments.coverage.families import Family
from experiments.coverage.measure import Weights, readings
from experiments.coverage.page import COLUMNS, as_json, as_markdown, row, table

import atento
from atento.reading.layer import LayerRecord

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # those of tiny models, of transformers
    pytest.mark.slow,
]

BY_NAME = {(family.name, family.kind): family for family in FAMILIES}

FAST = [
    ("gpt2", "decoder"),
    ("llama", "decoder"),
    ("gemma2", "decoder"),
    ("gpt_oss", "decoder"),
    ("bloom", "decoder"),
    ("falcon", "decoder"),
    ("mamba", "decoder"),
    ("jamba", "decoder"),
    ("bert", "encoder"),
    ("t5", "encoder and decoder"),
    ("vit", "vision"),
    ("whisper", "audio"),
    *((family.name, family.kind) for family in own.FAMILIES),
]
"""Every way in, and every kind of result."""

COMPARED = [COLUMNS.index(name) for name in ("way", "layers × heads", "kinds", "result")]


def rows_of(markdown):
    """{(kind, family, implementation): the cells that have no figures in them}."""
    found, kind = {}, None
    for line in markdown.splitlines():
        if line.startswith("## "):
            kind = line[3:].lower()
        if not line.startswith("| ") or line.startswith(("| family", "| ---")):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for implementation in cells[1].split(", "):
            found[kind, cells[0], implementation] = [cells[i] for i in COMPARED]
    return found


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text("utf-8")


@pytest.mark.parametrize(("name", "kind"), FAST)
def test_the_page_says_what_is_measured(name, kind, page):
    results = measured([BY_NAME[name, kind]])
    found = rows_of(as_markdown(results))
    assert found
    written = rows_of(page)
    again = "run `python -m experiments.coverage` again and look at what has changed"
    assert {key: written.get(key) for key in found} == found, again


def test_every_family_is_on_the_page_and_no_other(page):
    on_page = {(kind, name) for kind, name, _ in rows_of(page)}
    assert on_page == {(family.kind, family.name) for family in FAMILIES}
    assert len(on_page) >= 60
    assert f": {len(FAMILIES)} families" in page


def test_the_page_has_nothing_of_the_machine_it_was_made_on(page):
    assert not re.search(r"/(home|root|work|tmp|usr)/|cpu|\+", page.lower())


def test_weights_that_are_wrong_are_seen(monkeypatch):
    right = LayerRecord.weights

    def wrong(self, head, *args, **kwargs):
        made = right(self, head, *args, **kwargs)
        return np.roll(made, 1, axis=-1) if head == self.heads - 1 else made

    monkeypatch.setattr(LayerRecord, "weights", wrong)
    for reading in readings(BY_NAME["gpt2", "decoder"]):
        assert reading.result.startswith("WRONG: weights differ by ")


def test_rows_that_are_said_to_see_nothing_are_looked_at(monkeypatch):
    right = LayerRecord.check

    def wrong(self):
        right(self)
        self.lse[1, :, 7] = -np.inf

    monkeypatch.setattr(LayerRecord, "check", wrong)
    for reading in readings(BY_NAME["llama", "decoder"]):
        assert reading.result.startswith("WRONG: weights differ by ")


def test_a_layer_that_is_not_read_is_seen(monkeypatch):
    whole = atento.capture
    monkeypatch.setattr(
        atento, "capture", lambda model, **more: whole(model, layers=[0], **more), raising=False
    )
    for reading in readings(BY_NAME["llama", "decoder"]):
        assert reading.result == "PARTLY: 1 layers read, 1 not"


def test_outputs_that_change_are_seen():
    class Changing(own.Heads):
        def attend(self, query, key, value):
            made = super().attend(query, key, value)
            self.calls = getattr(self, "calls", 0) + 1
            return made * (1 + 1e-3 * self.calls)

    changing = Family("changing", "other", build=lambda: (Changing(), own._tokens()))
    (reading,) = readings(changing)
    assert reading.result == "WRONG: outputs differ"
    assert reading.outputs > 0


def test_a_capture_that_breaks_is_shown_as_that(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("by | zero")

    monkeypatch.setattr(atento, "capture", broken, raising=False)
    family = BY_NAME["written by hand, kernel", "other"]
    (reading,) = readings(family)
    assert reading.result == "FAILS: ZeroDivisionError: by | zero"
    assert row(family, reading)[-1] == r"FAILS: ZeroDivisionError: by \| zero"
    assert "FAILS: 1" in as_markdown([(family, [reading])])


def test_a_model_that_does_not_run_is_shown_as_that():
    def broken():
        raise RuntimeError("no such layer")

    (reading,) = readings(Family("broken", "other", build=broken))
    assert reading.result == "does not run: RuntimeError: no such layer"


def test_even_weights_compare_nothing():
    class Even(own.Heads):
        def attend(self, query, key, value):
            return super().attend(torch.zeros_like(query), key, value)

    (reading,) = readings(Family("even", "other", build=lambda: (Even(), own._tokens())))
    assert reading.result == "UNTOLD: a layer has even weights"


def test_the_weights_seen_at_the_kernel_are_those_of_the_formula():
    torch.manual_seed(7)
    kernel = own.Heads()
    formula = own.Formula()
    formula.load_state_dict(kernel.state_dict())
    x = own._tokens()["args"][0]
    found = []
    for model in (kernel, formula):
        with Weights() as seen, torch.no_grad():
            model(x)
        assert len(seen.found) == 1
        found.append(seen.found[0])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)


def test_rows_that_are_alike_are_one_and_json_has_all():
    results = measured([BY_NAME["llama", "decoder"]])
    lines = table(results).splitlines()
    assert len(lines) == 3
    assert "sdpa, eager" in lines[2]
    (family,) = as_json(results)["families"]
    assert [reading["implementation"] for reading in family["readings"]] == ["sdpa", "eager"]
