"""Finding pictures, and writing results: beside their place first, then renamed, so that nobody meets half a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from bhpe_compile.errors import UsageError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


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


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file, replacing what is there. UsageError names the one that cannot be written."""
    for path, content in contents.items():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
        finally:
            if temporary.exists():
                temporary.unlink()
