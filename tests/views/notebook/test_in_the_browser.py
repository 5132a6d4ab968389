"""Outputs in real Chromium: several in one host, drawn, fitted, inert, and apart."""

import re

import numpy as np
import pytest

import atento
from atento.views.notebook import HIGHEST, LOWEST, mime_bundle

pytestmark = pytest.mark.browser

HOSTILE = ["</script><img src=x onerror=alert(1)>", "</iframe><script>alert(1)</script>", '"><b>']


def html(record, **options):
    return mime_bundle(record, lang="en", **options)["text/html"]


def look(frame, **state):
    """What the page around asks for; over when the frame has drawn it and told of it."""
    frame.frame_element().evaluate(
        "(frame, state) => frame.contentWindow.postMessage({ atento: 1, state }, '*')", state
    )
    frame.page.wait_for_timeout(500)
    frame.wait_for_function(DRAWN)


# Frames drawn one after the other take as long as the machine is busy.
DRAWN = """() => new Promise((done) => {
  let left = 8;
  const next = () => (left-- ? requestAnimationFrame(next) : setTimeout(() => done(true), 300));
  next();
})"""
HEAR = "window.heard = []; addEventListener('message', ({ data }) => heard.push(data));"


def test_two_outputs_are_drawn_and_fitted(open_host, make, trace, eventually):
    host = open_host(html(make(40, names=("one", "two"))[0]), html(trace))
    first, second = host.frames()
    assert first.locator("h1").inner_text() == "Attention, head by head"
    assert second.locator("h1").inner_text() == "Attention, step by step"
    eventually(host.page, lambda: host.heights() == [HIGHEST, HIGHEST])
    assert host.page.locator(".atento-still:visible").count() == 0
    assert host.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_low_page_gets_a_low_frame_and_no_frame_is_too_low(open_host, eventually):
    page = (
        "<body id=app><script>"
        "onmessage = () => parent.postMessage({ atento: 1, height: %d }, '*')"
        "</script></body>"
    )
    outputs = [
        re.sub('srcdoc="[^"]*"', f'srcdoc="{page % height}"', html(atento.explain("a b")))
        for height in (500, 20, 5000)
    ]
    host = open_host(*outputs)
    eventually(host.page, lambda: host.heights() == [500, LOWEST, HIGHEST])


def test_a_frame_hears_its_own_page_alone(open_host, make, eventually):
    host = open_host(html(make(12)[0]), html(make(12)[0]))
    host.frames()
    eventually(host.page, lambda: host.heights() == [HIGHEST, HIGHEST])
    first = host.page.frames[1]
    first.evaluate("parent.postMessage({ atento: 1, height: 333 }, '*')")
    host.page.evaluate("postMessage({ atento: 1, height: 444 }, '*')")
    for wrong in ("NaN", "'99'", "null", "Infinity"):
        first.evaluate(f"parent.postMessage({{ atento: 1, height: {wrong} }}, '*')")
    first.evaluate("parent.postMessage(null, '*'); parent.postMessage({ height: 555 }, '*')")
    eventually(host.page, lambda: host.heights()[0] == 333)
    host.page.wait_for_timeout(300)  # and it stays so
    assert host.heights() == [333, HIGHEST]


def test_what_one_output_looks_at_the_other_does_not(open_host, make, eventually):
    recording = make(40, names=("one", "two"))[0]
    host = open_host(html(recording), html(recording), first=HEAR)
    first, second = host.frames()
    first.locator("#layer").select_option("1")
    first.get_by_role("tab", name="Map").click()

    def told():
        states = [one["state"] for one in host.page.evaluate("heard") if "state" in one]
        return states[-1]["view"] == "map"

    eventually(host.page, told)
    assert second.locator("#layer").input_value() == "0"
    assert second.locator('[role="tab"][aria-selected="true"]').inner_text() == "Heads"
    said = [one["state"] for one in host.page.evaluate("heard") if "state" in one][-1]
    assert (said["view"], said["layer"], said["lang"]) == ("map", 1, "en")
    assert host.page.url == host.url  # nothing is written into the notebook's address
    assert host.page.evaluate("history.length") == 1 + 1


