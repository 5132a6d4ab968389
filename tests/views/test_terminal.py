"""The terminal view: it fits, says what it leaves out, and lets nothing through that acts."""

import io
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from atento import trace
from atento.explanation import explain
from atento.masks import Causal
from atento.views.doors import _explanation as explain_trace
from atento.views.terminal import render_terminal
from atento.views.terminal_heat import MINUS, PLUS, heat
from atento.views.terminal_matrix import Matrix, matrix_lines
from atento.views.terminal_numbers import number_format, short_number
from atento.views.terminal_text import fit, fold, named, pad, visible
from atento.views.words import words
from six_tokens import SIX

ROW_2 = [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581]  # published: shared facts, 1 C
WORDS = ["Your", "journey", "starts", "with", "one", "step"]
HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m",
    "\x9b2J",
    "\u202eright to left",
    "[bold red]markup[/]",
    ":thumbs_up:",
    "東京都",
    "👩\u200d👩\u200d👧",
    "nul\0",
    "line\nbreak\ttab",
    "\ud800",
    "",
    "   ",
    "e\u0301\u0301\u0301",
]
EN, ES = words("en"), words("es")


def render(explanation, lang="en", width=80, **options):
    file = io.StringIO()
    console = Console(file=file, width=width, **options)
    render_terminal(explanation, lang=lang, console=console)
    return file.getvalue()


def six(**options):
    return explain(query=SIX, key=SIX, value=SIX, names=WORDS, **options)


def some(queries, keys=None, features=5, heads=2, seed=0, **options):
    rng = np.random.default_rng(seed)
    keys = keys or queries
    return explain(
        query=rng.normal(size=(heads, queries, features)),
        key=rng.normal(size=(heads, keys, features)),
        value=rng.normal(size=(heads, keys, features)),
        **options,
    )


def block(text, name):
    """The lines of one step."""
    lines = text.split("\n")
    start = next(at for at, line in enumerate(lines) if line.startswith(name))
    return lines[start : lines.index("", start)]


def test_the_published_numbers_stand_in_the_cells():
    text = render(six(scale=1.0))
    rows = block(text, "weights")
    assert rows[0] == "weights = softmax(scaled)   6 queries × 6 keys"
    assert rows[2].split() == WORDS
    assert rows[4].split() == [
        "2",
        "journey",
        *["0.1385", "0.2379", "0.2333", "0.1240", "0.1082", "0.1581"],
    ]
    assert block(text, "output")[4].split() == ["2", "journey", "0.4419", "0.6515", "0.5683"]
    assert block(text, "scores")[4].split()[2:4] == ["0.9544", "1.4950"]


def test_a_masked_place_is_minus_infinity_and_then_a_dot():
    text = render(six(mask=Causal()))
    assert block(text, "masked")[3].split() == ["1", "Your", "0.5771", "-∞", "-∞", "-∞", "-∞", "-∞"]
    assert block(text, "weights")[3].split() == ["1", "Your", "1.0000", "·", "·", "·", "·", "·"]


def test_one_cell_is_worked_out():
    text = render(six(mask=Causal()))
    assert "One cell, worked out: how much “with” takes from “journey”" in text
    assert "score   0.2200×0.5500 + 0.5800×0.8700 + 0.3300×0.6600 = 0.8434" in text
    assert "scaled  0.8434 × 0.5774 = 0.4869" in text
    assert "sum     e^0.2744 + e^0.4869 + e^0.4790 + … (1 more) = 5.8873" in text
    assert "weight  e^0.4869 / 5.8873 = 0.2764" in text
    assert "0.2764×value(journey) + 0.2742×value(starts)" in text


def test_the_worked_cell_holds_with_large_scores_softcap_bias_and_sinks():
    given = {"query": SIX * 90, "key": SIX, "value": SIX, "mask": Causal()}
    text = render(explain(**given, softcap=30.0, bias=np.full((6, 6), 0.5), sinks=[29.0]))
    assert "cap     30.0000 × tanh(" in text
    assert " + 0.5000 = " in text
    assert "(sink)" in text
    line = next(line for line in text.split("\n") if line.startswith("  weight  "))
    top, rest = line.split("weight  e^(")[1].split(") / ")
    exponent, shift = (float(number.strip("()")) for number in top.split(" - "))
    bottom, value = (float(number) for number in rest.split(" = "))
    assert np.exp(exponent - shift) / bottom == pytest.approx(value, abs=2e-4)


def test_spanish_is_written_with_decimal_commas():
    text = render(six(mask=Causal()), lang="es")
    assert "La atención, paso a paso: tus matrices, cabeza 0" in text
    assert "Solo hay una cabeza." in text
    assert "«with» da el 28 % de su peso a «journey»" in text
    assert "pesos = softmax(enmascaradas)   6 consultas × 6 claves" in text
    assert "puntuaciones · 0,5774 (1/√d, d = 3)" in text
    assert "peso        e^0,4869 / 5,8873 = 0,2764" in text
    assert "0.5" not in text


