"""Files that are whole or not there, their hashes, and the pictures of a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from bhpe_compile.errors import UsageError

NAME = 60
"""Characters of a file's name that its temporary neighbour repeats: a whole name might leave no room for more."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Linux: the working folder as a starting point, and what `renameat2` is asked for."""

LINKS = 40
"""Symbolic links that are followed, as many as the kernel follows."""

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"RIFF",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"GIF8",
    *(f"P{digit}".encode() for digit in "123456"),
)
"""How the files begin that `runtime/picture.py` decodes, whatever they are called."""


def write_atomically(path: Path, content: bytes | memoryview, mode: int = 0o666) -> None:
    """Write beside `path` and rename, so that nobody meets half a file; raises OSError and leaves nothing then.

    A file that is there keeps its mode, and its owner where the system lets us; a new one gets `mode` less what
    the umask says.
    A symbolic link stays one: what it points to is replaced. What is no regular file (/dev/null, /dev/stdout, a FIFO)
    is written to, never replaced.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        if sys.stdout is not None:
            sys.stdout.flush()
        with os.fdopen(os.dup(descriptor), "wb") as stream:
            stream.write(content)
        return
    target = Path(os.path.realpath(path))
    try:
        before = target.stat()
    except FileNotFoundError:
        before = None
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if before is not None and not stat.S_ISREG(before.st_mode):
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb") as stream:
            stream.write(content)
        return
    temporary = beside(target, "part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(temporary, flags, mode if before is None else 0o600)
    try:
        with os.fdopen(opened, "wb") as stream:
            stream.write(content)
            if before is not None:
                _keep_access(stream.fileno(), before)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(target: Path, suffix: str) -> Path:
    """A hidden name beside `target` that nobody can guess, and that says which process made it."""
    made = f"{_machine()}-{os.getpid()}-{secrets.token_hex(8)}"
    return target.with_name(f".{target.name[:NAME]}.{made}.{suffix}")


@cache
def _machine() -> str:
    """Where process numbers mean the same: one machine, and one container on it."""
    try:
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        numbers = 0
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def sweep(target: Path) -> None:
    """Remove what processes that ended without cleaning up left beside `target`, if it is the user's.

    An earlier output that was moved aside stays while nothing has taken its place.
    """
    begin = f".{target.name[:NAME]}."
    pattern = re.compile(re.escape(begin) + rf"{_machine()}-(\d+)-[0-9a-f]{{16}}\.(part|new|old)")
    try:
        names = [path.name for path in target.parent.iterdir() if path.name.startswith(begin)]
    except OSError:
        return
    for name in names:
        match = pattern.fullmatch(name)
        place = target.with_name(name)
        if match is None or _lives(int(match[1])) or (match[2] == "old" and not target.exists()):
            continue
        with suppress(OSError):
            found = place.lstat()
            if found.st_uid != os.geteuid():
                continue
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(place)
            else:
                place.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def exchange(one: Path, other: Path) -> bool:
    """Let two places change their contents in one step; False where the system or the file system cannot."""
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return int(rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)) == 0


def _keep_access(descriptor: int, before: os.stat_result) -> None:
    """Give an open file the mode and, where that is allowed, the owner of another."""
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _descriptor(path: Path) -> int | None:
    """The open file of this process that `path` stands for (/dev/stdout, /dev/fd/3), None for any other path.

    Opening such a path again would begin at its start, and its name says nothing about what is open.
    """
    for _ in range(LINKS):
        parent = Path(os.path.realpath(path.parent))
        if parent == Path(f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        try:
            path = parent / (parent / path.name).readlink()
        except OSError:  # no link, or nothing at all
            return None
    return None


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def find_pictures(paths: Iterable[Path], told: Callable[[str], None] = _warn) -> tuple[Path, ...]:
    """Every path that is a file, and the pictures of those that are folders, by name.

    What is called like a picture inside a folder and is none (a folder, a device, `._x.png` of macOS) is skipped, and
    `told` hears of it, once a folder. UsageError for paths that do not exist and folders without a picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        named = sorted(p for p in path.glob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else []
        inside = [p for p in named if _begins_as_picture(p)]
        if not inside:
            what = "holds no picture" if path.is_dir() else "no such file or folder"
            raise UsageError(f"{path}: {what} ({', '.join(sorted(PICTURES))})")
        others = sorted(set(named) - set(inside))
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            told(f"{path}: {others[0].name}{more} skipped: no picture inside")
        found += inside
    return tuple(found)


def _begins_as_picture(path: Path) -> bool:
    """Whether `path` is a regular file that begins like a picture; True where it cannot be read, which tells later."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(SIGNATURES)
    except OSError:
        return True
