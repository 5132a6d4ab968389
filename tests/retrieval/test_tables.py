"""Tables of keys and values: columns by name, and a bad line named by its number."""

import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import atento
from atento.retrieval.tables import read_table

PAIRS = "país,goles\nméxico,7\nalemania,10\ninglaterra,8\nperro,5\n"


@pytest.fixture
def write(tmp_path):
    def file(content, name="pairs.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


def test_two_columns(write):
    table = read_table(write(PAIRS))
    assert table.keys == ["méxico", "alemania", "inglaterra", "perro"]
    assert table.values == [7, 10, 8, 5]
    assert (table.names, table.numbers, table.lines) == (("país", "goles"), True, [2, 3, 4, 5])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "k;v\nméxico;7,5\nperro;x"),
        ("a.tsv", "k\tv\nméxico\t7,5\nperro\tx\n"),
        ("a.csv", '\ufeffk,v\r\nméxico,"7,5"\r\n\r\nperro,x\r\n'),
        ("a.CSV", 'k,v\nméxico,"7,5"\n ,\nperro,x'),
        ("a.jsonl", '{"k": "méxico", "v": "7,5"}\n\n{"v": "x", "k": "perro", "w": 1}\n'),
    ],
)
def test_signs_between_the_columns(write, name, content):
    table = read_table(write(content, name))
    assert (table.keys, table.values, table.names) == (
        ["méxico", "perro"],
        ["7,5", "x"],
        ("k", "v"),
    )
    assert not table.numbers


def test_columns_by_name_and_one_column_alone(write):
    path = write("a,b,c\n1,dos,3\n4,five,6.5")
    table = read_table(path, key="b", value="c")
    assert (table.keys, table.values, table.numbers) == (["dos", "five"], [3, 6.5], True)
    assert read_table(path, key="b").names == ("b", "a")
    assert read_table(path, key="c").names == ("c", "b")
    alone = read_table(write("word\nuno\ndos"))
    assert (alone.keys, alone.values, alone.names) == (["uno", "dos"], [None, None], ("word", None))
    assert not alone.numbers


def test_lines_are_those_where_a_row_begins(write):
    table = read_table(write('k,v\n"one\ntwo\nthree",1\n\nfour,2\n"five\n",3'))
    assert table.lines == [2, 6, 7]
    assert table.keys == ["one\ntwo\nthree", "four", "five\n"]


def test_a_row_that_comes_again_adds_nothing(write):
    table = read_table(write("k,v\na,1\nb,2\na,1"))
    assert (table.keys, table.lines) == (["a", "b"], [2, 3])


def test_a_field_of_ten_megabytes_and_marks_of_all_scripts(write):
    before = csv.field_size_limit()
    keys = ["x" * 10_000_000, "שלום עולם", "n\u0303", "a\0b", "\u202e", "😀"]
    table = read_table(write("k,v\n" + "".join(f"{key},1\n" for key in keys)))
    assert table.keys == keys
    assert csv.field_size_limit() == before


def test_json_values_of_any_kind(write):
    table = read_table(write('{"k": 5, "v": [1]}\n{"k": "b", "v": null}', "a.jsonl"))
    assert (table.keys, table.values, table.numbers) == (["5", "b"], [[1], None], False)
    assert not read_table(write('{"k": "a", "v": true}', "a.jsonl")).numbers


def test_parquet(write, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1, 2], "país": ["méxico", "perro"]}), path)
    table = read_table(path, key="país")
    assert (table.keys, table.values, table.names) == (["méxico", "perro"], [1, 2], ("país", "n"))
    pq.write_table(pa.table({"k": ["a", None], "v": [1, 2]}), path)
    with pytest.raises(atento.InputError, match=r"line 2: the key \(column 'k'\) is empty"):
        read_table(path)
    with pytest.raises(atento.InputError, match="can't be read as parquet: "):
        read_table(write("PAR1", "b.parquet"))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "pairs.csv is empty (0 bytes)."),
        ("\n \n,\n", {}, "pairs.csv holds nothing but blank lines."),
        ("k,v\n", {}, "pairs.csv has columns (k, v) and no rows."),
        (
            PAIRS,
            {"key": "pais"},
            "pairs.csv has no column 'pais'. Its columns are 'país', 'goles'.",
        ),
        (PAIRS, {"value": "gols"}, "pairs.csv has no column 'gols'."),
        ("a,a\n1,2", {"key": "a"}, "pairs.csv has more than one column 'a'."),
        ("k,v\na,1\nb\nc,3", {}, "pairs.csv, line 3: 1 fields, and the first row has 2."),
        ("k,v\n\n\na,1,2", {}, "pairs.csv, line 4: 3 fields, and the first row has 2."),
        ('k,v\na,1\n"b,2\nc,3\n', {}, "pairs.csv, line 3: not readable as a table ("),
        ("k,v\na,1\n ,2", {}, "pairs.csv, line 3: the key (column 'k') is empty."),
        ("k,v\na,1\nb,2\na,3", {}, "line 4: the key 'a' is there already, in line 2, with another"),
        (b"k,v\nm\xe9xico,7", {}, "pairs.csv is not UTF-8 text (byte 6). Save it as UTF-8."),
        (b"\xff\xfek\0", {}, "pairs.csv is not UTF-8 text (byte 1)."),
    ],
)
def test_bad_tables(write, content, options, message):
    with pytest.raises(atento.InputError) as caught:
        read_table(write(content), **options)
    assert message in str(caught.value)
    assert caught.value.name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: Expecting property name"),
        ("[1]", "line 2: an object is expected."),
        ("{}", "line 2: an object is expected."),
        ('{"v": 1}', "line 2: 'k' is missing."),
        ("[" * 100_000, "line 2: too deep."),
    ],
)
def test_bad_lines_of_json(write, line, message):
    with pytest.raises(atento.InputError) as caught:
        read_table(write(f'{{"k": "a", "v": 1}}\n{line}\n', "a.jsonl"))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.json"])
def test_an_unknown_ending(write, name):
    with pytest.raises(atento.InputError, match=r"tables are read from \.csv, \.tsv, \.jsonl"):
        read_table(write("x", name))


def test_no_file(tmp_path):
    with pytest.raises(atento.InputError, match=r"none\.csv does not exist"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(atento.InputError, match="can't be read: Is a directory"):
        read_table(tmp_path / "folder.csv")


def test_without_pyarrow(write, monkeypatch):
    from atento import _optional

    monkeypatch.setattr(_optional, "find_spec", lambda _name: None)
    with pytest.raises(ImportError, match=r"pyarrow is needed to read \.parquet files"):
        read_table(write("PAR1", "b.parquet"))