def test_why_this_head():
    telling = render(some(7, heads=3, mask=Causal()))
    assert "Of 3 heads, this one looks most sharply away from the obvious places" in telling
    assert "of 3 heads, counted from 0" in telling
    assert "\nIts strongest such link: “" in telling
    assert "The head that you asked for." in render(some(7, heads=3, head=1))
    short = render(some(2, heads=3, mask=Causal()))
    assert "none looks away from the obvious places" in short
    cross = render(some(5, 7, heads=3))
    assert "Of 3 heads, this one looks most sharply.\nIts strongest link:" in cross
    assert "\nKeys (7):  1  2  3" in cross


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("lang", ["en", "es"])
def test_every_line_fits(width, lang):
    names = HOSTILE + [f"a long name {at}" for at in range(40)]
    for got in (
        some(len(names), names=names, mask=Causal()),
        some(3, len(names), features=97, key_names=names),
        some(1, features=1),
    ):
        for line in render(got, lang=lang, width=width).split("\n"):
            assert cell_len(line) <= width, line


def test_what_is_cut_is_said():
    text = render(some(40, features=37))
    queries = block(text, "queries")
    shown = len(queries[2].split())
    assert queries[-1] == f"  … 28 more rows and {37 - shown} more features; the page shows all"
    assert len([line for line in queries if line.startswith("  ") and "." in line]) == 12
    assert "more columns; the page shows all" in block(text, "weights")[-1]
    assert "more tokens; the page shows all" in text
    assert "more" not in render(six()).split("One cell")[0]


def test_one_left_out_is_singular():
    assert block(render(some(13)), "output")[-1] == "  … 1 more row; the page shows all"
    assert block(render(some(13), lang="es"), "salida")[-1] == (
        "  … 1 fila más; la página lo muestra todo"
    )


def test_the_strongest_link_is_in_sight_however_long_the_text():
    query = np.zeros((60, 3))
    key = np.zeros((60, 3))
    query[50], key[30] = 9.0, 9.0
    got = explain(query=query, key=key, value=key, mask=Causal())
    assert (got.reason.query, got.reason.key) == (50, 30)
    rows = block(render(got), "weights")
    assert rows[-2].split()[0] == "51"
    assert rows[-2].split()[-1] == "1.00"
    assert rows[2].split()[-2:] == ["…", "31"]
    assert any(line.strip() == "⋮" for line in rows)


