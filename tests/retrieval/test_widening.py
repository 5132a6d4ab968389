"""float16 and bytes as float32: by NumPy and by Numba the same bits."""

import builtins
import sys

import numpy as np
import pytest

from atento.retrieval import widening
from atento.retrieval.widening import widened

HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


@pytest.fixture(params=["numpy", "numba"])
def way(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(widening, "WORTH", -1 if request.param == "numba" else sys.maxsize)
    monkeypatch.setattr(widening._converted, "count", 0)
    return request.param


def bits(array):
    return np.where(np.isnan(array), np.float32(np.nan), array).view(np.int32)


@pytest.mark.parametrize("finite", [True, False])
def test_every_float16(way, finite):
    halves = HALVES[np.isfinite(HALVES)] if finite else HALVES
    rows = halves.reshape(2, -1)
    np.testing.assert_array_equal(bits(widened(rows, None)), bits(rows.astype(np.float32)))


def test_bytes_times_their_scales(way):
    rows = np.arange(-127, 128).astype(np.int8).reshape(5, 51)
    scales = np.array([0, 1, 0.1, 1e-30, 3e5], np.float32)
    expected = rows.astype(np.float32) * scales[:, None]
    np.testing.assert_array_equal(widened(rows, None, scales), expected)


def test_it_writes_where_it_is_told(way):
    rows, out = HALVES[:12].reshape(4, 3), np.full((6, 3), 7, np.float32)
    found = widened(rows, out)
    assert np.shares_memory(found, out)
    assert (out[4:] == 7).all()
    for unfit in (np.empty((3, 3), np.float32), np.empty((4, 3), np.float64)):
        assert not np.shares_memory(widened(rows, unfit), unfit)


def test_rows_that_only_may_be_read_or_lie_apart(way):
    rows = HALVES[:600].reshape(20, 30)
    rows.flags.writeable = False
    for some in (rows, rows[::2], rows[:, ::3], rows[3:3]):
        np.testing.assert_array_equal(widened(some, None), some.astype(np.float32))


def test_numba_is_used_where_it_is_worth_it(monkeypatch):
    pytest.importorskip("numba")
    called = []
    monkeypatch.setattr(widening, "_kernels", lambda: called.append(1))
    monkeypatch.setattr(widening, "WORTH", 100)
    monkeypatch.setattr(widening._converted, "count", 0)
    for expected in (0, 0, 0, 1, 2):
        widened(HALVES[:30].reshape(5, 6), None)
        assert len(called) == expected


def test_numpy_does_without_numba(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "atento.retrieval" and "kernels" in (arguments[2] or ()):
            raise RuntimeError("no folder to keep what was compiled")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(widening, "WORTH", -1)
    widening._loaded.cache_clear()
    try:
        rows = HALVES[:12].reshape(4, 3)
        np.testing.assert_array_equal(widened(rows, None), rows.astype(np.float32))
        assert widening._kernels() is None
    finally:
        widening._loaded.cache_clear()
