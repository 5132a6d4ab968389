"""What render_page writes, without a browser."""

import base64
import dataclasses
import hashlib
import json
import re
import zlib

import numpy as np
import pytest

from atento._errors import InputError
from atento.records import AttentionLayer, Explanation, Projection
from atento.views.page import render_page
from atento.views.page_arrays import ArrayPool, smallest_exact
from atento.views.page_data import page_data, script_safe_json

SENTENCE = [f"word{i}" for i in range(48)]


def part(html: str, pattern: str) -> str:
    found = re.search(pattern, html, re.DOTALL)
    assert found is not None
    return found.group(1)


def data_of(html: str) -> dict:
    return json.loads(part(html, r'<script id="data" type="application/json">(.*?)</script>'))


def test_a_sentence_with_all_learned_maps_stays_within_600_kb(samples):
    html = render_page(samples.model_like(SENTENCE))
    assert len(html.encode()) <= 600_000
    record = data_of(html)["record"]
    assert {entry["dtype"] for entry in record["arrays"]} == {"f2", "f4", "bits"}
    assert not any("query" in layer for layer in record["layers"])  # made from input and maps


def test_the_policy_names_exactly_this_style_and_script(samples):
    html = render_page(samples.journey())
    policy = part(html, r'Content-Security-Policy" content="([^"]*)"')
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for directive, text in {
        "style-src": part(html, r"<style>(.*?)</style>"),
        "script-src": part(html, r'<script type="module">(.*?)</script>'),
    }.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[directive] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "connect-src" not in rules


def test_no_token_reaches_the_markup(samples):
    hostile = [
        "</script><img src=x onerror=alert(1)>",
        "<!--<script>",
        "%%script%%",
        "\ud800",
        "é&\u2028",
    ]
    x = np.eye(5)[None]
    html = render_page(samples.given(x, x, x, tokens=hostile))
    data = part(html, r'<script id="data" type="application/json">(.*?)</script>')
    assert not set(data) & set("<>&\u2028")
    assert data.isascii()
    assert data_of(html)["record"]["tokens"] == hostile
    html.encode("utf-8")
    assert html.count("<script") == 2
    assert "onerror=alert(1)>" not in html


def test_a_language_that_the_page_does_not_speak(samples):
    with pytest.raises(InputError, match=r"lang must be one of en, es\. Got 'fr' instead\."):
        render_page(samples.journey(), lang="fr")


def test_arrays_take_the_smallest_type_that_loses_nothing():
    assert smallest_exact(np.array([1.5, np.nan, -np.inf])).dtype == np.float16
    assert smallest_exact(np.array([70_000.0])).dtype == np.float32
    assert smallest_exact(np.array([np.float32(0.1)])).dtype == np.float32
    assert smallest_exact(np.array([0.1])).dtype == np.float64


def test_an_array_is_written_once_and_masks_as_bits():
    pool = ArrayPool()
    causal = np.tril(np.ones((37, 37), bool))
    assert pool.bits(causal) == pool.bits(causal.copy()) == 0
    every_head = np.broadcast_to(causal, (4, 37, 37))
    assert pool.bits(every_head) == pool.bits(every_head) == 1  # shape (1, 37, 37)
    assert pool.entries[1]["shape"] == [1, 37, 37]
    assert len(zlib.decompress(base64.b64decode(pool.entries[1]["data"]))) == 172
    assert pool.floats(np.ones(3)) == pool.floats(np.ones(3, np.float32)) == 2


def test_maps_that_do_not_make_the_queries_are_not_claimed_to(samples):
    """A rotation between projection and scores, say: then queries are shown as given."""
    made = samples.model_like(["a", "b", "c"], layers=1, d_model=8, heads=2)
    layer = made.layers[0]
    turned = {**layer.projections}
    turned["query"] = Projection(turned["query"].weight * 1.01, turned["query"].bias)
    other = AttentionLayer(layer.trace, layer.input, turned)
    record = page_data(Explanation(made.tokens, made.tokens, (other,), 0, 0, made.reason))
    assert "projections" not in record["layers"][0]
    assert "projections" in page_data(made)["layers"][0]


def test_json_for_scripts_keeps_every_text():
    data = {"</script>": ["<!--", "&amp;", "\u2028", "\udfff", "é"]}
    text = script_safe_json(data)
    assert json.loads(text) == data
    assert text.isascii()
    assert not set(text) & set("<>&")


def test_torch_arrays_are_taken_without_importing_torch(samples):
    torch = pytest.importorskip("torch")
    x = torch.tensor(samples.INPUT[None], requires_grad=True)
    explanation = samples.journey()
    trace = explanation.layers[0].trace
    steps = tuple(
        dataclasses.replace(step, value=x) if step.name in ("queries", "keys", "values") else step
        for step in trace
    )
    layer = AttentionLayer(dataclasses.replace(trace, steps=steps), None, {})
    same = dataclasses.replace(explanation, layers=(layer,))
    assert page_data(same) == page_data(explanation)


@pytest.mark.parametrize("link", [(2, 0), (None, None)])
def test_the_page_opens_with_the_reasons_link_or_else_with_the_largest_weight(samples, link):
    made = samples.everything()
    query, key = link
    reason = dataclasses.replace(made.reason, query=query, key=key, weight=np.nan)
    record = page_data(dataclasses.replace(made, reason=reason))
    weights = made.layers[made.layer].trace["weights"].value[made.head]
    largest = np.unravel_index(np.nanargmax(weights), weights.shape)
    assert record["first"] == list(largest if query is None else link)
    assert record["reason"]["weight"] is None, "JSON has no NaN"
    assert (record["reason"]["link"] is None) == (query is None)
