"""What a reader meets who types or opens something wrong, in the language of the page."""

import pytest

pytestmark = pytest.mark.browser

SENTENCE = "Your journey starts with one step"
PLACE = f"#text={SENTENCE.replace(' ', '+')}"


def without_refusals(live):
    """The browser writes a line for each refusal of the server; these are meant."""
    live.complaints[:] = [one for one in live.complaints if "Failed to load resource" not in one]


FIELDS = [
    ("tokens", "0", "Tokens: write a whole number from 1 to 4096."),
    ("tokens", "", "Tokens: write a whole number from 1 to 4096."),
    ("top_k", "1.5", "Among the likeliest (0: all): write a whole number from 0 to 1000000."),
    ("temperature", "-1", "Temperature: write a number from 0 to 10."),
    ("temperature", "-1", "Temperatura: escribe un número de 0 a 10."),
    ("seed", "-5", "Semilla: escribe un número entero de 0 a 9"),
]


@pytest.mark.parametrize(("field", "value", "told"), FIELDS)
def test_a_number_that_cannot_be_is_told_by_its_label(open_live, field, value, told):
    lang = "es" if told.startswith(("Temperatura", "Semilla")) else "en"
    live = open_live(f"{PLACE}&lang={lang}")
    live.page.fill(f"#live-{field}", value)
    live.page.locator("#live-generate").click()
    live.page.wait_for_selector("#live-status.wrong")
    assert live.status().startswith(told)
    assert live.page.evaluate("document.activeElement.id") == f"live-{field}"
    assert not [url for url in live.requests if url.endswith("/generate")]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("#model=gpt99&text=hello", "This address asks for the model gpt99"),
        ("#model=gpt99&text=hello&lang=es", "Esta dirección pide el modelo gpt99"),
        ("#file=none.safetensors", "This address asks for the recording none.safetensors"),
        ("#file=%3Cimg+src=x%3E&lang=es", "Esta dirección pide la grabación <img src=x>"),
        ("#reading=../../etc", "There is nothing at this address."),
        ("#reading=nonsense&lang=es", "Esa lectura ya no se conserva"),
        ("#text=hello&off=0.99&lang=es", "no hay ninguna cabeza 99 en la capa 0"),
        ("#text=hello&off=-1.0,a.b,7", "mini has read one token."),
    ],
)
def test_what_an_address_asks_for_and_is_not_there_is_told(open_live, place, told):
    live = open_live()
    live.page.evaluate("(place) => { location.hash = place; }", place)
    live.page.wait_for_function(
        "(told) => document.getElementById('live-status').textContent.startsWith(told)", arg=told
    )
    if "model=" in place:
        assert live.page.input_value("#live-text") == "hello", "ready to be read with another"
        assert live.page.locator("#view").count() == 0
    without_refusals(live)


@pytest.mark.parametrize(
    ("lang", "told"),
    [
        ("en", "The server does not answer: is it still running?"),
        ("es", "El servidor no contesta: ¿sigue en marcha?"),
    ],
)
def test_a_server_that_has_gone_is_told_in_the_pages_words_alone(open_live, lang, told):
    live = open_live(f"{PLACE}&lang={lang}")
    live.page.route("**/api/**", lambda route: route.abort("connectionrefused"))
    for button in ("#live-read", "#live-off", "#live-generate"):
        live.page.locator(button).click()
        live.page.wait_for_selector("#live-status.wrong")
        assert live.status() == told
    assert live.page.locator("#view").count() == 1, "what was read stays"
    live.page.unroute("**/api/**")
    live.read("one step")
    assert "2 tokens" in live.status()
    without_refusals(live)


def test_a_mistake_amid_generation_is_told_as_it_is(open_live, serving, mini_reader):
    from atento.server.mistakes import wrong

    class Failing:
        name, text_of, read = "failing", mini_reader.text_of, mini_reader.read

        def generate(self, text, off, options, stop):
            yield next(mini_reader.generate(text, off, options, stop))
            raise wrong("not_kept")

    live = open_live(f"{PLACE}&lang=es", served=serving(readers=[Failing()]))
    live.page.locator("#live-generate").click()
    live.page.wait_for_selector("#live-status.wrong")
    assert live.status() == "las consultas y claves de esta lectura no se guardaron."
    assert live.page.locator(".generate [role=status]").inner_text().startswith("Un token nuevo.")


def test_the_way_back_leads_to_what_was_read_before(open_live):
    live = open_live(PLACE)
    live.read("one step")
    live.page.locator("#live-off").click()
    live.settled()
    live.page.wait_for_selector("#live-off[aria-pressed=true]")
    live.page.go_back()
    live.page.wait_for_selector("#live-off[aria-pressed=false]")
    assert live.page.input_value("#live-text") == "one step"
    live.page.go_back()
    live.page.wait_for_function(
        "(text) => document.getElementById('live-text').value === text", arg=SENTENCE
    )
    live.settled()
    live.page.go_forward()
    live.page.wait_for_function("() => document.getElementById('live-text').value === 'one step'")
    live.settled()
    assert "text=one+step" in live.hash()
