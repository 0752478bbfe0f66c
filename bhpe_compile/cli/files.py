"""Writing results: beside their place first, then renamed, so that nobody meets half a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bhpe_compile.errors import UsageError
from bhpe_compile.files import sweep, write_atomically


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file, replacing what is there. UsageError names the one that cannot be written."""
    for path, content in contents.items():
        try:
            write_atomically(path, content)
            sweep(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from error
