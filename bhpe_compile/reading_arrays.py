"""Archives and arrays that others wrote: every byte is compared with its checksum, every declared size with the file.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.reading import MalformedError, open_regular, read_regular

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

EXPANSION = 1100
"""Bytes that one byte of deflate can become at most, and some."""

ENCRYPTED = 1
"""The flag of an entry that is encrypted."""

CHUNK = 1 << 22


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
            most = size if entry.compress_type == zipfile.ZIP_STORED else EXPANSION * size
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
