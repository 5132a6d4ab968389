"""The live page: texts are read, heads switched off, tokens come one by one, addresses restore."""

import json
import re

import numpy as np
import pytest

from atento.embedded import load_mini
from atento.embedded.recording import record_mini

pytestmark = pytest.mark.browser

SENTENCE = "Your journey starts with one step"


def chances(logits):
    weights = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return weights / weights.sum()


def number(text):
    mantissa, _, power = text.replace("−", "-").replace(",", ".").partition("×10")
    raised = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return float(mantissa) * 10.0 ** int(raised or 0)


def test_a_text_is_read_and_all_views_stand_over_it(open_live):
    live = open_live()
    assert live.page.locator("#view").count() == 0
    live.read(SENTENCE)
    assert live.status() == "mini has read 6 tokens."
    assert live.page.locator(".head-card").count() == 12
    recording = record_mini(load_mini(), load_mini().encode(SENTENCE).ids)
    for view in ("map", "arcs", "pair"):
        live.page.locator(f"#tab-{view}").click()
        live.page.wait_for_selector(f"#tab-{view}[aria-selected=true]")
        assert live.page.locator("#view canvas").first.bounding_box()["height"] > 50
    live.look(view="map", layer=1, head=2, row=4, col=2)
    live.page.wait_for_selector(".readout b")
    shown = number(live.page.locator(".readout b").inner_text())
    assert shown == pytest.approx(float(recording[1].weights(2, 4, 2)[0, 0]), abs=6e-5)


def test_what_comes_next_is_what_the_model_says(open_live):
    live = open_live()
    live.read(SENTENCE)
    mini = load_mini()
    expected = chances(mini(mini.encode(SENTENCE).ids)[-1])
    rows = live.predictions()
    assert len(rows) == 10
    best = np.argsort(-expected)[:10]
    for row, token in zip(rows, best, strict=True):
        assert row[0].strip("␣") == mini.tokenizer.text_of(int(token)).strip()
        assert number(row[1]) == pytest.approx(expected[token], abs=6e-5)


def test_a_head_that_is_switched_off_changes_what_comes_next_as_it_does_in_python(open_live):
    live = open_live(f"#text={SENTENCE.replace(' ', '+')}&layer=1&head=2")
    toggle = live.page.locator("#live-off")
    assert toggle.inner_text() == "Switch off layer 1, head 2"
    toggle.click()
    live.settled()
    live.page.wait_for_selector("#live-off[aria-pressed=true]")
    mini = load_mini()
    ids = mini.encode(SENTENCE).ids
    before, after = (chances(mini.run(ids, off=off).logits[-1]) for off in ([], [(1, 2)]))
    by_text = {mini.tokenizer.text_of(t): t for t in range(len(before))}
    rows = live.predictions()
    assert len(rows) >= 10
    for token, was, now, change, _ in rows:
        at = by_text[token.replace("␣", " ")]
        assert number(was) == pytest.approx(before[at], abs=6e-5)
        assert number(now) == pytest.approx(after[at], abs=6e-5)
        assert number(change) == pytest.approx(after[at] - before[at], abs=6e-5)
    assert "off=1.2" in live.hash()
    live.page.locator("#live-on-1-2").click()
    live.settled()
    live.page.wait_for_selector("#live-off[aria-pressed=false]")
    assert len(live.predictions()[0]) == 3, "one number for each token again"
    assert "off=" not in live.hash()


def test_tokens_come_one_by_one_with_their_rows(open_live):
    live = open_live(f"#text={SENTENCE.replace(' ', '+')}&layer=0&head=1")
    live.page.fill("#live-tokens", "5")
    live.page.locator("#live-generate").click()
    live.page.wait_for_function(
        "() => document.getElementById('live-text').value !== 'Your journey starts with one step'"
    )
    live.settled()
    mini = load_mini()
    ids, text = list(mini.encode(SENTENCE).ids), SENTENCE
    for _ in range(5):
        token = int(mini(ids)[-1].argmax())
        ids.append(token)
        text += mini.tokenizer.text_of(token)
    assert live.page.input_value("#live-text") == text
    size = live.page.evaluate(
        "(({ width, height }) => [width, height])(document.querySelector('.generate canvas'))"
    )
    assert size == [10, 5]  # the last row looks at 6 + 4 tokens
    told = live.page.locator(".generate [role=status]").inner_text()
    assert told.startswith("5 new tokens. In layer 0, head 1,")
    weights = record_mini(mini, ids[:-1])[0].weights(1, -1)[0]
    assert number(told.rstrip(".").split()[-1]) == pytest.approx(float(weights.max()), abs=6e-5)


