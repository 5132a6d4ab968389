"""A recording as one safetensors file: written whole or not at all, read as it is asked for.

The file: eight bytes of length, a JSON header, the arrays one by one. The header's metadata hold
``"format": "atento.recording"``, the version, ``"recording"`` (a JSON text: layers, mask rules,
tokens, and a crc32 for every array) and ``"checksum"``, the SHA-256 of the header with zeros in the
checksum's place. So a header that is damaged anywhere is refused when the file is opened, and an
array that is damaged when it is first read. Any safetensors reader can read the arrays.

A mask of `atento.masks` is stored as the rule that it is. A function (`Rule`) cannot be stored:
where each query's keys are one interval, their starts and stops are, otherwise the pairs as bits.
"""

import hashlib
import json
import mmap
import operator
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atento._errors import AtentoError, InputError
from atento._files import write_whole
from atento.masks import Mask
from atento.reading.layer import LayerRecord
from atento.reading.layer_shapes import check_numbers, check_shapes
from atento.reading.patches import as_grid
from atento.reading.recording import Recording
from atento.reading.stored_masks import MaskWriter, read_bias, read_mask, say_bias
from atento.reading.token_names import TokenNames

__all__ = ["StoredLayer", "load_recording", "save_recording"]

Array = npt.NDArray[Any]

FORMAT, VERSION = "atento.recording", 2
ZEROS = "0" * 64

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
NAMES = {np.dtype(dtype).str[1:]: name for name, dtype in DTYPES.items()}

SIMPLE = ("layer", "kind", "side", "way", "scale", "softcap", "first_query", "key_length")


# Writing.


