"""Every byte of an ELF file belongs to a part."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from bhpe_compile.errors import InputError
from bhpe_compile.report.elf import REST, elf_parts


def test_parts_of_a_real_program_add_up() -> None:
    content = Path(sys.executable).resolve().read_bytes()
    if content[:6] != b"\x7fELF\x02\x01":
        pytest.skip("this Python is no 64-bit ELF file")
    parts = elf_parts(content, "python")
    assert sum(parts.values()) == len(content)
    assert parts["machine code"] > 0
    assert parts[REST] >= 64  # the header itself


def small_elf() -> bytearray:
    """Header, 16 bytes of .text, 8 of names, a section that takes no bytes, three section headers."""
    names = b"\0.text\0.shstrtab\0.bss\0"
    text, strings = 64, 80
    table = strings + len(names)
    content = bytearray(table + 4 * 64)
    struct.pack_into(
        "<16s2HI3QI6H", content, 0, b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, table, 0, 64, 56, 0, 64, 4, 2
    )
    content[strings:table] = names
    rows = [(0, 0, 0, 0), (1, 1, text, 16), (7, 3, strings, len(names)), (17, 8, 0, 1 << 40)]
    for k, (name, kind, offset, size) in enumerate(rows):
        struct.pack_into("<2I4Q2I2Q", content, table + 64 * k, name, kind, 0, 0, offset, size, 0, 0, 0, 0)
    return content


def test_small_file() -> None:
    content = small_elf()
    parts = elf_parts(bytes(content), "small")
    assert parts == {"machine code": 16, "symbols": 22, REST: len(content) - 38}


@pytest.mark.parametrize("content", [b"", b"MZ" * 100, b"\x7fELF\x01\x01" + b"\0" * 100])
def test_no_elf_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"model\.so: is not a 64-bit ELF"):
        elf_parts(content, "model.so")


def test_cut_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.so: its section table is damaged"):
        elf_parts(bytes(small_elf()[:120]), "model.so")
