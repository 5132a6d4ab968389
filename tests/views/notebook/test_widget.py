"""The widget: its traits in Python, its script in Chromium with a model like anywidget's."""

import base64
import json
import re
import subprocess
import sys

import pytest
import traitlets

import atento
from atento.views import notebook
from atento.views.page import render_page
from atento.views.page_bundle import asset

pytestmark = pytest.mark.browser

MODEL = """
class Model {
  constructor(traits) { this.traits = traits; this.listeners = {}; this.saved = []; this.sets = 0; }
  get(name) { return this.traits[name]; }
  set(name, value) {
    if (JSON.stringify(this.traits[name]) === JSON.stringify(value)) return;
    this.traits[name] = value;
    this.sets++;
    for (const listener of [...(this.listeners[`change:${name}`] ?? [])]) listener();
  }
  save_changes() { this.saved.push(structuredClone(this.traits.state)); }
  on(name, listener) { (this.listeners[name] ??= []).push(listener); }
  off(name, listener) {
    this.listeners[name] = (this.listeners[name] ?? []).filter((one) => one !== listener);
  }
}
"""


@pytest.fixture
def open_widgets(open_host):
    """A host in which each model is rendered so often: [(widget, views), …]."""

    def open_(*models):
        source = base64.b64encode(asset("widget.js").encode()).decode()
        host = open_host()
        for widget, views in models:
            traits = {"page": widget.page, "title": widget.title, "state": widget.state}
            host.page.evaluate(
                f"""async ([traits, views]) => {{
                  {MODEL}
                  const source = "data:text/javascript;base64,{source}";
                  const {{ default: widget }} = await import(source);
                  const model = new Model(traits);
                  (window.models ??= []).push(model);
                  for (let view = 0; view < views; view++) {{
                    const el = document.body.appendChild(document.createElement("div"));
                    (window.closing ??= []).push(widget.render({{ model, el }}));
                  }}
                }}""",
                [traits, views],
            )
        host.requests[:] = [url for url in host.requests if not url.startswith("data:text/java")]
        return host

    return open_


def state(host, model=0):
    host.page.wait_for_timeout(700)
    return host.page.evaluate(f"models[{model}].get('state')")


def put(host, wanted, model=0):
    host.page.evaluate(f"(wanted) => models[{model}].set('state', wanted)", wanted)
    host.page.wait_for_timeout(700)


def test_the_widget_carries_the_page(trace):
    shown = atento.widget(trace, lang="es")
    assert shown.page == render_page(atento.explain(**_arrays(trace)), lang="es")
    assert shown.title == "La atención, paso a paso"
    assert shown.state == {}
    assert repr(shown) == "PageWidget('La atención, paso a paso', {})"


def _arrays(trace):
    query, key, value = (trace[name].value for name in ("queries", "keys", "values"))
    return {"query": query, "key": key, "value": value}


def test_without_a_kernel_the_widget_is_its_picture(trace, monkeypatch):
    data, _ = atento.widget(trace)._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} == set(data)
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    data, _ = atento.widget(trace)._repr_mimebundle_()
    assert "image/png" not in data


def test_state_is_plain_values(trace):
    shown = atento.widget(trace)
    seen = []
    shown.observe(lambda change: seen.append(change["new"]), "state")
    shown.state = {"layer": 0, "row": None, "log": True, "zoom": 1.5, "lang": "es"}
    json.dumps(shown.state)
    for wrong in ({"row": [1]}, {"row": {"a": 1}}, {1: 2}, "view=map", {"row": object()}):
        with pytest.raises(traitlets.TraitError):
            shown.state = wrong
    assert len(seen) == 1


def test_a_page_that_is_too_large_is_refused(trace, monkeypatch):
    monkeypatch.setattr(notebook, "MOST", 0.01)
    with pytest.raises(atento.InputError, match=r"notebook is given 0.01 MB at most: atento.save"):
        atento.widget(trace, lang="en")


def test_what_has_no_page_is_refused(trace):
    with pytest.raises(atento.DTypeError, match="got a list"):
        atento.widget([1])
    with pytest.raises(atento.InputError, match="heads: is for recordings"):
        atento.widget(trace, heads=[0])


