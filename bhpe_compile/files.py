"""Files that are whole or not there, their hashes, and the pictures of a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from bhpe_compile.errors import UsageError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write beside `path` and rename, so that nobody meets half a file; raises OSError and leaves nothing then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_pictures(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Every path that is a file, and the pictures of those that are folders, by name. UsageError for the others."""
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        inside = sorted(p for p in path.glob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else []
        if not inside:
            what = "holds no picture" if path.is_dir() else "no such file or folder"
            raise UsageError(f"{path}: {what} ({', '.join(sorted(PICTURES))})")
        found += inside
    return tuple(found)
