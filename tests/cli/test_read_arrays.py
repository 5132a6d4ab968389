"""Readers: what was written is read; what can't be read is named by file, line and column."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atento import InputError
from atento.cli.read_arrays import read_array, read_names
from atento.views.words import words

floats = st.floats(width=64, allow_nan=True, allow_infinity=True)
shapes = hnp.array_shapes
matrices = hnp.arrays(np.float64, shapes(min_dims=2, max_dims=2, max_side=5), elements=floats)
blocks = hnp.arrays(np.float64, shapes(min_dims=1, max_dims=4, max_side=4), elements=floats)
in_one_folder = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@in_one_folder
@given(blocks, st.sampled_from(["<f8", ">f8", "<f4", ">f2"]), st.booleans())
def test_npy_round_trip(tmp_path, array, dtype, fortran):
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    got = read_array(path)
    np.testing.assert_array_equal(got, array)
    assert got.dtype == array.dtype.newbyteorder("=")
    assert got.dtype.isnative


@in_one_folder
@given(matrices, st.sampled_from(",;\t "), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_csv_round_trip(tmp_path, array, delimiter, header, newline):
    path = tmp_path / "a.csv"
    rows = [delimiter.join(map(repr, row)) for row in array.tolist()]
    if header:
        rows.insert(0, delimiter.join(f'"feature{at}"' for at in range(array.shape[1])))
    path.write_bytes(newline.join(rows).encode("utf-8-sig"))
    np.testing.assert_array_equal(read_array(path), array)


@in_one_folder
@given(blocks)
def test_json_round_trip(tmp_path, array):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(array.tolist()), "utf-8")
    np.testing.assert_array_equal(read_array(path), array)


def test_what_numpy_writes_as_text_is_read(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 3))
    np.savetxt(tmp_path / "a.csv", array, header="by numpy", comments="# ")
    np.testing.assert_array_equal(read_array(tmp_path / "a.csv"), array)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("bare", [True, False])
def test_a_pickle_is_never_opened(tmp_path, bare):
    sprung, path = tmp_path / "sprung", tmp_path / "a.npy"
    if bare:
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        np.save(path, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy holds pickled Python objects.*never opens"):
        read_array(path)
    assert not sprung.exists()
    with path.open("rb") as file:  # the trap is real: it springs for whoever opens it
        pickle.load(file) if bare else np.load(file, allow_pickle=True)  # noqa: S301
    assert sprung.exists()


def npy(array, cut=None, extra=b""):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()[:cut] + extra


HEADER = b"\x93NUMPY\x01\x00v\x00"
FORGED = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.arange(6).reshape(2, 3)), "holds int64; floating-point numbers are expected"),
        (npy(np.ones((2, 3), bool)), "holds bool"),
        (npy(np.ones((2, 3), complex)), "holds complex128"),
        (npy(np.array(["a"])), "holds <U1"),
        (npy(np.zeros(3, dtype=[("a", "f4")])), r"holds \[\('a', '<f4'\)\]"),
        (npy(np.ones((2, 3)), cut=-1), r"promises 48 bytes.*shape \(2, 3\).*and 47 follow"),
        (npy(np.ones((2, 3)), extra=b"x"), "promises 48 bytes.*and 49 follow"),
        (npy(np.ones((2, 3)), cut=20), "is not a .npy file"),
        (b"0.1,0.2\n", "is not a .npy file: it does not begin as NumPy's files do"),
        (HEADER + FORGED.ljust(117) + b"\n", "promises .* bytes of numbers.*and 0 follow"),
        (HEADER + b"__import__('os')".ljust(117) + b"\n", "is not a .npy file"),
        (b"", r"a.npy is empty \(0 bytes\)"),
    ],
)
def test_bad_npy(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_array(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,x\n", 'a.csv, line 3, column 2: a number is expected. Got "x"'),
        ("1,2\n\n# note\n3,4\n5,y", 'line 5, column 2: a number is expected. Got "y"'),
        ("1,a\n", 'line 1, column 2: a number is expected. Got "a"'),
        ("1,2\na,b\n", 'line 2, column 1: a number is expected. Got "a"'),
        ("a,b\nc,d\n1,2\n", 'line 2, column 1: a number is expected. Got "c"'),
        ("1,,2\n", "line 1, column 2: a number is expected, and the cell is empty"),
        ("1,2,\n", "line 1, column 3: .*the cell is empty"),
        ("1,2\n3\n", "line 2: 1 number in this row and 2 in the rows above"),
        ("1,2\n3,4,5\n", "line 2: 3 numbers in this row and 2 in the rows above"),
        ("1;2\n0,5;1,5\n", "line 2, column 1: 0,5 has a decimal comma. Write 0.5"),
        ("-0,5\t1\n", "column 1: -0,5 has a decimal comma. Write -0.5"),
        ("a,b\n", 'line 1, column 1: a number is expected. Got "a"'),
        ("# only a note\n\n", "holds no numbers"),
        ("1_000,2\n", 'Got "1_000"'),
        ("1,\u0663\n", 'Got "\u0663"'),
        ("1," + "z" * 99 + "\n", 'Got "z{38}…'),
        ("0x10,1\n", 'Got "0x10"'),
    ],
)
def test_bad_csv(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        read_array(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1, 2], [3]]", r"at \[1\]: a list of 2 is expected.*Got a list of 1"),
        ("[[[1], [2]], [[3], 4]]", r"at \[1\]\[1\]: a list of 1 is expected.*Got 4"),
        ("[[1, 2], [3, [4]]]", r"at \[1\]\[1\]: a number is expected.*Got a list of 1"),
        ('[[1, "2"]]', r'at \[0\]\[1\]: a number is expected. Got "2"'),
        ("[[1, null]]", r"at \[0\]\[1\]: .*Got null. Write NaN"),
        ("[[1, true]]", r"at \[0\]\[1\]: .*Got true"),
        ('{"query": [[1]]}', "nested lists of numbers are expected.*Got an object"),
        ("3", "nested lists of numbers are expected.*Got 3"),
        ("[[1, 2]", "a.json, line 1, column 8: not JSON"),
        ("[" * 100_000, "lists are too deep"),
        ("[[[[[1]]]]]", "at most four deep"),
        ("[[" + "1" * 5000 + "]]", "a number is too long"),
        ("[[" + "1" * 400 + "]]", "a number is too long"),
    ],
)
def test_bad_json(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        read_array(path)


def test_files_that_are_none(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "plain").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "a.csv").write_bytes("1,2".encode("utf-16"))
    for name, message in (
        ("folder.npy", "folder.npy is a folder"),
        ("plain", "plain is a folder"),
        ("pipe.csv", "is not a regular file"),
        ("none.npy", "does not exist"),
        ("a.csv/b.csv", "can't be read: Not a directory"),
        ("a\0b.npy", "can't be a file name"),
        ("a.csv", r"is not UTF-8 text \(byte 1\)"),
        ("a.npz", "Got .npz. An .npz holds several arrays"),
        ("a.txt", "Got .txt. If it holds rows of numbers, rename it"),
        ("a.pt", r"Got \.pt\.$"),
        ("a", r"Got no ending\.$"),
    ):
        with pytest.raises(InputError, match=message):
            read_array(tmp_path / name)


def test_a_file_of_others(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((2, 2)))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs some tests, may read everything
    with pytest.raises(InputError, match=r"a\.npy may not be read by you"):
        read_array(path)


def test_errors_in_spanish(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2\n3,x\n", "utf-8")
    with pytest.raises(InputError, match=r'línea 2, columna 2: se espera un número\. Llegó "x"'):
        read_array(path, words("es"))


def test_names_are_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffñandú\r\n two words\n\nlast\n\n".encode())
    assert read_names(path) == ["ñandú", " two words", "", "last"]
    path.write_text("\n \n", "utf-8")
    with pytest.raises(InputError, match="holds no names"):
        read_names(path)