def test_without_anywidget_it_says_what_to_install(trace, monkeypatch):
    monkeypatch.setattr("atento._optional.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'in a notebook, .*pip install "atento\[notebook\]"'):
        atento.widget(trace)


def test_naming_the_widget_loads_no_widget_library():
    code = (
        "import sys, atento; atento.widget; print({'anywidget', 'ipywidgets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_script_makes_no_markup_and_loads_nothing():
    script = asset("widget.js")
    assert not re.search(r"innerHTML|insertAdjacent|eval|https?:|fetch\(|import ", script)
    assert script.count("srcdoc") == 1
    assert "allow-same-origin" not in script


def test_the_page_tells_python_what_is_looked_at(open_widgets, make):
    host = open_widgets((atento.widget(make(40, names=("one", "two"))[0], lang="en"), 1))
    (frame,) = host.frames()
    assert frame.frame_element().get_attribute("sandbox") == "allow-scripts"
    assert frame.frame_element().get_attribute("title") == "Attention, head by head"
    assert state(host)["view"] == "heads"
    frame.locator("#layer").select_option("1")
    frame.get_by_role("tab", name="Map").click()
    looked = state(host)
    assert (looked["view"], looked["layer"], looked["lang"]) == ("map", 1, "en")
    assert host.page.evaluate("models[0].saved.at(-1)") == looked
    assert host.heights()[0] > 240


def test_python_tells_the_page_what_to_look_at(open_widgets, make):
    host = open_widgets((atento.widget(make(40)[0], lang="en"), 1))
    (frame,) = host.frames()
    state(host)
    put(host, {"view": "map", "head": 1, "row": 9, "col": 1})
    assert "t9 looks at t1" in frame.locator(".readout").inner_text()
    looked = state(host)  # the whole is told
    assert (looked["view"], looked["row"], looked["pool"]) == ("map", 9, "max")
    put(host, {"layer": 99, "head": 99})
    assert state(host)["head"] == 1


def test_what_was_set_before_the_page_is_there_is_shown(open_widgets, make):
    shown = atento.widget(make(40)[0], lang="en")
    shown.state = {"view": "map", "row": 3, "col": 2}
    host = open_widgets((shown, 1))
    (frame,) = host.frames()
    looked = state(host)
    assert "t3 looks at t2" in frame.locator(".readout").inner_text()
    assert (looked["view"], looked["row"]) == ("map", 3)


def test_two_views_of_a_widget_go_together_and_two_widgets_do_not(open_widgets, make):
    recording = make(40, names=("one", "two"))[0]
    both, alone = (atento.widget(recording, lang="en") for _ in range(2))
    host = open_widgets((both, 2), (alone, 1))
    first, second, third = host.frames()
    state(host)
    second.locator("#layer").select_option("1")
    looked = state(host)
    values = [frame.locator("#layer").input_value() for frame in (first, second, third)]
    assert values == ["1", "1", "0"]
    assert looked["layer"] == 1
    sets = host.page.evaluate("models[0].sets")
    host.page.wait_for_timeout(1500)
    assert host.page.evaluate("models[0].sets") == sets  # they do not answer each other


def test_the_widget_hears_its_own_frame_and_well_formed_states_alone(open_widgets, make):
    host = open_widgets(*((atento.widget(make(12)[0], lang="en"), 1) for _ in range(2)))
    first, _ = host.frames()
    before = state(host, 1)
    own = state(host)
    send = "parent.postMessage({ atento: 1, height: 300, state: { view: 'map' } }, '*')"
    host.page.evaluate(send)
    first.evaluate("parent.postMessage({ atento: 2, state: { view: 'map' } }, '*')")
    for wrong in ("'map'", "['map']", "{ view: { a: 1 } }", "null", "{ view: [1] }"):
        first.evaluate(f"parent.postMessage({{ atento: 1, state: {wrong} }}, '*')")
    assert (state(host), state(host, 1)) == (own, before)
    first.evaluate(send)
    assert state(host) == {"view": "map"}
    assert host.heights()[0] == 300
    assert state(host, 1) == before


def test_a_view_that_is_closed_leaves_nothing(open_widgets, make):
    host = open_widgets((atento.widget(make(12)[0], lang="en"), 2))
    host.frames()
    state(host)
    host.page.evaluate("closing[0]()")
    host.page.wait_for_timeout(300)
    assert len(host.page.frames) == 1 + 1
    assert host.page.evaluate("models[0].listeners['change:state'].length") == 1
    put(host, {"view": "map"})
    assert host.frames()[0].locator('[aria-selected="true"]').inner_text() == "Map"