def test_the_page_around_says_what_to_look_at(open_host, make):
    host = open_host(html(make(40, names=("one", "two"))[0]), first=HEAR)
    (frame,) = host.frames()
    look(frame, view="map", layer=1, head=1, row=9, col=1)
    assert "t9 looks at t1" in frame.locator(".readout").inner_text()
    assert frame.locator("#layer").input_value() == "1"
    look(frame, row=10)  # the rest stays
    assert "t10 looks at t1" in frame.locator(".readout").inner_text()
    look(frame, row=None, lang="es", log=False)
    assert frame.locator("html").get_attribute("lang") == "es"
    last = host.page.evaluate("heard.filter(({ state }) => state).at(-1).state")
    assert (last["row"], last["col"], last["log"], last["layer"]) == (None, 1, False, 1)


@pytest.mark.parametrize(
    "message",
    [
        {"state": {"view": "map"}},
        {"atento": 2, "state": {"view": "map"}},
        {"atento": 1, "state": "view=map"},
        {"atento": 1, "state": ["map"]},
        {"atento": 1, "state": {"view": "map", "row": [1]}},
        {"atento": 1, "state": {"view": "map", "row": {"a": 1}}},
        {"atento": 1, "state": None},
        {"atento": 1, "state": {"view": "constructor", "layer": 99, "head": -1, "__proto__": 1}},
        {"atento": 1, "state": {"layer": 0.5, "head": "x", "lang": "fr", "zoom": 1e99}},
        "view=map",
        None,
    ],
)
def test_messages_that_mean_nothing_change_nothing(open_host, make, message):
    host = open_host(html(make(40)[0]))
    (frame,) = host.frames()
    frame.frame_element().evaluate("(f, m) => f.contentWindow.postMessage(m, '*')", message)
    host.page.wait_for_timeout(200)
    assert frame.locator('[role="tab"][aria-selected="true"]').inner_text() == "Heads"
    assert frame.locator("#layer").input_value() == "0"
    assert not frame.locator("#failure").is_visible()


def test_a_page_hears_nobody_but_the_page_around(open_host, make):
    host = open_host(html(make(40)[0]), html(make(40)[0]))
    first, second = host.frames()
    message = "({ atento: 1, state: { view: 'map' } }, '*')"
    second.evaluate(f"parent.frames[0].postMessage{message}")  # a sibling
    first.evaluate(f"window.postMessage{message}")  # itself
    host.page.wait_for_timeout(400)
    assert first.locator('[role="tab"][aria-selected="true"]').inner_text() == "Heads"
    look(first, view="map")
    assert first.locator('[role="tab"][aria-selected="true"]').inner_text() == "Map"


def test_the_page_of_steps_is_looked_at_from_outside_too(open_host):
    host = open_host(html(atento.explain("Your journey starts with one step")), first=HEAR)
    (frame,) = host.frames()
    look(frame, layer=0, head=1, step="weights", row=4, col=2)
    assert frame.locator("#layer").input_value() == "0"
    assert frame.locator("#head").input_value() == "1"
    here = frame.locator("#step-weights td.here")
    assert [here.get_attribute(f"data-{name}") for name in ("row", "col")] == ["4", "2"]
    look(frame, row=3)  # the rest stays
    assert [here.get_attribute(f"data-{name}") for name in ("row", "col")] == ["3", "2"]
    frame.locator('#step-weights td[data-row="5"][data-col="0"]').click()
    host.page.wait_for_timeout(200)
    last = host.page.evaluate("heard.filter(({ state }) => state).at(-1).state")
    assert last == {"layer": 0, "head": 1, "lang": "en", "step": "weights", "row": 5, "col": 0}
    look(frame, layer=99, head=-1, lang="fr", step="nothing", row=1e9)
    assert frame.locator("#layer").input_value() == "0"
    assert here.get_attribute("data-row") == "5"


