"""The tables of heads: columns, widths, orders, colours, and words in both languages."""

import io
import math

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from atento._errors import InputError
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.reading.roles import NUMBERS, OTHER, ROLES
from atento.views.terminal_heads import (
    SORTED_BY,
    _shortened,
    change_lines,
    check_sort,
    head_lines,
    rows_of,
    skipped_lines,
)
from atento.views.words import LANGUAGES, words

HOSTILE = "e\x1b[31m\u202e[bold]"


def row(layer="model.layers.0.self_attn", head=0, role=OTHER, **numbers):
    return {"layer": layer, "head": head, "role": role, **dict.fromkeys(NUMBERS), **numbers}


def table(rows, width=80, lang="en", **options):
    return [line.plain for line in head_lines(rows, width, words(lang), **options)]


ROWS = [
    row(head=0, role="sink", first=0.71, previous=0.1, entropy=1.25),
    row(head=1, first=0.2, previous=0.3, entropy=3.5),
    row("model.layers.11.self_attn", 0, "previous token", first=0.0, previous=0.93, entropy=0.5),
    row("model.layers.11.self_attn", 1, "previous token", first=0.9, previous=0.95, entropy=123.4),
]


def test_a_row_for_each_head():
    assert table(ROWS) == [
        "layers: model.layers.*.self_attn",
        "layer  head  role            share  previous  first  entropy",
        "0         0  sink             0.71      0.10   0.71     1.25",
        "0         1  other               –      0.30   0.20     3.50",
        "11        0  previous token   0.93      0.93   0.00     0.50",
        "11        1  previous token   0.95      0.95   0.90      123",
        "",
        "Roles: previous token 2 · sink 1 · other 1",
    ]


def test_spanish():
    lines = table(ROWS, lang="es")
    assert lines[:3] == [
        "capas: model.layers.*.self_attn",
        "capa  cabeza  papel           parte  anterior  primero  entropía",
        "0          0  sumidero         0,71      0,10     0,71      1,25",
    ]
    assert lines[-1] == "Papeles: token anterior 2 · sumidero 1 · otro 1"


def order(lines):
    return [tuple(line.split()[:2]) for line in lines if line[:1].isdigit()]


def test_orders():
    by = {sort: order(table(ROWS, sort=sort)) for sort in ("layer", "role", "first", "entropy")}
    assert by["layer"] == [("0", "0"), ("0", "1"), ("11", "0"), ("11", "1")]
    # as `ROLES` has them, the most decided first, those without a role last
    assert by["role"] == [("11", "1"), ("11", "0"), ("0", "0"), ("0", "1")]
    assert by["first"] == [("11", "1"), ("0", "0"), ("0", "1"), ("11", "0")]
    assert by["entropy"] == [("11", "1"), ("0", "1"), ("0", "0"), ("11", "0")]
    without = [row(head=0), row(head=1, max=0.0)]
    assert [line.split()[1] for line in table(without, sort="max")[1:3]] == ["1", "0"]


def test_heads_without_a_role_are_counted_last():
    roles = [OTHER, OTHER, OTHER, "sink", "induction", "induction"]
    lines = table([row(head=head, role=role) for head, role in enumerate(roles)])
    assert lines[-1] == "Roles: induction 2 · sink 1 · other 3"


def test_large_numbers_have_no_decimals_on_either_side_of_zero():
    lines = table([row(offset=-1234.4), row(head=1, offset=-1.5), row(head=2, offset=987.6)])
    assert [line.split()[-1] for line in lines[1:4]] == ["-1234", "-1.50", "988"]


def test_every_order_is_known_and_others_are_refused():
    for sort in SORTED_BY:
        check_sort(sort, words("en"))
        assert table(ROWS, sort=sort)
    with pytest.raises(InputError, match="--sort must be one of layer, role, entropy"):
        check_sort("size", words("en"))


def test_at_most_so_many():
    lines = table(ROWS, top=3)
    assert len(order(lines)) == 3
    assert "… 1 more head; --top 0 shows all" in lines
    assert lines[-1].startswith("Roles: previous token 2")
    assert "shows all" not in "".join(table(ROWS, top=4))
    assert table(ROWS, top=0) == table(ROWS)


FULL = [
    row(
        f"encoder.block.{layer}.layer.0.SelfAttention" if layer < 12 else HOSTILE * 9,
        head,
        role,
        **dict.fromkeys(NUMBERS, 0.5),
    )
    for layer in (0, 5, 11, 12)
    for head, role in enumerate([*(role.name for role in ROLES), OTHER])
]


@pytest.mark.parametrize("width", [10, 40, 80, 120, 200])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_line_fits(width, lang):
    widest = max(width, 40)
    lines = table(FULL, width, lang)
    assert all(cell_len(line) <= widest for line in lines)
    assert len(lines) > len(FULL)
    assert not set("".join(lines)) & set("\x1b\u202e")


def test_a_wide_terminal_shows_every_number():
    heading = table(FULL[:8], 170)[0].split()
    word = words("en")
    assert set(heading[4:]) == {word(f"number.{name}") for name in NUMBERS}
    narrow = table(FULL[:8], 80)[0].split()
    assert heading[: len(narrow)] == narrow


@pytest.mark.parametrize("number", [math.nan, math.inf, None])
def test_what_is_no_number_is_shown(number):
    text = "\n".join(table([row(previous=number, entropy=1.0)]))
    assert {math.inf: "∞", None: "–"}.get(number, "NaN") in text


