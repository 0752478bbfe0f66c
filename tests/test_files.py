"""Files are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhpe_compile.files import sha256, write_atomically


def test_what_was_there_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    write_atomically(path, memoryview(b"another"))
    assert path.read_bytes() == b"another"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_nothing_is_left_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(OSError, match="taken"):
        write_atomically(tmp_path / "taken", b"content")  # written beside, but a folder cannot be replaced
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"")


def test_sha256(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1: the message abc."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
