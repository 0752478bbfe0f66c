"""What `--shape` says, as words of the command line."""

from __future__ import annotations

from bhpe_compile.errors import UsageError

LARGEST = 1 << 24
"""An extent of an input may be this large."""


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1,3,256,192 -> name and extents. UsageError for anything else."""
    name, _, extents = text.rpartition("=")
    try:
        shape = tuple(int(extent) for extent in extents.split(","))
    except ValueError:
        shape = ()
    if not name or not shape or any(not 1 <= extent <= LARGEST for extent in shape):
        raise UsageError(f"--shape {text}: say NAME=1,3,256,192, with the name of an input")
    return name, shape