def test_colours_are_those_of_shares_alone():
    shown = list(head_lines(ROWS, 80, words("en")))
    line = shown[2]  # a sink: first 0.71
    coloured = {
        line.plain[span.start : span.end].strip()
        for span in line.spans
        if "on #" in str(span.style)
    }
    assert coloured == {"0.71"}  # and not its entropy; 0.10 is near zero
    bold = {
        line.plain[span.start : span.end].strip()
        for span in line.spans
        if "bold" in str(span.style)
    }
    assert bold == {"0.71"}
    plain = Console(file=io.StringIO(), width=80)
    plain.print(Text("\n").join(shown), no_wrap=True)
    assert "\x1b" not in plain.file.getvalue()


@pytest.mark.parametrize(
    ("names", "common", "rest"),
    [
        (["h.0.attn", "h.11.attn"], "h.*.attn", ["0", "11"]),
        (["h.0.attn", "h.0.attn"], "", ["h.0.attn"] * 2),
        (["a.b", "c.d"], "", ["a.b", "c.d"]),
        (["h.1", "h.12"], "h.*", ["1", "12"]),
        (["0.a", "1.a"], "*.a", ["0", "1"]),
        (["h.1.attn", "h.1.attn (2)"], "h.1.*", ["attn", "attn (2)"]),
        (["h", "h.h"], "", ["h", "h.h"]),
        (["h.0.h", "h.h"], "", ["h.0.h", "h.h"]),
        (["e.0.self", "e.0.cross", "e.1.self"], "e.*", ["0.self", "0.cross", "1.self"]),
    ],
)
def test_what_names_have_in_common(names, common, rest):
    assert _shortened(names) == (common, rest)


def test_what_was_skipped_is_told_once_for_each_reason():
    skipped = [("a", "no such kernel."), ("b", "it did not run."), ("c", "no such kernel.")]
    lines = [line.plain for line in skipped_lines(skipped, 80, words("en"))]
    assert lines == [
        "",
        "3 layers were not read",
        "  a, c: no such kernel.",
        "  b: it did not run.",
    ]
    assert list(skipped_lines([], 80, words("en"))) == []


# Two recordings.


def recorded(passes=1, **statistics):
    """One layer of two heads over three tokens; statistics (head, query)."""
    layers = [
        LayerRecord(
            layer="h.0.attn",
            kind="self",
            side=None,
            way="test",
            query=None,
            key=None,
            lse=np.zeros((1, 2, 3)),
            mask=None,
            scale=1.0,
            statistics={name: np.array([values]) for name, values in statistics.items()},
            axes=dict.fromkeys(statistics, ("head", "query")),
            key_length=3,
        )
        for _ in range(passes)
    ]
    return Recording(layers)


def changes(first, second, width=80, lang="en", **options):
    lines = change_lines(first.compare(second), width, words(lang), **options)
    return [line.plain for line in lines]


BEFORE = recorded(previous=[[0.1, 0.2, 0.3], [0.0, 0.9, 0.9]], entropy=[[0.5] * 3, [0.1] * 3])
AFTER = recorded(previous=[[0.1, 0.2, 0.9], [0.0, 0.9, 0.9]], entropy=[[0.5] * 3, [0.1, 0.1, 0.7]])


def test_changes():
    assert changes(BEFORE, AFTER) == [
        "Mean change of each head, the most changed first",
        "layer     head  role            previous  entropy   lse",
        "h.0.attn     0  other               0.20     0.00  0.00",
        "h.0.attn     1  previous token      0.00     0.20  0.00",
        "",
        "The largest single change of each statistic",
        "  lse: the same everywhere",
        "  previous: 0.6 in layer h.0.attn, head 0, at (0, 2) (batch first)",
        "  entropy: 0.6 in layer h.0.attn, head 1, at (0, 2) (batch first)",
    ]


def test_a_role_that_changed():
    after = recorded(previous=[[0.9] * 3, [0.0, 0.9, 0.9]], entropy=[[0.5] * 3, [0.1] * 3])
    assert any("other → previous token" in line for line in changes(BEFORE, after))
    assert any("otro → token anterior" in line for line in changes(BEFORE, after, lang="es"))


def test_without_shares_all_statistics_count():
    before, after = (recorded(entropy=[[1.0] * 3, [last] * 3]) for last in (1.0, 2.0))
    assert [line.split()[1] for line in changes(before, after)[2:4]] == ["1", "0"]


def test_nan_is_a_change_that_is_seen():
    after = recorded(previous=[[0.1, 0.2, 0.3], [0.0, 0.9, math.nan]], entropy=[[0.5] * 3] * 2)
    text = "\n".join(changes(BEFORE, after))
    assert "previous: NaN in layer h.0.attn, head 1" in text


def test_passes_are_told_apart():
    first, second = (recorded(2, previous=[[0.1] * 3, [last] * 3]) for last in (0.2, 0.3))
    assert [row["layer"] for row in rows_of(first)] == ["h.0.attn"] * 2 + ["h.0.attn (2)"] * 2
    assert sum("attn (2)" in line for line in changes(first, second)[:7]) == 2


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_changes_fit(width, lang):
    assert all(cell_len(line) <= width for line in changes(BEFORE, AFTER, width, lang))


def test_both_languages_have_the_same_words_with_the_same_blanks():
    from string import Formatter

    def blanks(sentence):
        return {field for _, field, _, _ in Formatter().parse(sentence) if field}

    english, spanish = (words(lang).sentences for lang in ("en", "es"))
    assert english.keys() == spanish.keys()
    for name in english:
        assert blanks(english[name]) == blanks(spanish[name]), name
    for name in (*NUMBERS, "lse"):
        assert f"number.{name}" in english
    for role in [*(role.name for role in ROLES), OTHER]:
        assert f"role.{role.replace(' ', '_')}" in english
