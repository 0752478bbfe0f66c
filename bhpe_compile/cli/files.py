"""Writing results: beside their place first, then renamed, so that nobody meets half a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bhpe_compile.errors import UsageError


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
