"""One reader for each format: what is damaged, too deep, too large or of another kind is one clear error."""

from __future__ import annotations

import copy
import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bhpe_compile.reading import (
    DEEPEST,
    MalformedError,
    SpecialFileError,
    parse_json,
    parse_toml,
    read_json,
    read_regular,
    read_toml,
)
from bhpe_compile.reading_arrays import open_archive, parse_npy, read_npy, read_npz


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,  # beyond the interpreter's own bound
        "[" * (DEEPEST + 2) + "]" * (DEEPEST + 2),
        '{"a":' * 5000 + "1" + "}" * 5000,
        "[18446744073709551616]",
        "[-9223372036854775809]",
        "1" * 10_000,
        "1e999",
        "[NaN]",
        "-Infinity",
        '"\\ud800"',
        '{"\\udfff": 1}',
        "{",
        "",
    ],
)
def test_json_that_is_refused(text: str) -> None:
    for content in (text, text.encode()):
        with pytest.raises(MalformedError) as caught:
            parse_json(content)
        assert "\n" not in str(caught.value)


def test_json_that_is_read() -> None:
    assert parse_json('[18446744073709551615, -9223372036854775808, 1e308, "\\ud83d\\ude00", null]') == [
        *(2**64 - 1, -(2**63), 1e308, "\U0001f600", None)
    ]
    value = parse_json("[" * DEEPEST + "]" * DEEPEST)
    assert value
    assert np.isnan(parse_json("NaN", finite=False))
    with pytest.raises(MalformedError):
        parse_json(b"\xff\xfe\xff")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000 + "]" * 100_000,
        "a = " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "a = 18446744073709551616",
        "a = nan",
        "a = [1, -inf]",
        "a = ",
    ],
)
def test_toml_that_is_refused(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_toml(text)
    assert "\n" not in str(caught.value)


def test_toml_is_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(MalformedError, match="no UTF-8"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.parametrize("read", [read_regular, read_json, read_toml, read_npy, read_npz])
def test_a_fifo_is_not_waited_for(read: Any, tmp_path: Path) -> None:
    """Nobody writes into it: opening it would not come back."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SpecialFileError, match="is a FIFO, not a regular file"):
        read(tmp_path / "fifo")
    with pytest.raises(SpecialFileError, match="is a device"):
        read(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(OSError, match="no file can have this name"):
        read(tmp_path / "a\0b")


ARRAYS = {"a": np.arange(1000, dtype=np.float32), "b": np.asfortranarray(np.arange(6).reshape(2, 3))}


@pytest.fixture(params=[np.savez, np.savez_compressed])
def npz(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "arrays.npz"
    request.param(path, **ARRAYS)
    return path


def test_arrays_come_back(npz: Path) -> None:
    found = read_npz(npz)
    assert found.keys() == ARRAYS.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype


def test_every_bit_of_a_payload_counts(npz: Path) -> None:
    content = npz.read_bytes()
    with zipfile.ZipFile(npz) as archive:
        entry = archive.getinfo("a.npy")
    start = entry.header_offset + 30 + len("a.npy") + 20  # behind the local header and what numpy adds to it
    for place in np.linspace(start, entry.header_offset + entry.compress_size, 24, dtype=int):
        damaged = bytearray(content)
        damaged[place] ^= 1
        npz.write_bytes(damaged)
        if place == start and entry.compress_type == zipfile.ZIP_DEFLATED:
            np.testing.assert_array_equal(read_npz(npz)["a"], ARRAYS["a"])  # whether a block is the last one
            continue
        with pytest.raises(MalformedError):
            read_npz(npz)


def test_entries_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", b"x" * 100)
    with pytest.raises(MalformedError, match="by method 14"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"x" * 100)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(MalformedError, match="encrypted"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"")
    with pytest.raises(MalformedError, match=r"'a.txt' is no array"):
        read_npz(path)


def test_declared_sizes_are_no_allocations(tmp_path: Path) -> None:
    """A header may promise 8 TB: nothing is made that the bytes do not fill."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (1 << 41,)}
    )
    with pytest.raises(MalformedError, match=r"needs 8796093022208"):
        parse_npy(stream.getvalue() + bytes(400))
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(100))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    with pytest.raises(MalformedError), open_archive(path) as archive:
        archive.read("a.npy")


def test_objects_are_not_unpickled() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([None, {}]), allow_pickle=True)
    with pytest.raises(MalformedError, match="holds objects"):
        parse_npy(stream.getvalue())


def test_entries_that_overlap_are_not_read(tmp_path: Path) -> None:
    """A hundred entries whose bytes are those of one: each is as large as the file at most, all together are not."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a00.npy", bytes(100_000))
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(1, 100):
            entry = copy.copy(archive.filelist[0])
            entry.filename = f"a{number:02d}.npy"
            archive.filelist.append(entry)
        archive.writestr("end.npy", b"")
    with pytest.raises(MalformedError, match=r"'a01.npy' says it has 100000 bytes"), open_archive(path):
        pass
