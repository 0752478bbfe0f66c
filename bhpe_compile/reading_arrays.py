"""Archives, arrays and safetensors that others wrote: every checksum is compared, every declared size held against
the file.

Nothing is allocated that the file cannot fill, and nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MalformedError, open_regular, parse_json, read_regular

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

EXPANSION = 64
"""Bytes that one byte of an archive may become where all entries together have more than `SMALL`."""

SMALL = 256 << 20
"""Bytes that an archive may always hold: deflate makes up to 1,032 of one."""

ENCRYPTED = 1
"""The flag of an entry that is encrypted."""

CHUNK = 1 << 22

MOST_HEADER = 64 << 20
"""Bytes of the header of a safetensors file."""

MOST_AXES = 64

SAFETENSORS_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one number, by the name of its kind."""


class Archive:
    """The entries of an open zip file, checked before they are used."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        totals = dict.fromkeys(METHODS, 0)
        for entry in archive.infolist():
            if entry.filename in self._entries:
                raise MalformedError(f"two entries are called {entry.filename!r}")
            if entry.flag_bits & ENCRYPTED:
                raise MalformedError(f"{entry.filename!r} is encrypted")
            if entry.compress_type not in METHODS:
                raise MalformedError(
                    f"{entry.filename!r} is compressed by method {entry.compress_type}, not by deflate"
                )
            most = size if entry.compress_type == zipfile.ZIP_STORED else max(SMALL, EXPANSION * size)
            totals[entry.compress_type] += entry.file_size
            if entry.file_size < 0 or totals[entry.compress_type] > most:  # entries may overlap
                raise MalformedError(f"{entry.filename!r} says it has {entry.file_size} bytes")
            self._entries[entry.filename] = entry

    @property
    def names(self) -> tuple[str, ...]:
        """The entries, in their order."""
        return tuple(self._entries)

    def read(self, name: str) -> bytes:
        """An entry, its checksum compared. KeyError where there is none, MalformedError for a damaged one."""
        entry = self._entries[name]
        with _damage(name), self._archive.open(entry) as file:
            content = file.read(entry.file_size + 1)
            if len(content) != entry.file_size:
                raise MalformedError(f"{name!r} does not have the {entry.file_size} bytes it says")
            return content

    def check(self) -> None:
        """Compare every entry with its checksum; MalformedError names the first that differs."""
        for name, entry in self._entries.items():
            with _damage(name), self._archive.open(entry) as file:
                count = sum(map(len, iter(lambda: file.read(CHUNK), b"")))
                if count != entry.file_size:
                    raise MalformedError(f"{name!r} does not have the {entry.file_size} bytes it says")

    def array(self, name: str, kinds: str = "biuf") -> NDArray[Any]:
        """The array in entry NAME.npy, of a dtype kind in `kinds`; raises as `read`."""
        return parse_npy(self.read(f"{name}.npy"), kinds)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The zip file at `path`. OSError where it cannot be opened, MalformedError where it is none."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        with _damage(path.name), zipfile.ZipFile(file) as archive:
            yield Archive(archive, size)


def read_npz(path: Path, kinds: str = "biuf") -> dict[str, NDArray[Any]]:
    """Every array of an npz file; raises as `open_archive` and `Archive.array`."""
    with open_archive(path) as archive:
        others = [name for name in archive.names if not name.endswith(".npy")]
        if others:
            raise MalformedError(f"{others[0]!r} is no array")
        return {name: archive.array(name, kinds) for name in (n.removesuffix(".npy") for n in archive.names)}


def open_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz that a user named. UsageError where it cannot be read, InputError where it is damaged."""
    try:
        return read_npz(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MalformedError as error:
        raise InputError(f"{path}: damaged: {error}") from None


def read_npy(path: Path, kinds: str = "biuf") -> NDArray[Any]:
    """The array of an npy file. OSError where it cannot be read, MalformedError for anything else."""
    return parse_npy(read_regular(path), kinds)


def parse_npy(content: bytes, kinds: str = "biuf") -> NDArray[Any]:
    """The array that the bytes of an npy file hold, of a dtype kind in `kinds`; as large as they are."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise MalformedError(f"npy version {version} is not known")
        shape, fortran, dtype = read(stream)
    except MalformedError:
        raise
    except (ValueError, TypeError, EOFError, RecursionError, MemoryError, SyntaxError, OverflowError):
        raise MalformedError("no npy header") from None
    if dtype.hasobject or dtype.kind not in kinds:
        raise MalformedError(f"holds {'objects' if dtype.hasobject else dtype}, which are not read")
    if not all(type(extent) is int and extent >= 0 for extent in shape):
        raise MalformedError(f"has shape {shape}")
    wanted, there = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if wanted != there:
        raise MalformedError(f"has {there} bytes of numbers, shape {list(shape)} needs {wanted}")
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell()) if wanted else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def check_safetensors(path: Path) -> dict[str, str]:
    """The words beside the tensors of a safetensors file, whose header is checked against the file: nothing that it
    declares is larger than what is there, and no two tensors share bytes.

    OSError where it cannot be read, MalformedError for anything else.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        count = int.from_bytes(file.read(8), "little")
        if size < 8 or count > min(size - 8, MOST_HEADER):
            raise MalformedError(f"says that its header has {count} bytes, the file has {size}")
        header = parse_json(file.read(count))
    if not isinstance(header, dict):
        raise MalformedError("its header is no table of tensors")
    words = header.pop("__metadata__", {})
    if not isinstance(words, dict) or not all(isinstance(word, str) for word in words.values()):
        raise MalformedError("its header has words of another kind beside the tensors")
    spans = sorted(_safetensors_span(name, entry) for name, entry in header.items())
    ends = [0, *(end for _, end, _ in spans)]
    for (begin, _, name), before in zip(spans, ends, strict=False):
        if begin != before:
            raise MalformedError(f"{name!r} does not begin where the tensor before it ends")
    if ends[-1] != size - 8 - count:
        raise MalformedError(f"has {size - 8 - count} bytes of numbers, its header says {ends[-1]}")
    return words


def _safetensors_span(name: str, entry: object) -> tuple[int, int, str]:
    """Where the numbers of a tensor begin and end, and its name."""
    facts = entry if isinstance(entry, dict) else {}
    bits = SAFETENSORS_BITS.get(str(facts.get("dtype")))
    shape, span = facts.get("shape"), facts.get("data_offsets")
    if not (_are_sizes(shape) and _are_sizes(span)) or bits is None or len(span) != 2:
        raise MalformedError(f"{name!r} has no type, shape or place that is known")
    if span[1] - span[0] != math.prod(shape) * bits // 8:
        raise MalformedError(f"{name!r} has {span[1] - span[0]} bytes, shape {shape} needs others")
    return span[0], span[1], name


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MOST_AXES
        and all(type(one) is int and one >= 0 for one in value)
    )


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What zipfile raises for damaged bytes becomes MalformedError."""
    try:
        yield
    except MalformedError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise MalformedError(f"{name}: {error or type(error).__name__}") from None
    except (
        RuntimeError,
        IndexError,
        OverflowError,
        ValueError,
    ) as error:  # offsets and sizes that make no sense
        raise MalformedError(f"{name}: damaged ({error})") from None
