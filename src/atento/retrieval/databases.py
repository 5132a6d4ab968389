"""Candidates from a vector database: a table of LanceDB, which runs in this process, from a folder.

Another database takes the same place with the two names of `Candidates`: ``name`` and ``propose``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atento._errors import InputError
from atento._optional import require
from atento.retrieval.question import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atento.retrieval.keys import Keys

__all__ = ["LanceCandidates"]

Array = npt.NDArray[Any]

METRICS = {"product": "dot", "distance": "l2"}
"""Our names for what is compared, and LanceDB's."""

PIECE = 8192
"""Keys that are written at a time."""

FEWEST = 256
"""Rows from which LanceDB learns cells."""


class LanceCandidates:
    """Candidates from a table of LanceDB.

    Args:
        table: as ``lancedb.connect(folder).open_table(name)`` returns it. One of its columns says
            which row of the keys a vector is: 0, 1, 2, …
        metric: "product" (of vectors, also for cosines of vectors of length 1) or "distance".
        row: the column of row numbers.
        vector: the column of vectors, float32.
        looked_at: where the table has cells, how many of them a query looks at; more find more,
            and take longer. None: LanceDB's own number.

    Raises:
        MissingLibraryError: LanceDB is not installed.
        InputError: no such column, or an option that there is not.
    """

    def __init__(
        self,
        table: Any,
        *,
        metric: str = "product",
        row: str = "row",
        vector: str = "vector",
        looked_at: int | None = None,
    ) -> None:
        require("lancedb", "to take candidates from its tables")
        if metric not in METRICS:
            raise InputError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}.")
        for name in (row, vector):
            if name not in table.schema.names:
                raise InputError(
                    f"the table {table.name!r} has no column {name!r}; it has "
                    f"{', '.join(table.schema.names)}."
                )
        self.table, self.name = table, "lancedb"
        self.looked_at = None if looked_at is None else whole_number("looked_at", looked_at)
        self._metric, self._row, self._vector = METRICS[metric], row, vector

    @classmethod
    def build(
        cls,
        folder: str | Path,
        keys: Keys,
        *,
        name: str = "keys",
        metric: str = "product",
        cells: int | None = None,
        looked_at: int | None = None,
    ) -> Self:
        """Write keys into a new table.

        Args:
            folder: of the database; it is made where it is not there.
            keys: what is written.
            name: of the table.
            metric: as in `LanceCandidates`.
            cells: how many; None: none, and every query is compared with all keys, which is exact.
            looked_at: as in `LanceCandidates`.

        Raises:
            MissingLibraryError: LanceDB is not installed.
            InputError: there are no keys, too few for cells, or a table of that name.
        """
        lancedb = require("lancedb", "to write a table of vectors")
        arrow = require("pyarrow", "to write a table of vectors")
        if keys.size == 0:
            raise InputError("a table of candidates is made of keys, and there are none yet.")
        if cells is not None and keys.size < FEWEST:
            raise InputError(
                f"cells are learned from {FEWEST} keys at least, and there are {keys.size}: leave "
                "out cells=."
            )
        if metric not in METRICS:
            raise InputError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}.")
        vector = arrow.list_(arrow.float32(), keys.dim)
        schema = arrow.schema([("row", arrow.int64()), ("vector", vector)])
        try:
            table = lancedb.connect(str(folder)).create_table(
                name, _batches(arrow, keys, schema), schema=schema
            )
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise InputError(
                f"{folder} has a table {name!r} already: open it, or choose another name."
            ) from None
        if cells is not None:
            kinds = require("lancedb.index", "to learn cells")
            number = whole_number("cells", cells)
            learned = kinds.IvfFlat(distance_type=METRICS[metric], num_partitions=number)
            table.create_index("vector", config=learned)
        return cls(table, metric=metric, looked_at=looked_at)

    def propose(self, queries: Array, count: int) -> Array:
        """Rows (query, count) int64 of keys that may be the nearest; −1 for none."""
        rows = np.full((len(queries), count), -1, np.int64)
        for at, query in enumerate(np.ascontiguousarray(queries, np.float32)):
            search = self.table.search(query, vector_column_name=self._vector)
            search = search.distance_type(self._metric).limit(count).select([self._row])
            if self.looked_at is not None:
                search = search.nprobes(self.looked_at)
            found = search.to_arrow()[self._row].to_numpy()
            rows[at, : len(found)] = found
        return rows


def _batches(arrow: Any, keys: Keys, schema: Any) -> Iterator[Any]:
    """The keys as record batches of the two columns."""
    for start in range(0, keys.size, PIECE):
        block = np.ascontiguousarray(keys.block(start, min(start + PIECE, keys.size)), np.float32)
        flat = arrow.array(block.reshape(-1))
        vectors = arrow.FixedSizeListArray.from_arrays(flat, keys.dim)
        rows = arrow.array(np.arange(start, start + len(block)))
        yield arrow.RecordBatch.from_arrays([rows, vectors], schema=schema)