def test_nothing_acts_on_the_terminal():
    names = [*HOSTILE, "end"]
    text = render(some(len(names), names=names), color_system="256", force_terminal=True)
    plain = Text.from_ansi(text).plain
    controls = {c for c in plain if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert controls <= {"\n", "\u200d"}
    # what rich itself writes are colours and nothing else
    for sequence in text.split("\x1b")[1:]:
        assert sequence.startswith("[")
        assert sequence[1:].lstrip("0123456789;").startswith("m")
    assert "␛[31mred" in plain
    assert "<U+202E>" in plain
    assert "[bold" in plain  # not read as markup
    assert ":thumbs_up:" in plain  # nor as emoji
    assert "<U+D800>" in plain


def test_heat_is_colour_only_where_there_is_colour():
    assert "\x1b" not in render(six())
    plain = render(six(), force_terminal=True, no_color=True)
    assert set(re.findall("\x1b\\[([0-9;]*)m", plain)) <= {"0", "1", "2", "1;2", "1;4"}
    colour = render(six(), force_terminal=True, color_system="256")
    assert "48;5;" in colour
    assert Text.from_ansi(colour).plain.rstrip("\n") == render(six()).rstrip("\n")


def test_heat_has_a_sign_and_a_size():
    assert heat(1.0, 1.0).bgcolor.name == PLUS[-1]
    assert heat(-1.0, 1.0).bgcolor.name == MINUS[-1]
    assert heat(0.01, 1.0).bgcolor is None
    assert heat(0.09, 1.0, root=True).bgcolor.name == PLUS[0]
    for value, largest in ((np.nan, 1.0), (1.0, 0.0), (-np.inf, 1.0), (1.0, np.nan)):
        assert heat(value, largest).bgcolor is None


def test_small_shares_are_told_apart():
    values = np.array([[1.0, 0.09]])
    for shares, coloured in ((True, 2), (False, 1)):
        matrix = Matrix(values, ["a"], ["x", "y"], shares=shares)
        row = list(matrix_lines(matrix, 80, 12, EN))[1]
        assert sum(bool(span.style.bgcolor) for span in row.spans) == coloured


def test_grouped_heads_show_the_key_head_that_they_share():
    rng = np.random.default_rng(0)
    query, kv = rng.normal(size=(4, 2, 3)), rng.normal(size=(2, 5, 3))
    got = explain(query=query, key=kv, value=kv, head=1)  # heads 0 and 1 share key head 0
    text = render(got)
    for step in ("keys", "values"):
        assert block(text, step)[3].split()[1:] == [f"{number:.4f}" for number in kv[0, 0]]
    at = got.reason
    first = f"{query[1, at.query, 0]:.4f}", f"{kv[0, at.key, 0]:.4f}"
    line = next(line for line in text.split("\n") if line.startswith("  score "))
    assert re.findall(r"-?\d\.\d{4}", line)[:2] == list(first)


@pytest.mark.parametrize("colour", [*PLUS, *MINUS])
def test_white_text_can_be_read_on_every_heat(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_a_trace_by_its_own_door():
    torch = pytest.importorskip("torch")
    x = torch.tensor(SIX, requires_grad=True)
    file = io.StringIO()
    record = explain_trace(trace(x, x, x, mask=Causal(), dropout=0.5, seed=1))
    render_terminal(record, lang="en", console=Console(file=file, width=80))
    rows = block(file.getvalue(), "dropped")
    assert rows[0] == "dropped = weights · kept / 0.5   6 queries × 6 keys"
    assert set(rows[3].split()[1:]) <= {"0.0000", "2.0000", "·"}


def test_not_a_number_is_shown():
    x = SIX.copy()
    x[4, 1] = np.nan
    text = render(explain(query=x, key=x, value=x, names=WORDS))
    assert block(text, "queries")[7].split() == ["5", "one", "0.7700", "NaN", "0.1000"]
    assert "NaN" in block(text, "weights")[3]


def test_a_query_that_sees_nothing():
    mask = np.ones((6, 6), dtype=bool)
    mask[5] = False
    text = render(six(mask=mask))
    assert block(text, "weights")[8].split() == ["6", "step", *"······"]
    assert block(text, "output")[8].split() == ["6", "step", "0.0000", "0.0000", "0.0000"]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([0.25, -1.5], ["0.2500", "-1.5000"]),
        ([-0.00001, 1.0], ["0.0000", "1.0000"]),
        ([1e7, 1.0], ["1.0e+07", "1.0e+00"]),
        ([1e-9, 0.0], ["1.0e-09", "0.0e+00"]),
        ([np.inf, -np.inf, np.nan], ["∞", "-∞", "NaN"]),
    ],
)
def test_how_numbers_are_written(values, written):
    write, widest = number_format(np.array([values]), 2, 60, EN)
    assert [write(value) for value in values] == written
    assert widest == max(map(len, written))


def test_decimals_give_way_to_columns():
    values = np.full((1, 9), 0.5)
    assert [number_format(values, 9, room, EN)[0](0.5) for room in (63, 62, 54, 53, 9)] == [
        "0.5000",
        "0.500",
        "0.500",
        "0.50",
        "0.50",
    ]
    assert number_format(values, 9, 63, ES)[0](0.5) == "0,5000"
    assert short_number(-1234567.0, EN) == "-1.23e+06"


def test_visible_text():
    assert visible("a\x00\x1b\x7f\x85\u2066\u200b\ufeff\U000e0041") == (
        "a␀␛␡<U+0085><U+2066><U+200B><U+FEFF><U+E0041>"
    )
    assert visible("ñandú 東京 👍") == "ñandú 東京 👍"
    assert [named(text) for text in (" a b ", "", " ", "\n")] == ["a b", "∅", "␣", "␊"]


@settings(deadline=None)
@given(st.text(), st.integers(1, 30))
def test_fit_and_pad_keep_columns(text, cells):
    short = fit(text, cells)
    assert cell_len(short) <= cells
    assert cell_len(pad(short, cells)) == cells
    assert all(unicodedata.category(c) not in ("Cc", "Cs") for c in short)


@settings(deadline=None)
@given(st.lists(st.text("ab東", min_size=1, max_size=9)), st.integers(6, 30))
def test_fold_keeps_all_and_fits(pieces, cells):
    lines = list(fold(pieces, cells, indent="  "))
    assert all(cell_len(line) <= cells for line in lines)
    if all(cell_len(piece) <= cells - 2 for piece in pieces):
        assert " ".join(lines).split() == pieces


def test_all_sentences_are_there_in_both_languages():
    assert EN.sentences.keys() == ES.sentences.keys()
    for name, sentence in EN.sentences.items():
        blanks = re.compile(r"\{\w+\}")
        assert set(blanks.findall(sentence)) == set(blanks.findall(ES.sentences[name])), name
