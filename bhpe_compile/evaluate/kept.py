"""What the cache folder keeps, and what each thing is: all of it is made again when it is asked for."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bhpe_compile.cache import CACHE_VARIABLE, cache_folder
from bhpe_compile.errors import UsageError

KINDS: tuple[tuple[str, str], ...] = (
    (r"SMPLX_ANNY-[0-9a-f]+\.npz", "the open body (ten seconds to a minute)"),
    (r"code", "machine code of kernels (seconds)"),
    (r"mean-pose-.*\.json", "the mean pose that `eval` shows beside (seconds)"),
    (
        r"(?P<split>test|train)-(film(?P<film>\d+)-)?\d+-(?P<seed>\d+)-(?P<count>\d+)-[0-9a-f]+",
        "people drawn",
    ),
)
"""(pattern of a name, what it is): only these are ours."""


@dataclass(frozen=True)
class Kept:
    """One file or folder of the cache."""

    path: Path
    what: str
    nbytes: int


def list_kept() -> list[Kept]:
    """Everything of ours in the cache folder, by name; empty where there is no folder."""
    folder = cache_folder()
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        what = _what(path.name)
        if what is not None:
            found.append(Kept(path, what, _size(path)))
    return found


def clear() -> list[Kept]:
    """Remove what `list_kept` lists, and nothing else; returns it. UsageError where something cannot be removed."""
    kept = list_kept()
    for one in kept:
        try:
            if one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink()
        except OSError as error:
            raise UsageError(
                f"{one.path}: cannot be removed ({error.strerror}); ${CACHE_VARIABLE} names another cache"
            ) from error
    return kept


def _what(name: str) -> str | None:
    for pattern, what in KINDS:
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        facts = match.groupdict()
        if not facts:
            return what
        who = "1 person" if facts["count"] == "1" else f"{facts['count']} people"
        if facts["film"]:
            who = f"films of {facts['film']} pictures, {facts['count']} in all"
        return f"{who} drawn, {facts['split']} split, seed {facts['seed']}"
    return None


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(one.lstat().st_size for one in path.rglob("*") if one.is_symlink() or not one.is_dir())