class _Arrays:
    """The arrays of a file, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Array] = {}

    def keep(self, name: str, array: Any) -> str:
        array = np.asarray(array)
        if array.dtype.str[1:] not in NAMES:
            raise InputError(
                f"{name} has dtype {array.dtype}, which a recording file cannot hold. It holds "
                f"{', '.join(str(np.dtype(dtype)) for dtype in DTYPES.values())}."
            )
        self.by_name[name] = array
        return name

    def namer(self, prefix: str) -> Callable[[Array], str]:
        def keep(array: Array) -> str:
            return self.keep(f"{prefix}.{len(self.by_name)}", array)

        return keep


def save_recording(recording: Recording, path: str | Path) -> None:
    """Write a recording to a file: whole, or not at all.

    The file is written aside in the same folder, brought to the disk and renamed. On any failure
    the old file stays as it was and nothing else is left.

    Raises:
        InputError: when the file cannot be written (why is said), or a mask is too large to store.
    """
    arrays = _Arrays()
    layers = [_say_layer(record, i, arrays) for i, record in enumerate(recording.records)]
    ids = [arrays.keep(f"token_ids.{i}", ids) for i, ids in enumerate(recording.token_names.ids)]
    said = {
        "layers": layers,
        "skipped": [list(pair) for pair in recording.skipped],
        "token_ids": ids,
        "tokens": _texts(recording),
    }
    # Wide elements first, so that each array begins at a multiple of its element's size.
    ordered = sorted(arrays.by_name.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    try:
        write_whole(Path(path), _pieces(_header(said, ordered), ordered))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the recording could not be written to {path}: {why}.") from error


def _texts(recording: Recording) -> Any:
    return recording.tokens if recording.token_names.named else None


def _say_layer(record: LayerRecord, number: int, arrays: _Arrays) -> dict[str, Any]:
    prefix = f"layers.{number}"
    said: dict[str, Any] = {name: getattr(record, name) for name in SIMPLE}
    for name in ("query", "key", "lse"):
        array = getattr(record, name)
        said[name] = None if array is None else arrays.keep(f"{prefix}.{name}", array)
    writer = MaskWriter(record.shape, record.layer, arrays.namer(f"{prefix}.mask"))
    mask = None if record.mask is None else record.mask.bind(record.shape)
    said["mask"] = writer.whole(mask)
    said["bias"] = say_bias(record.bias, arrays.namer(f"{prefix}.bias"))
    said["statistics"] = {
        name: [arrays.keep(f"{prefix}.statistics.{name}", array), list(record.axes[name])]
        for name, array in record.statistics.items()
    }
    said["shape"] = list(record.shape)
    said["head_numbers"], said["bin_width"] = list(record.head_numbers), record.bin_width
    said["patches"] = None if record.patches is None else list(astuple(record.patches))
    return said


def _bytes(array: Array) -> memoryview:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _header(said: dict[str, Any], ordered: list[tuple[str, Array]]) -> bytes:
    """The eight bytes of length and the header, filled with spaces to a multiple of eight."""
    entries, at = {}, 0
    for name, array in ordered:
        dtype = NAMES[array.dtype.str[1:]]
        entries[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    said["crc32"] = {name: zlib.crc32(_bytes(array)) for name, array in ordered}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "checksum": ZEROS,
        "recording": json.dumps(said, separators=(",", ":"), default=_plain),
    }
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    text = text.replace(ZEROS.encode(), hashlib.sha256(text).hexdigest().encode(), 1)
    return len(text).to_bytes(8, "little") + text


def _pieces(header: bytes, ordered: list[tuple[str, Array]]) -> Iterator[bytes | memoryview]:
    yield header
    for _, array in ordered:
        yield _bytes(array)


def _plain(number: Any) -> Any:
    return number.item()  # NumPy's own numbers


# Reading.


class _DamagedError(Exception):
    """What is wrong with a file, to end the sentence "… is no whole recording: …"."""


class _File:
    """A recording file, mapped into memory. Arrays are looked at when they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 10:
                raise _DamagedError("it is too short")
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self.map[:8], "little")
        if length > size - 8:
            raise _DamagedError("its header is cut off, or it is no safetensors file")
        raw = self.map[8 : 8 + length]
        self.start = 8 + length
        self.entries = self._checked_header(raw)
        self._check_entries(size - self.start)

    def _checked_header(self, raw: bytes) -> dict[str, Any]:
        try:
            header = json.loads(raw)
            metadata = header.pop("__metadata__", {})
            form, checksum = metadata.get("format"), metadata.get("checksum", "")
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise _DamagedError("its header cannot be read, or it is no safetensors file") from None
        if form != FORMAT:
            raise _DamagedError(
                f'it is a safetensors file of another kind (format {form!r}, not "{FORMAT}")'
            )
        blank = raw.replace(str(checksum).encode("utf-8", "replace"), ZEROS.encode(), 1)
        if len(checksum) != 64 or hashlib.sha256(blank).hexdigest() != checksum:
            raise _DamagedError("its header is damaged (the checksum differs)")
        if metadata.get("version") not in map(str, range(1, VERSION + 1)):
            raise _DamagedError(
                f"it has version {metadata.get('version')}, and this atento reads versions up to "
                f"{VERSION}: a newer atento wrote it, so install that one"
            )
        self.said = json.loads(metadata["recording"])
        return dict(header)

    def _check_entries(self, size: int) -> None:
        """That the arrays lie one behind the other, and end where the file ends."""
        at = 0
        for entry in sorted(self.entries.values(), key=lambda entry: entry["data_offsets"]):
            begin, end = entry["data_offsets"]
            nbytes = int(np.prod(entry["shape"], dtype=object)) * self._dtype(entry).itemsize
            if begin != at or end - begin != nbytes or min(entry["shape"], default=0) < 0:
                raise _DamagedError("its arrays overlap or leave gaps")
            at = end
        if at != size:
            raise _DamagedError(f"it has {size} bytes of arrays where {at} were written")

    def _dtype(self, entry: dict[str, Any]) -> np.dtype[Any]:
        return np.dtype(DTYPES[entry["dtype"]]).newbyteorder("<")

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.entries[name]["shape"])

    def read(self, name: str) -> Array:
        """The array, as a view of the file that cannot be written to; its checksum is looked at.

        Raises:
            InputError: when the array is damaged.
        """
        entry = self.entries[name]
        begin, end = (self.start + offset for offset in entry["data_offsets"])
        with memoryview(self.map) as view, view[begin:end] as data:
            checksum = zlib.crc32(data)
        if checksum != self.said["crc32"][name]:
            raise InputError(
                f"{self.path} is damaged: the array {name} is not as it was written. Record or "
                "copy it again."
            )
        dtype, shape = self._dtype(entry), self.shape(name)
        if begin == end:
            return np.zeros(shape, dtype)
        flat = np.frombuffer(self.map, dtype, (end - begin) // dtype.itemsize, begin)
        return flat.reshape(shape)


class StoredLayer(LayerRecord):
    """A layer in a file: its arrays are read when they are first asked for."""

    def __init__(self, plain: dict[str, Any], stored: dict[str, Callable[[], Any]]) -> None:
        self.__dict__.update(plain, room={}, _stored=stored)

    def __getattr__(self, name: str) -> Any:
        stored = self.__dict__.get("_stored", {})
        if name not in stored:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        value = stored[name]()
        self.__dict__[name] = value
        return value


class _StoredArrays(Mapping[str, Array]):
    """Statistics by name, each read when it is first asked for."""

    def __init__(self, file: _File, names: dict[str, str]) -> None:
        self._file, self._names = file, names
        self._read: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._read:
            self._read[name] = self._file.read(self._names[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_recording(path: str | Path) -> Recording:
    """Open a recording that was saved.

    Arrays stay in the file until they are asked for.

    Args:
        path: what `Recording.save` or ``atento inspect --save`` wrote.

    Raises:
        InputError: when there is no such file, it is no recording, it is damaged or cut off, or a
            newer version wrote it.

    >>> import pathlib, tempfile, torch, atento
    >>> layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    >>> with atento.capture(layer) as recording:
    ...     _ = layer(torch.ones(1, 5, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "run.safetensors"
    ...     recording.save(path)
    ...     load_recording(path)[0].shape
    (1, 2, 5, 5)
    """
    try:
        file = _File(Path(path))
        return _recording(file)
    except _DamagedError as damaged:
        why = str(damaged)
    except AtentoError as error:
        why = str(error)
    except OSError as error:
        raise InputError(
            f"the recording {path} cannot be read: {error.strerror or error}."
        ) from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        why = f"what it says does not fit together ({type(error).__name__}: {error})"
    raise InputError(f"{path} is not a recording that can be read: {why}.")


def _recording(file: _File) -> Recording:
    said = file.said
    if set(said["crc32"]) != set(file.entries):
        raise _DamagedError("its arrays are not those that it names")
    recording = Recording(
        [_stored_layer(file, layer) for layer in said["layers"]],
        skipped=[(str(layer), str(reason)) for layer, reason in said["skipped"]],
    )
    ids = [file.read(name).astype(np.int64) for name in said["token_ids"]]
    recording.token_names = TokenNames(ids, said["tokens"])
    return recording


def _stored_layer(file: _File, said: dict[str, Any]) -> StoredLayer:
    statistics = {name: stored for name, (stored, _) in said["statistics"].items()}
    axes = {name: tuple(axes) for name, (_, axes) in said["statistics"].items()}
    present = {name: said[name] for name in ("query", "key", "lse") if said[name] is not None}
    check_shapes(
        said["layer"],
        {name: file.shape(stored) for name, stored in present.items()},
        {name: file.shape(stored) for name, stored in statistics.items()},
        axes,
    )
    plain: dict[str, Any] = {name: said[name] for name in SIMPLE}
    plain |= {name: None for name in ("query", "key") if said[name] is None}
    plain |= {"axes": axes, "statistics": _StoredArrays(file, statistics)}
    stored: dict[str, Callable[[], Any]] = {
        name: partial(file.read, stored) for name, stored in present.items()
    }
    stored["mask"] = lambda: _stored_mask(file, said)
    stored["bias"] = lambda: read_bias(said["bias"], file.read)
    layer = StoredLayer(plain, stored)
    _read_later(layer, said, file.shape(said["lse"])[1])
    return layer


def _read_later(layer: StoredLayer, said: dict[str, Any], heads: int) -> None:
    """What files of version 1 do not say: there, heads are 0, 1, 2, ... and the rest is unknown."""
    numbers = said.get("head_numbers", range(heads))
    layer.head_numbers = tuple(operator.index(number) for number in numbers)
    width = said.get("bin_width")
    layer.bin_width = None if width is None else operator.index(width)
    check_numbers(layer.layer, layer.head_numbers, heads, layer.bin_width)
    where = f"layer {layer.layer!r}"
    layer.__dict__["_patches"] = as_grid(said.get("patches"), said["shape"][3], where)


def _stored_mask(file: _File, said: dict[str, Any]) -> Mask | None:
    try:
        mask = read_mask(said["mask"], file.read)
        return None if mask is None else mask.bind(tuple(said["shape"]))
    except (KeyError, ValueError, TypeError, IndexError, StopIteration) as error:
        raise InputError(
            f"{file.path}: the mask of layer {said['layer']!r} cannot be read ({error})."
        ) from None
