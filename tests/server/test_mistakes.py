"""Mistakes are told in the language of whoever asks."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

import atento.server
from atento.server import parameters
from atento.server.guard import Guard
from atento.server.mistakes import language_of, say, wrong

TOKEN = "the-token-of-these-tests"  # noqa: S105
SPANISH = (("accept-language", "es"),)
LANGUAGES = ("en", "es")
SENTENCES = {
    lang: json.loads((files("atento.views") / "locales" / f"server.{lang}.json").read_text("utf-8"))
    for lang in LANGUAGES
}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("layers/9/heads/0/tile", "no hay ninguna capa 9: las hay de 0 a 0."),
        ("layers/0/heads/9/tile", "no hay ninguna cabeza 9 en la capa only."),
        ("layers/0/heads/0/tile?row=47", "row debe ser un número entero de 0 a 46. Llegó 47."),
        ("layers/0/heads/0/tile?pool=a", "pool debe ser uno de estos: mean, max. Llegó 'a'."),
        (
            "layers/0/heads/0/tiles?at=1",
            "at debe ser de 1 a 16 lugares fila.columna separados por comas, con filas de 0 a 46 y "
            "columnas de 0 a 46. Llegó '1'.",
        ),
        ("layers/0/heads/0/row", "falta row: un número entero de 0 a 46."),
        ("arrays/999", "no hay ninguna matriz 999: hay {count}."),
    ],
)
def test_wrong_addresses(served, path, told):
    count = len(served.readings[served.pinned].record.makers)
    address = f"/api/readings/{served.pinned}/{path}"
    for answer in (
        served.ask(address, headers=SPANISH),
        served.ask(address + ("&" if "?" in path else "?") + "lang=es"),
    ):
        assert answer.status == 422
        assert answer.json() == {"error": told.format(count=count)}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "falta el texto: escribe una frase."),
        ({"text": "a", "off": [[0]]}, "off debe ser una lista de pares [capa, cabeza] de números"),
        ({"text": "a", "off": [[0, 99]]}, "no hay ninguna cabeza 99 en la capa 0: mini tiene las"),
        ({"text": "a" * 400_001}, "tiene 400\u202f001 caracteres y aquí se leen como mucho 400"),
        ({"text": "one " * 200}, "El modelo lee como mucho 128 tokens y el texto tiene 200. Acór"),
        ({"text": "a", "model": "b"}, "model debe ser uno de estos: mini. Llegó 'b'."),
        (b"{", "el cuerpo no es JSON."),
        ([], "el cuerpo debe ser un objeto JSON."),
    ],
)
def test_wrong_bodies(served, body, told):
    answer = served.ask("/api/readings", body, method="POST", headers=SPANISH)
    assert answer.status == 422
    assert told in answer.json()["error"]


def test_mistakes_of_generating(served):
    for body, told in (
        ({"text": "a", "tokens": 0}, "tokens debe ser un número entero de 1 a 4096. Llegó 0."),
        ({"text": "a", "temperature": 99}, "temperature debe ser un número de 0.0 a 10.0. Llegó 9"),
        ({"text": "a", "head": 99}, "no hay ninguna cabeza 99 en la capa 0"),
    ):
        answer = served.ask("/api/generate", body, headers=SPANISH)
        assert answer.status == 422
        assert told in answer.json()["error"]


def test_a_reading_that_is_gone_and_a_server_that_is_busy(served):
    gone = served.ask("/api/readings/nothing", headers=SPANISH)
    told = {"error": "Esa lectura ya no se conserva: vuelve a leer el texto."}
    assert (gone.status, gone.json()) == (404, told)
    served.workshop.limit = 0
    busy = served.ask("/api/readings", {"text": "a"}, headers=SPANISH)
    told = {"error": "El servidor está ocupado: prueba otra vez dentro de un momento."}
    assert (busy.status, busy.json()) == (503, told)


def test_refusals_of_the_guard(served):
    refused = served.ask("/api/models", headers=(("sec-fetch-site", "cross-site"), *SPANISH))
    assert refused.body.decode() == "No se responde a peticiones de otras páginas.\n"
    assert served.ask("/?lang=es", method="PUT").body.decode() == say("es", "method") + "\n"
    assert served.ask("/?" + "a=1&" * 20, method="PUT").body.decode() == say("en", "method") + "\n"
    served.app = Guard(served.app.app, "token", served.port, most_bytes=20_000)
    strange = served.ask("/", headers=SPANISH)
    assert strange.status == 401
    assert strange.body.decode().startswith("Esta página necesita su token")
    served.app.token = TOKEN
    long = served.ask(
        "/api/readings", b" " * 20_001, headers=(("content-length", "20001"), *SPANISH)
    )
    assert long.status == 413
    assert "como mucho 20\u202f000 bytes" in long.body.decode()


@pytest.mark.parametrize(
    ("asked", "accepted", "lang"),
    [
        (None, "", "en"),
        (None, "es", "es"),
        (None, "es-MX,es;q=0.9,en;q=0.8", "es"),
        (None, "en-US,en;q=0.9,es;q=0.8", "en"),
        (None, "fr, es;q=0.2, en;q=0.1", "es"),
        (None, "es;q=0, en;q=0.1", "en"),
        (None, "es;q=x, *;q=;,,", "en"),
        (None, "fr", "en"),
        ("es", "en", "es"),
        ("en", "es", "en"),
        ("../x", "es", "es"),
        ("", "ES", "es"),
    ],
)
def test_which_language(asked, accepted, lang):
    assert language_of(asked, accepted) == lang


def test_both_languages_say_the_same_things_and_all_of_them():
    blanks = {
        lang: {name: sorted(re.findall(r"\{(\w+)\}", text)) for name, text in own.items()}
        for lang, own in SENTENCES.items()
    }
    assert blanks["en"] == blanks["es"]
    assert not {name for name, text in SENTENCES["en"].items() if SENTENCES["es"][name] == text}
    folder = Path(atento.server.__file__).parent
    code = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    for name in SENTENCES["en"]:
        assert f'"{name.removeprefix("error.")}"' in code, name


def test_every_mistake_of_the_server_has_words_in_both_languages():
    """Whatever its files raise without a name would be told in English alone."""
    for path in Path(atento.server.__file__).parent.glob("*.py"):
        for raised in re.findall(
            r"raise (?:Input|Busy|UnknownReading)Error\((?:[^()]|\([^()]*\))*\)", path.read_text()
        ):
            assert "name=" in raised, (path.name, raised)


def test_long_numbers_stand_in_groups():
    assert "1,000,000" in str(wrong("whole", parameter="a", least=0, most=1_000_000, came=True))
    with pytest.raises(atento.InputError, match="from 0 to 9999; got 10001"):
        parameters.whole({"a": 10_001}, "a", 0, 9999)