def test_generation_is_seen_as_it_goes_and_can_be_stopped(open_live, serving, mini_reader):
    class Slow:
        name, text_of, read = "slow", mini_reader.text_of, mini_reader.read

        def generate(self, text, off, options, stop):
            import time

            for event in mini_reader.generate(text, off, options, stop):
                time.sleep(0.15)
                stop.check()
                yield event

    served = serving(readers=[Slow()])
    live = open_live(f"#text={SENTENCE.replace(' ', '+')}", served=served)
    live.page.fill("#live-tokens", "100")
    live.page.locator("#live-generate").click()
    assert live.page.locator("#live-generate").inner_text() == "Stop"
    live.page.wait_for_function(
        "() => document.querySelector('.generate canvas').height >= 3"
        " && !document.querySelector('.generate canvas').hidden"
    )
    live.page.locator("#live-generate").click()
    live.page.wait_for_function(
        "() => document.getElementById('live-generate').textContent === 'Generate'"
    )
    live.settled()
    rows = live.page.evaluate("document.querySelector('.generate canvas').height")
    assert 3 <= rows < 60
    assert live.page.input_value("#live-text").startswith(SENTENCE + " ")


def test_an_address_restores_what_was_looked_at_and_holds_no_token(open_live):
    live = open_live()
    live.read(SENTENCE)
    live.page.locator("#tab-map").click()
    live.page.select_option("#layer", "2")
    live.page.select_option("#head", "3")
    live.page.locator("#live-off").click()
    live.settled()
    said = live.hash()
    assert "token" not in live.page.url
    assert live.page.url.startswith(live.address + "#")
    rows = live.predictions()
    live.page.reload()
    live.page.wait_for_selector("#tab-map[aria-selected=true]")
    live.settled()
    assert live.hash() == said
    assert live.page.input_value("#live-text") == SENTENCE
    assert live.page.input_value("#layer") == "2"
    assert live.page.input_value("#head") == "3"
    assert live.predictions() == rows
    assert live.page.locator("#live-off").get_attribute("aria-pressed") == "true"


def test_a_long_text_is_found_by_its_readings_name(open_live):
    live = open_live()
    text = " ".join(f"{word}" for word in ["one", "step", "and", "then"] * 20)
    assert len(text) > 300
    live.read(text)
    said = live.hash()
    assert re.fullmatch(r"#reading=[\w-]+", said)
    live.page.reload()
    live.page.wait_for_selector("#view")
    assert live.page.input_value("#live-text") == text


def test_a_mistake_is_told_and_the_page_goes_on(open_live):
    live = open_live()
    live.page.locator("#live-read").click()
    live.page.wait_for_selector("#live-status.wrong")
    assert live.status() == "text is missing: write a sentence."
    live.page.fill("#live-text", "one " * 200)
    live.page.locator("#lang-es").click()
    live.page.locator("#live-read").click()
    live.page.wait_for_function(
        "() => document.getElementById('live-status').textContent.includes('128')"
    )
    assert live.status() == "El modelo lee como mucho 128 tokens y el texto tiene 200. Acórtalo."
    live.complaints[:] = [one for one in live.complaints if "422" not in one]
    live.read(SENTENCE)
    assert live.status() == "mini ha leído 6 tokens."


def test_the_keyboard_alone_suffices(open_live):
    live = open_live()
    page = live.page
    page.keyboard.press("Tab")
    for _ in range(12):
        if page.evaluate("document.activeElement.id") == "live-text":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("one step")
    page.keyboard.press("Control+Enter")
    live.settled()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
        if page.evaluate("document.activeElement.id") == "live-off":
            page.keyboard.press("Enter")
            live.settled()
            assert page.evaluate("document.activeElement.id") == "live-off", "the focus stays"
        if page.evaluate("document.activeElement.id") == "tab-heads":
            break
    named = {"live-off", "live-on-0-0", "live-tokens", "live-temperature", "live-top_k"}
    assert named | {"live-seed", "live-generate", "layer", "head", "tab-heads"} <= reached
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#tab-map[aria-selected=true]")


def test_the_language_is_switched_everywhere(open_live, eventually):
    live = open_live(f"#text={SENTENCE.replace(' ', '+')}&off=0.1&lang=es")
    assert live.page.evaluate("document.documentElement.lang") == "es"
    text = live.page.locator("#app").inner_text()
    for word in ("Leer", "Qué viene después", "antes", "cambio", "Cabezas apagadas", "Generar"):
        assert word in text
    assert not re.search(r"live\.|recording\.", text)
    assert re.search(r"\d,\d{4}", text)
    assert "lang=es" in live.hash()
    live.page.locator("#lang-en").click()
    live.page.wait_for_selector("html[lang=en]")
    app = live.page.locator("#app")  # what hangs on the reading follows when it has been drawn
    eventually(live.page, lambda: "What comes next" in app.inner_text())
    assert "lang=" not in live.hash()


HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\u2028 line \u202e turned \x00 nothing",
    "half \ud800 a character",
]


@pytest.mark.parametrize("lang", ["en", "es"])
@pytest.mark.parametrize("text", HOSTILE, ids=["script", "comment", "controls", "surrogate"])
def test_hostile_texts_are_seen_and_do_nothing(open_live, lang, text):
    live = open_live(given={"lang": lang})
    live.page.evaluate("(text) => { document.getElementById('live-text').value = text; }", text)
    live.page.locator("#live-read").click()
    live.settled()
    assert not live.page.locator("#live-status.wrong").count()
    for view in ("arcs", "map", "pair", "heads"):
        live.page.locator(f"#tab-{view}").click()
    live.page.fill("#live-tokens", "2")
    live.page.locator("#live-generate").click()
    live.page.wait_for_function(
        "() => !document.querySelector('.generate canvas').hidden"
        " && document.getElementById('live-generate').className === 'start'"
    )
    assert live.page.locator("#app img, #app script, #app iframe").count() == 0
    live.page.reload()
    live.page.wait_for_selector("#view")


