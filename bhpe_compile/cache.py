"""The folder in which things are kept that are made again when they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

from bhpe_compile.errors import UsageError
from bhpe_compile.processes import has_home

CACHE_VARIABLE = "BHPE_CACHE"


def cache_folder() -> Path:
    """$BHPE_CACHE, else bhpe-compile in $XDG_CACHE_HOME, else in ~/.cache; UsageError where there is no ~."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and not has_home():
        raise UsageError(f"this account has no home folder for a cache; name a folder with ${CACHE_VARIABLE}")
    return (Path(base) if base else Path.home() / ".cache") / "bhpe-compile"