def test_a_frame_is_told_once_what_it_was_told(open_host, make):
    """Two views of one widget would otherwise answer each other for ever."""
    host = open_host(html(make(40)[0]), first=HEAR)
    (frame,) = host.frames()
    state = host.page.evaluate("heard.find(({ state }) => state).state")
    look(frame, **{**state, "view": "map", "row": 3, "col": 2})
    host.page.wait_for_timeout(500)
    states = host.page.evaluate("heard.filter(({ state, ready }) => state && !ready).length")
    assert states == 0
    look(frame, row=4)  # part of a state: the whole is told
    last = host.page.evaluate("heard.filter(({ state }) => state).at(-1).state")
    assert (last["view"], last["row"], last["col"]) == ("map", 4, 2)


def test_hostile_tokens_are_visible_and_inert_in_an_output(open_host, make):
    x = np.eye(3)
    steps = atento.explain(query=x, key=x, value=x, names=HOSTILE)
    host = open_host(html(steps), html(make(HOSTILE, names=(HOSTILE[1],))[0]))
    first, second = host.frames()
    assert first.locator(".tinted-chips .chip").all_inner_texts() == HOSTILE
    assert HOSTILE[1][:20] in second.locator("#layer option").inner_text()
    assert host.page.locator("script, b, body > img").count() == 0
    for frame in (first, second):
        assert frame.locator("#app img, #app script, #app b").count() == 0


def test_the_frame_reaches_neither_the_notebook_nor_the_network(open_host, trace):
    host = open_host(html(trace))
    (frame,) = host.frames()
    outcome = frame.evaluate(
        """async () => {
          const tried = {};
          const attempt = async (name, action) => {
            tried[name] = "done";
            try { await action(); } catch (error) { tried[name] = error.name; }
          };
          await attempt("document", () => parent.document.body);
          await attempt("cookie", () => document.cookie);
          await attempt("storage", () => localStorage.length);
          await attempt("top", () => { top.location = "about:blank#gone"; });
          return tried;
        }"""
    )
    assert outcome == dict.fromkeys(("document", "cookie", "storage", "top"), "SecurityError")
    host.page.wait_for_timeout(200)
    assert len(host.complaints) == 1
    assert "is sandboxed" in host.complaints.pop()


def test_without_a_frame_the_picture_shows(open_host, trace):
    output = re.sub("<iframe.*?</iframe>", "", html(trace), flags=re.DOTALL)
    for kept in (output, re.sub("<style>.*?</style>", "", output)):
        host = open_host(kept)
        assert host.page.locator(".atento-still").is_visible()
        assert host.page.evaluate("document.querySelector('img').naturalWidth > 300")


def test_a_frame_that_is_moved_is_fitted_again(open_host, make, eventually):
    """JupyterLab takes outputs that are scrolled away out of the document, and puts them back."""
    host = open_host(html(make(12)[0]), "<main></main>", first=HEAR)
    host.frames()
    host.page.evaluate(
        "document.querySelector('main').append(document.querySelector('iframe').parentElement)"
    )
    host.page.evaluate("document.querySelector('iframe').style.height = '300px'")
    host.page.wait_for_timeout(300)
    assert len(host.frames()) == 1
    eventually(host.page, lambda: host.heights()[0] > 300)


def test_where_no_worker_may_run_the_map_is_drawn_all_the_same(open_host, make):
    """A host's policy holds in its frames as well: VS Code's, for one, allows no blob."""
    policy = (
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:\">"
    )
    host = open_host(html(make(40, causal=False)[0]), head=policy)
    (frame,) = host.frames()
    look(frame, view="map", row=9, col=1)
    host.page.wait_for_timeout(800)
    assert any("worker" in text.lower() for text in host.complaints)  # it was refused indeed
    host.complaints[:] = [text for text in host.complaints if "worker" not in text.lower()]
    shades = frame.evaluate(
        """() => {
          const canvas = [...document.querySelectorAll(".map canvas")]
            .sort((a, b) => b.width * b.height - a.width * a.height)[0];
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert shades > 50
