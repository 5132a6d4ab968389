"""Products of some queries with some keys in registers, as code for LLVM.

A product of matrices with 64 features writes a number for every 64 multiplications: through a
library, those numbers go to memory and come back. Made here, a strip of them stays in the
first-level cache, where `kernels.py` reads it; and keys packed once serve all queries of a head.
"""
# mypy: disallow_untyped_decorators=False
# Numba's have no types.

from typing import Any

import llvmlite.binding
import numba.extending
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

__all__ = ["PANEL", "TILE", "packed_keys", "padded_queries", "product_tile", "tile_of"]

intrinsic: Any = numba.extending.intrinsic

TILE = 6
"""Queries whose sums are in registers together."""

FUSED = ("contract",)
NUMBER, WHOLE, PLACE = ir.FloatType(), ir.IntType(64), ir.IntType(32)


def _has_wide_registers() -> bool:
    """Whether there are 32 registers of 16 numbers each."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


LANES, VECTORS = (16, 4) if _has_wide_registers() else (8, 2)
PANEL = LANES * VECTORS
"""Keys that stand next to each other, feature by feature."""


def packed_keys(key: npt.NDArray[Any], panel: int = PANEL) -> npt.NDArray[Any]:
    """Keys (key, feature) as panels (panel, feature, key within it), the last filled with 0."""
    length, features = key.shape
    panels = -(-length // panel)
    packed = np.zeros((panels, features, panel), np.float32)
    whole = length // panel
    # (panel, key within it, feature) -> (panel, feature, key within it)
    packed[:whole] = key[: whole * panel].reshape(whole, panel, features).swapaxes(1, 2)
    if whole < panels:
        packed[whole, :, : length - whole * panel] = key[whole * panel :].T
    return packed


def padded_queries(query: npt.NDArray[Any], factor: float) -> npt.NDArray[Any]:
    """Queries (query, feature) times a factor, and rows of 0 so that a tile may begin anywhere."""
    padded = np.zeros((len(query) + 2 * TILE, query.shape[1]), np.float32)
    with np.errstate(all="ignore"):
        np.multiply(query, np.float32(factor), out=padded[: len(query)], casting="same_kind")
    return padded


def tile_of(lanes: int, vectors: int) -> Any:
    """A compiled function that fills a tile of products, `TILE` queries by lanes · vectors keys.

    It takes addresses of the first query, of a panel and of what is filled, how many numbers lie
    from one row of the latter to the next, and the number of features, at least 1. The queries'
    features lie one after the other.
    """

    @intrinsic
    def tile(_: Any, _query: Any, _panel: Any, _out: Any, _stride: Any, _features: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            _Tile(builder, lanes, vectors).fill(*args)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return tile


class _Tile:
    """Code that fills a tile: one pass over the features, all sums in registers."""

    def __init__(self, builder: Any, lanes: int, vectors: int) -> None:
        self.builder, self.lanes, self.vectors = builder, lanes, vectors
        self.vector = ir.VectorType(NUMBER, lanes)

    def fill(self, query: Any, panel: Any, out: Any, stride: Any, features: Any) -> None:
        """Queries, keys and the tile are addresses."""
        builder = self.builder
        before = builder.block
        loop, done = (builder.append_basic_block(name) for name in ("features", "filled"))
        builder.branch(loop)
        builder.position_at_end(loop)
        feature = builder.phi(WHOLE)
        feature.add_incoming(WHOLE(0), before)
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        sums = [[builder.phi(self.vector) for _ in range(self.vectors)] for _ in range(TILE)]
        first = builder.mul(feature, WHOLE(self.lanes * self.vectors))
        keys = [self._load(panel, first, v) for v in range(self.vectors)]
        added = []
        for i, row in enumerate(sums):
            place = builder.add(feature, builder.mul(features, WHOLE(i)))
            number = self._everywhere(builder.load(self._at(query, place), align=4))
            added.append(
                [
                    builder.fadd(total, builder.fmul(number, own, flags=FUSED), flags=FUSED)
                    for total, own in zip(row, keys, strict=True)
                ]
            )
        following = builder.add(feature, WHOLE(1))
        feature.add_incoming(following, loop)
        for row, new in zip(sums, added, strict=True):
            for total, more in zip(row, new, strict=True):
                total.add_incoming(zero, before)
                total.add_incoming(more, loop)
        builder.cbranch(builder.icmp_signed("<", following, features), loop, done)
        builder.position_at_end(done)
        for i, row in enumerate(added):
            for v, total in enumerate(row):
                place = builder.add(builder.mul(stride, WHOLE(i)), WHOLE(v * self.lanes))
                builder.store(total, self._vector_at(out, place), align=4)

    def _at(self, address: Any, place: Any) -> Any:
        start = self.builder.inttoptr(address, NUMBER.as_pointer())
        return self.builder.gep(start, [place])

    def _vector_at(self, address: Any, place: Any) -> Any:
        return self.builder.bitcast(self._at(address, place), self.vector.as_pointer())

    def _load(self, panel: Any, first: Any, v: int) -> Any:
        place = self.builder.add(first, WHOLE(v * self.lanes))
        return self.builder.load(self._vector_at(panel, place), align=4)

    def _everywhere(self, number: Any) -> Any:
        """The number in every lane."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(nothing, number, PLACE(0))
        lanes = ir.Constant(ir.VectorType(PLACE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, nothing, lanes)


product_tile: Any = tile_of(LANES, VECTORS)
