"""What a model.so is made of: every byte of an ELF file, by the sections it lies in (64-bit, little-endian).

Source of the format: the ELF-64 object file format, System V ABI; field offsets as in elf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bhpe_compile.errors import InputError

NO_BITS = 8
"""sh_type of a section that takes no bytes in the file."""

PARTS = {
    "machine code": (".text", ".init", ".fini", ".plt"),
    "call tables and constants": (".rodata", ".data", ".got", ".tdata", ".init_array", ".fini_array"),
    "relocations": (".rela", ".relr"),
    "symbols": (".dynsym", ".dynstr", ".dynamic", ".hash", ".gnu", ".shstrtab", ".symtab", ".strtab"),
    "unwinding": (".eh_frame", ".gcc_except"),
}
"""Parts by how the names of their sections begin."""

REST = "headers and padding"
OTHER = "other sections"

_HEADER = struct.Struct("<16s2HI3QI6H")
_SECTION = struct.Struct("<2I4Q2I2Q")


def elf_parts(content: bytes, name: str) -> dict[str, int]:
    """Bytes of an ELF file by part; they add up to the length of `content`. InputError, with `name`, for no ELF."""
    if content[:6] != b"\x7fELF\x02\x01":
        raise InputError(f"{name}: is not a 64-bit ELF file; compile the model again")
    try:
        sections = list(_sections(content))
    except (struct.error, IndexError, UnicodeDecodeError):
        raise InputError(f"{name}: its section table is damaged; compile the model again") from None
    sums: dict[str, int] = {}
    for section, size in sections:
        part = next((part for part, starts in PARTS.items() if section.startswith(starts)), OTHER)
        sums[part] = sums.get(part, 0) + size
    sums[REST] = len(content) - sum(sums.values())
    return {part: sums[part] for part in (*PARTS, OTHER, REST) if sums.get(part)}


def _sections(content: bytes) -> Iterator[tuple[str, int]]:
    """(name, bytes in the file) of every section."""
    header = _HEADER.unpack_from(content)
    table, size, count, names = header[6], header[11], header[12], header[13]
    entries = [_SECTION.unpack_from(content, table + k * size) for k in range(count)]
    strings = entries[names][4] if entries else 0
    for entry in entries:
        start = strings + entry[0]
        name = content[start : content.index(b"\0", start)].decode()
        yield name, 0 if entry[1] == NO_BITS else entry[5]