def test_a_hostile_name_of_a_recording_is_text(open_live, recording):
    live = open_live(
        given={"recordings": {"<img src=x onerror=alert(1)>.safetensors": recording()}}
    )
    live.page.wait_for_selector("#view")
    options = live.page.locator("#live-file option").all_inner_texts()
    assert options[1] == "<img src=x onerror=alert(1)>.safetensors"
    assert live.page.locator("#app img").count() == 0


def test_a_recording_that_was_opened_is_looked_at_and_not_asked(open_live, recording):
    live = open_live(given={"recordings": {"one.safetensors": recording(), "two": recording(9)}})
    live.page.wait_for_selector("#view")
    assert live.page.locator("#live-off, #live-generate").count() == 0
    assert "file=one.safetensors" in live.hash()
    live.page.select_option("#live-file", label="two")
    live.settled()
    assert "file=two" in live.hash()
    live.page.reload()
    live.page.wait_for_selector("#view")
    assert live.page.input_value("#live-file") != ""
    live.read(SENTENCE)
    assert live.page.locator("#live-off").count() == 1


def test_a_served_recording_of_20_000_tokens_pans(open_live, recording):
    long = recording(20_000, heads=2)
    live = open_live(given={"recordings": {"long": long}})
    page = live.page
    page.wait_for_selector("#view")
    live.look(view="map", head=1, zoom=2, x=4000, y=12000)
    live.quiet()
    tiles = [url for url in live.requests if "/tiles?" in url]
    assert tiles
    assert all("/heads/1/" in url for url in tiles)
    live.look(x=9000, y=15000)
    live.quiet()
    assert len([url for url in live.requests if "/tiles?" in url]) > len(tiles)
    live.look(row=15000, col=4)
    page.wait_for_selector(".readout b")
    shown = number(page.locator(".readout b").inner_text())
    assert shown == pytest.approx(float(long[0].weights(1, 15000, 4)[0, 0]), abs=6e-5)
    arrays = [url for url in live.requests if "/arrays/" in url]
    assert len(arrays) == len(set(arrays)), "nothing is fetched twice"
    page.locator("#tab-arcs").click()
    page.locator("#arcs-head-0").click()  # the other head is fetched when it is asked for
    page.wait_for_function(
        "(count) => performance.getEntriesByType('resource')"
        ".filter(({ name }) => name.includes('/arrays/')).length > count",
        arg=len(arrays),
    )
    page.wait_for_selector("#arcs-head-0[aria-pressed=true]")


def test_an_encoder_says_that_it_foretells_nothing(open_live, mini_reader):
    class Encoder:
        name, text_of, generate = "encoder", mini_reader.text_of, mini_reader.generate

        def read(self, text, off, stop):
            return mini_reader.read(text, off, stop)[0], None

    live = open_live(given={"readers": [Encoder(), mini_reader]})
    live.read(SENTENCE)
    assert "encoder says nothing of a next token" in live.page.locator(".live").inner_text()
    assert live.page.locator("#live-generate").count() == 0
    assert live.page.locator("#live-off").count() == 1
    live.page.select_option("#live-model", "mini")
    live.read(SENTENCE)
    assert "model=mini" in live.hash()


def test_the_page_asks_its_own_server_alone(open_live):
    live = open_live()
    policy = live.page.locator("meta[http-equiv]").get_attribute("content")
    assert "connect-src 'self'" in policy
    assert "default-src 'none'" in policy
    tried = live.page.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => 'answered', (error) => error.name)"
    )
    assert tried == "TypeError"
    assert any("connect-src" in complaint for complaint in live.complaints)
    live.complaints.clear()
    live.requests[:] = [url for url in live.requests if ":9/" not in url]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_cut_off_or_unreadable(open_live, scheme, width):
    place = f"#text={SENTENCE.replace(' ', '+')}&off=0.1,2.2"
    live = open_live(place, color_scheme=scheme, viewport={"width": width, "height": 800})
    live.page.wait_for_timeout(200)
    assert live.page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = live.page.evaluate(
        """() => [...document.querySelectorAll("#app :is(button, select, input, textarea)")]
        .filter((node) => !(node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim()
          || node.textContent.trim())).map((node) => node.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    ids = live.page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))


def test_the_data_of_the_page_is_what_the_start_named(serving):
    from atento.views.live_page import render_live

    page, policy = render_live(["</script>", "b"], [("id", "<!--")], lang="es")
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    told = json.loads(data.group(1))
    assert told["record"] == {
        "models": ["</script>", "b"],
        "recordings": [{"id": "id", "name": "<!--"}],
    }
    assert told["lang"] == "es"
    assert policy in page.replace("&#x27;", "'")
