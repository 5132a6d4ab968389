"""SoftDict: a dictionary that finds what is there, and attends to all of it otherwise."""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping
from itertools import islice
from os import PathLike
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError
from atento.retrieval.embedders import embedder
from atento.retrieval.finding import Found, checked_share, checked_top, find
from atento.retrieval.held_items import HeldItems
from atento.retrieval.key_forms import TEXT, Kind, key_form, query_forms, shown, vectors_of
from atento.retrieval.keys import HeldKeys
from atento.retrieval.match import Listed, Match, Matches, Ranking
from atento.retrieval.no_such_key import NoSuchKeyError, not_there
from atento.retrieval.pairs import checked_pair, same_value
from atento.retrieval.similarity import (
    USUAL_TEMPERATURE,
    checked_similarity,
    checked_temperature,
    unit_rows,
)
from atento.retrieval.values import Form, value_form

__all__ = ["SoftDict"]

USUAL_SIMILARITY = {"text": "cosine", "vector": "dot", "number": "distance"}

EVERY_WEIGHT = 1000
"""Up to so many keys a match lists the weights of all."""

Array = NDArray[Any]
Embed = Callable[[list[str]], Any]


class SoftDict(MutableMapping[Any, Any]):
    """A dictionary that attends.

    ``d[key]`` is exact, as in a dict. ``d.attend(query)`` answers for any query, with a mean of all
    values, weighted by how near their keys are:

        score(query, key) = similarity(query, key) / temperature
        weights = softmax(scores)        value = Σ weights · values

    Keys are texts, vectors (tuples or arrays of one axis) or numbers: one kind, and vectors of one
    size. Texts are the same key where they are the same characters, as in a dict: "é" and "e" with
    an accent behind it are two keys, near to each other as far as the embedder knows.

    Values are numbers, arrays of one shape (or lists of numbers), or any objects. Numbers and
    arrays have a mean; of objects the nearest are listed. One kind in a dictionary.

    Args:
        pairs: a mapping, or (key, value) pairs. Among pairs a key may come again with the same
            value, and not with another: a dict would keep the last without a word.
        embed: what makes vectors of texts: None or "mini" (the embedded model, English and
            Spanish), a model's name or folder, or a function from a list of texts to an array
            (text, d). It is asked when somebody attends, for all new keys at once.
        similarity: "dot" (q·k/√d, as in attention), "cosine" or "distance" (−‖q − k‖²/2: the
            Gaussian kernel). By default cosine for texts, dot for vectors, distance for numbers.
        temperature: divides the similarity; by default 0.1 for cosine and 1 for the others. For
            distance it is the bandwidth squared. 0: only the nearest keys count.
        dtype: in which vectors are held: "float32", "float64" or "float16". Distances between
            numbers and between vectors are always computed in float64.

    Raises:
        InputError: keys or values of mixed kinds or sizes, NaN or ∞ in them, a text without a
            visible character, or an option that there is not.

    >>> lookup = SoftDict({"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5})
    >>> lookup["méxico"]
    7
    >>> lookup.attend("país")
    Match('país' → 8.286: 'inglaterra' 55.3%, 'alemania' 24.4%, 'méxico' 20.3%, …)
    """

    _kind: Kind | None
    _shape: tuple[int, ...] | None
    _values: dict[Hashable, Any]
    _waiting: dict[Hashable, NDArray[np.float64] | None]  # keys that have no vector yet
    _held: HeldItems | None

    def __init__(
        self,
        pairs: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (),
        *,
        embed: str | PathLike[str] | Embed | None = None,
        similarity: str | None = None,
        temperature: float | None = None,
        dtype: str = "float32",
    ) -> None:
        HeldKeys(dim=1, dtype=dtype)  # refuses a dtype that it does not know
        self._embed: Any = embed
        self._embedder: Any = None
        self._asked_similarity = None if similarity is None else checked_similarity(similarity)
        self._asked_temperature = None if temperature is None else checked_temperature(temperature)
        self._dtype = dtype
        self._clear()
        self._fill(pairs)

    @classmethod
    def open(cls, folder: str | PathLike[str], *, embed: Any = None) -> Self:
        """The dictionary that `save` wrote, or any index whose keys are all different.

        Vectors of texts are read where they lie, block by block, until a key is added or removed.

        Args:
            folder: of the index.
            embed: what made its vectors; None: found by its name, where it has one.

        Raises:
            InputError: no index, a damaged one, keys that come twice, or another embedder.
        """
        from atento.retrieval.soft_dict_on_disk import load_items

        stored = load_items(folder, embed)
        opened = cls(embed=embed, **stored.settings)
        opened._fill(stored.pairs)
        opened._embedder = stored.embedder
        if stored.items is not None:
            opened._held = stored.items
            opened._waiting.clear()
        return opened

    def save(self, folder: str | PathLike[str], *, replace: bool = False) -> None:
        """Write an index into a folder, with the vectors: opening embeds nothing.

        Args:
            folder: empty, or not there yet.
            replace: write over an index that is there, at once when all is written.

        Raises:
            InputError: there is no key, something else is in the folder, or a value that no index
                can hold.
        """
        from atento.retrieval.soft_dict_on_disk import save_items

        self._check_any()
        reader = self._reader() if self._kind == TEXT else None
        asked = {"similarity": self._asked_similarity, "temperature": self._asked_temperature}
        settings = {**asked, "dtype": self._dtype}
        held = self._embedded()
        save_items(folder, self._values, held, embedder=reader, settings=settings, replace=replace)

    # --- as in a dict

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._values[key_form(key)[1]]
        except (KeyError, InputError):
            raise NoSuchKeyError(not_there(key, self._values)) from None

    def __contains__(self, key: object) -> bool:
        try:
            return key_form(key)[1] in self._values
        except InputError:
            return False

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default where it is not there."""
        try:
            return self._values.get(key_form(key)[1], default)
        except InputError:
            return default

    def __setitem__(self, key: Any, value: Any) -> None:
        kind, form = key_form(key)
        came = value_form(value)
        if len(self._values) == (form in self._values):  # no other key: it may be of any kind
            if (kind, came.shape) != (self._kind, self._shape):
                self._clear()
            self._kind, self._shape = kind, came.shape
        self._check_kinds(key, kind, came)
        if self._held is not None and form in self._held.row:
            self._held.replace(form, came.numbers)
        else:
            self._waiting[form] = came.numbers
        self._values[form] = value

    def __delitem__(self, key: Any) -> None:
        self[key]  # raises where it is not there
        form = key_form(key)[1]
        if form in self._waiting:
            del self._waiting[form]
        elif self._held is not None:
            self._held.drop(form)
        del self._values[form]
        if not self._values:
            self._clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(
            key in other and same_value(value, other[key]) for key, value in self._values.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[Any, Any]) -> "SoftDict":
        if not isinstance(other, Mapping):
            return NotImplemented
        joined = self.copy()
        joined.update(other)
        return joined

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Self:
        self.update(other)
        return self

    def clear(self) -> None:
        """Remove all keys; what was asked for stays: embedder, similarity, temperature."""
        self._clear()

    def copy(self) -> "SoftDict":
        """Another dictionary with the same keys, values and options; nothing is embedded again."""
        other = SoftDict(
            embed=self._embed,
            similarity=self._asked_similarity,
            temperature=self._asked_temperature,
            dtype=self._dtype,
        )
        other._embedder = self._embedder
        other._kind, other._shape, other._values = self._kind, self._shape, dict(self._values)
        other._waiting = dict(self._waiting)
        other._held = None if self._held is None else self._held.copy()
        return other

    def __repr__(self) -> str:
        first = list(islice(self._values.items(), 4))
        pairs = ", ".join(f"{shown(key)}: {value!r:.40}" for key, value in first)
        more = f", … {len(self)} keys" if len(self) > len(first) else ""
        return f"SoftDict({{{pairs}{more}}})"

    # --- as attention

    @property
    def similarity(self) -> str | None:
        """What is compared; None while there is no key, and none was asked for."""
        usual = None if self._kind is None else USUAL_SIMILARITY[self._kind.name]
        return self._asked_similarity or usual

    @property
    def temperature(self) -> float | None:
        """What divides the similarity where `attend` is not told; None as for `similarity`."""
        if self._asked_temperature is not None or self.similarity is None:
            return self._asked_temperature
        return USUAL_TEMPERATURE[self.similarity]

    def attend(
        self,
        query: Any,
        *,
        temperature: float | None = None,
        top_k: int = 10,
        min_weight: float = 0.0,
    ) -> Any:
        """Answer a query by attention over all keys.

        Args:
            query: of the kind of the keys; a list of them (of vectors also an array, (n, d)) asks
                for several at once.
            temperature: instead of the dictionary's. Towards 0 the nearest key gets all weight;
                at 0 the nearest keys share it.
            top_k: how many of the strongest keys are items of the match. Its value is the mean of
                all keys whatever is listed.
            min_weight: items of less weight are left out.

        Returns:
            A `Match`; for several queries `Matches`, a sequence of them.

        Raises:
            InputError: there is no key yet; a query of another kind or size, empty, or not
                finite; an option that makes no sense.

        >>> lookup = SoftDict({(1.0, 0.0): 10, (0.0, 1.0): 20})
        >>> lookup.attend((1.0, 0.0)).weights
        mappingproxy({(1.0, 0.0): 0.6697615..., (0.0, 1.0): 0.3302384...})
        >>> lookup.attend([(1.0, 0.0), (0.0, 1.0)], temperature=0).value
        array([10., 20.])
        """
        self._check_any()
        if temperature is None:
            temperature = self.temperature
        warm = checked_temperature(temperature)
        top_k, min_weight = checked_top(top_k), checked_share(min_weight)
        forms, single = query_forms(query, self._kind or TEXT)
        held = self._embedded()
        vectors = self._vectors(forms, "the query")
        count = len(self) if len(self) <= EVERY_WEIGHT else top_k
        parts = find(vectors, held, str(self.similarity), warm, count)
        found = [
            one for some, part in parts for one in self._rankings(some, part, top_k, min_weight)
        ]
        matches = [
            Match(form, mean, lse, str(self.similarity), warm, len(self), ranking)
            for form, (mean, lse, ranking) in zip(forms, found, strict=True)
        ]
        return matches[0] if single else Matches(matches)

    # --- what happens inside

    def _clear(self) -> None:
        self._kind, self._shape = None, None
        self._values, self._waiting, self._held = {}, {}, None

    def _check_any(self) -> None:
        if self._kind is None:
            raise InputError("the dictionary is empty: put a key in first.")

    def _fill(self, pairs: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        if isinstance(pairs, Mapping):
            self.update(pairs)
            return
        for at, (key, value) in enumerate(map(checked_pair, pairs)):
            if key in self and not same_value(self[key], value):
                raise InputError(
                    f"the key {shown(key)} comes twice, with other values: {self[key]!r:.40} and, "
                    f"in pair {at + 1}, {value!r:.40}. To keep the last, give dict(pairs)."
                )
            self[key] = value

    def _check_kinds(self, key: Any, kind: Kind, came: Form) -> None:
        if self._kind is not None and kind != self._kind:
            raise InputError(
                f"a dictionary has keys of one kind, and this one's are {self._kind.plural}; got "
                f"{shown(key)}, which is {kind}."
            )
        if came.shape != self._shape:
            raise InputError(
                f"a dictionary has values of one kind, and this one's are {Form(self._shape)}; "
                f"got {came} for the key {shown(key)}. To mix them, put each into a dict or str."
            )

    def _embedded(self) -> HeldItems:
        """All keys, with the vectors of those that came since."""
        if self._waiting:
            names = list(self._waiting)
            vectors = self._vectors(names, "a key")
            if self._held is None:
                dtype = "float64" if self.similarity == "distance" else self._dtype
                of_value = 0 if self._shape is None else math.prod(self._shape)
                self._held = HeldItems(vectors.shape[1], of_value, dtype)
            numbers = [numbers for numbers in self._waiting.values() if numbers is not None]
            self._held.append(names, vectors, np.array(numbers))
            self._waiting.clear()
        assert self._held is not None  # noqa: S101 - for mypy: there is a key
        return self._held

    def _vectors(self, forms: list[Hashable], what: str) -> Array:
        """(key, d): what is compared."""
        assert self._kind is not None  # noqa: S101 - for mypy: there is a key
        if self._kind == TEXT:
            vectors = np.asarray(self._reader()(forms))
        else:
            vectors = vectors_of(forms, self._kind)
        return unit_rows(vectors, what) if self.similarity == "cosine" else vectors

    def _reader(self) -> Any:
        if self._embedder is None:
            self._embedder = embedder(self._embed)
        return self._embedder

    def _rankings(
        self, vectors: Array, found: Found, top_k: int, min_weight: float
    ) -> Iterator[tuple[Any, float, Ranking]]:
        """What each query found, told by keys."""
        held = self._embedded()
        rows, orders = np.unique(found.rows, return_inverse=True)
        keys = [held.names[row] for row in rows]
        values = [self._values[key] for key in keys]
        numbers = None if held.numbers is None else held.numbers[rows]
        listed = Listed(keys, values, held.keys.rows(rows), numbers)
        for at, order in enumerate(orders.reshape(found.rows.shape)):
            mean = None if found.mean is None else self._in_shape(found.mean[at])
            ranking = Ranking(listed, order, found.shares[at], vectors[at], top_k, min_weight)
            yield mean, float(found.lse[at]), ranking

    def _in_shape(self, mean: Array) -> Any:
        return mean.reshape(self._shape) if self._shape else float(mean.item())
