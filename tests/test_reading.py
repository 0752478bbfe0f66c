"""One reader for each format: what is damaged, too deep, too large or of another kind is one clear error."""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

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
from bhpe_compile.reading_arrays import SMALL, check_safetensors, open_archive, parse_npy, read_npy, read_npz


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
        "a = " + "9" * 10_000,
        "a = nan",
        "a = [1, -inf]",
        "a = ",
    ],
)
def test_toml_that_is_refused(text: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_toml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["a." * 200_000 + "b = 1", "[" + "a." * 200_000 + "b]", "x = {" + "'a' . \"b\"." * 50_000 + "c = 1}"],
)
def test_keys_of_many_names_do_not_take_hours(text: str) -> None:
    with pytest.raises(MalformedError, match="more than 20 names"):
        parse_toml(text)


def test_words_with_many_dots_are_no_keys() -> None:
    text = "x" * 100_000 + "=1" + "\n"
    text += f'a = "{"." * 1000}, {"one two. " * 100}"\n' + "".join(f"b.c.d.e{n} = 1\n" for n in range(100))
    assert len(parse_toml(text)["b"]["c"]["d"]) == 100


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


SAFE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 2), np.int8)}


def header(**changes: Any) -> bytes:
    """A safetensors file of one tensor a, float32 [2, 3]."""
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}
    words = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(words)) + words + bytes(24)


def test_safetensors_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors.numpy.save(SAFE, {"facts": "{}"}))
    assert check_safetensors(path) == {"facts": "{}"}
    path.write_bytes(header())
    assert check_safetensors(path) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 40_000) + b"[" * 40_000,
        header(shape=[10**12]),
        header(shape=[2, 3], data_offsets=[0, 4 * 10**12]),
        header(data_offsets=[8, 32]),
        header(data_offsets=[24, 0]),
        header(data_offsets=[0, 24, 48]),
        header(dtype="F128"),
        header(dtype=["F32"]),
        header(shape=[-2, -3]),
        header(shape=[2.0, 3]),
        header(shape=[True, 6]),
        header(shape=[1] * 100 + [6]),
        header() + b"\0",
        header()[:-1],
        header().replace(b'"a"', b'"__metadata__"'),
    ],
)
def test_safetensors_that_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(MalformedError) as caught:
        check_safetensors(path)
    assert "\n" not in str(caught.value)


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    words = json.dumps({"a": one, "b": one}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(words)) + words + bytes(24))
    with pytest.raises(MalformedError, match="'b' does not begin where"):
        check_safetensors(tmp_path / "a.safetensors")


def test_a_small_archive_does_not_become_gigabytes(tmp_path: Path) -> None:
    """Deflate makes 300 MB of 300 kB; small ones may be as dense as they like."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        for _ in range(SMALL // (1 << 20) + 1):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(MalformedError, match="says it has"):
        read_npz(path)
    np.savez_compressed(path, a=np.zeros(1 << 20, np.float32))
    assert read_npz(path)["a"].size == 1 << 20
