"""Products in registers: those of the matrices, for any sizes and registers of other widths."""

import numba
import numpy as np
import pytest

from atento.statistics import kernels
from atento.statistics.tile_product import (
    PANEL,
    TILE,
    packed_keys,
    padded_queries,
    product_tile,
    tile_of,
)

RNG = np.random.default_rng(43)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def tile_product(tile, query, key, panel):
    """The first queries with all keys, through one tile per panel."""
    panels = packed_keys(key, panel)

    @numba.njit
    def fill(query, panels, out):
        features, stride = query.shape[1], out.shape[1]
        for n in range(len(panels)):
            into = out.ctypes.data + n * panel * 4
            start = panels.ctypes.data + n * features * panel * 4
            tile(query.ctypes.data, start, into, stride, features)

    out = np.full((TILE + 1, len(panels) * panel), np.float32(-7))
    fill(padded_queries(query, 1.0), panels, out)
    assert (out[TILE] == -7).all()  # nothing beyond the tile
    return out[:TILE]


@pytest.mark.parametrize(("lanes", "vectors"), [(8, 2), (4, 1), (16, 4)])
@pytest.mark.parametrize("features", [1, 3, 64])
def test_a_tile_of_any_registers_is_the_product(lanes, vectors, features):
    query, key = normal(TILE, features), normal(37, features)
    found = tile_product(tile_of(lanes, vectors), query, key, lanes * vectors)
    wanted = query.astype(np.float64) @ key.astype(np.float64).T
    np.testing.assert_allclose(found[:, :37], wanted, rtol=1e-5, atol=1e-5)
    assert not found[:, 37:].any()


def test_what_is_not_finite_stays_with_its_query_and_its_key():
    query, key = normal(TILE, 5), normal(PANEL + 3, 5)
    query[2, 1], key[4, 0] = np.nan, np.inf
    found = tile_product(product_tile, query, key, PANEL)[:, : PANEL + 3]
    with np.errstate(all="ignore"):
        wanted = query @ key.T
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))
    np.testing.assert_array_equal(
        np.isfinite(found).sum(1), [PANEL + 2] * 2 + [0] + [PANEL + 2] * 3
    )


@pytest.mark.parametrize("length", [0, 1, PANEL - 1, PANEL, 2 * PANEL + 5])
def test_keys_are_packed_by_panels_and_the_last_is_filled_with_0(length):
    key = normal(length, 3)
    panels = packed_keys(key)
    assert panels.shape == (-(-length // PANEL), 3, PANEL)
    assert panels.dtype == np.float32
    flat = panels.swapaxes(1, 2).reshape(-1, 3)
    np.testing.assert_array_equal(flat[:length], key)
    assert not flat[length:].any()


def test_queries_are_scaled_and_leave_room_for_a_whole_strip():
    query = normal(7, 3)
    kept = query.copy()
    padded = padded_queries(query[:, ::-1], 0.25)
    np.testing.assert_array_equal(padded[:7], kept[:, ::-1] * np.float32(0.25))
    np.testing.assert_array_equal(query, kept)
    assert not padded[7:].any()
    assert len(padded) >= 7 + kernels.STRIP[0]
    assert kernels.STRIP[0] % TILE == 0
