"""What a dictionary holds in rows: the vector of each key, and the numbers of its value."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from atento.retrieval.keys import HeldKeys, Keys

__all__ = ["HeldItems"]


class HeldItems:
    """Keys with their vectors and numbers; adding and removing one costs the same at any size.

    Attributes:
        keys: the vectors.
        names: which key stands in each row.
        row: the row of each key.
        dtype: what vectors are held in.
        largest: no number of a vector is larger, plus or minus.

    >>> items = HeldItems(2, 1, "float32")
    >>> items.append(["a", "b", "c"], np.eye(3, 2), np.array([[1.0], [2.0], [3.0]]))
    >>> items.drop("a")  # the last one takes its row
    >>> items.names, items.row, items.numbers.ravel()
    (['c', 'b'], {'b': 1, 'c': 0}, array([3., 2.]))
    """

    def __init__(self, dim: int, of_value: int, dtype: str) -> None:
        self.dtype = dtype
        self.keys: Keys = HeldKeys(dim=dim, dtype=dtype)
        self.largest = 0.0
        self.names: list[Hashable] = []
        self.row: dict[Hashable, int] = {}
        self._numbers = HeldKeys(dim=of_value, dtype="float64") if of_value else None

    @classmethod
    def of(
        cls, keys: Keys, names: Sequence[Hashable], numbers: NDArray[np.float64] | None, dtype: str
    ) -> "HeldItems":
        """Keys that lie elsewhere, on disk say; they are read into memory when one changes.

        Args:
            keys: of length 1.
            names: of each row.
            numbers: (key, dv), or None.
            dtype: what they are held in from then on.
        """
        items = cls(keys.dim, 0 if numbers is None else numbers.shape[1], dtype)
        items.append(
            names, np.empty((0, keys.dim)), np.empty((0, 1)) if numbers is None else numbers
        )
        items.keys, items.largest = keys, 1.0
        return items

    @property
    def numbers(self) -> NDArray[np.float64] | None:
        """(key, dv), a view until the next change; None where values are objects."""
        return None if self._numbers is None else self._numbers.block(0, self._numbers.size)

    def append(
        self, names: Sequence[Hashable], vectors: NDArray[np.floating], numbers: NDArray[np.float64]
    ) -> None:
        """Add keys that are not there yet.

        Args:
            names: the keys.
            vectors: (key, d).
            numbers: (key, dv); not looked at where values are objects.
        """
        first = self._own_keys().append(vectors)
        self.largest = max(self.largest, float(np.abs(vectors).max(initial=0.0)))
        if self._numbers is not None:
            self._numbers.append(numbers)
        self.names += names
        self.row.update((name, first + at) for at, name in enumerate(names))

    def replace(self, name: Hashable, numbers: NDArray[np.float64] | None) -> None:
        """Give a key other numbers."""
        if self._numbers is not None:
            self._numbers.replace(self.row[name], numbers)

    def drop(self, name: Hashable) -> None:
        """Remove a key; the last one takes its row."""
        row = self.row.pop(name)
        self._own_keys().drop(row)
        if self._numbers is not None:
            self._numbers.drop(row)
        last = self.names.pop()
        if last != name:
            self.names[row] = last
            self.row[last] = row

    def _own_keys(self) -> HeldKeys:
        """The keys in memory, where they can change."""
        if not isinstance(self.keys, HeldKeys):
            rows = self.keys.rows(np.arange(self.keys.size))
            self.keys = HeldKeys(rows, dim=self.keys.dim, dtype=self.dtype)
        return self.keys

    def copy(self) -> "HeldItems":
        """The same in memory of its own."""
        numbers = self.numbers
        of_value = 0 if numbers is None else numbers.shape[1]
        vectors = self.keys.rows(np.arange(self.keys.size))
        other = HeldItems(self.keys.dim, of_value, self.dtype)
        other.append(self.names, vectors, np.empty((0, 1)) if numbers is None else numbers)
        return other
