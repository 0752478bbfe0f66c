"""Machine code that was made before: a request that was answered once, by the same code, is answered from a file.

A file's name is the SHA-256 of the request, of the sources of this package and of the packages that make code of it,
so whatever could change the answer changes the name. A file begins with the SHA-256 of the rest: what is damaged or
half written is no answer, and is made again. It holds data, never pickles: reading it runs nothing. But what it holds
becomes a part of programs, so files that somebody else could have written are no answer, either.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import msgpack

from bhpe_compile.artifact.program import Program
from bhpe_compile.cache import cache_folder
from bhpe_compile.errors import UsageError
from bhpe_compile.files import NAME, write_atomically
from bhpe_compile.passes.lower.weights import Constant

if TYPE_CHECKING:
    from bhpe_compile.passes.lower import Job, Workers

VARIABLE, OFF = "BHPE_CODE_CACHE", "off"
"""The variable that names the folder, and what it says where nothing is to be kept."""

FOLDER = "code"
"""Of the cache folder."""

MOST_BYTES = 512 << 20
"""Of all files together; what was not used for the longest time goes first."""

ABANDONED = 3600
"""Seconds after which a temporary file belongs to nobody."""

MAKERS = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnx-ir", "numpy")
"""Packages that take part in making code."""

ANSWERS: dict[str, Any] = {
    "generate_glue": tuple[Program, tuple[Constant, ...], list[tuple[str, str]]],
    "generate_kernel": tuple[bytes, int],
    "compile": bool,
}
"""What is answered, by the first word of a request; "compile": whether such a model was compiled before."""

OURS = re.compile(rf"[0-9a-f]{{64}}|(?P<unfinished>\.[0-9a-f]{{{NAME}}}\..*\.part)")
"""Names of our files, and of those that nobody has finished."""

DIGEST = 32
"""Bytes of the SHA-256 that a file begins with."""


class CodeCache:
    """A folder of answers; None: nothing is kept and nothing is found."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def of_user(cls, enabled: bool = True) -> CodeCache:
        """In the user's cache folder, or where `VARIABLE` says; none where it says so or there is no home."""
        given = os.environ.get(VARIABLE)
        if not enabled or given == OFF:
            return cls(None)
        if given:
            return cls(Path(given))
        try:
            return cls(cache_folder() / FOLDER)
        except UsageError:
            return cls(None)

    def key(self, *request: object) -> str | None:
        """The name of a request's file; None where nothing is kept, or `request` has no form as data."""
        if self._folder is None:
            return None
        kinds = [type(one).__qualname__ for one in request]
        try:
            content = msgpack.encode((kinds, request), order="deterministic")
        except TypeError:
            return None
        return hashlib.sha256(sources() + content).hexdigest()

    def get(self, kind: str, key: str | None) -> Any:
        """The answer of this kind that was kept, None where there is none."""
        if self._folder is None or key is None:
            return None
        path = self._folder / key
        try:
            content = _read_own(path)
            if content is None or content[:DIGEST] != _digest(key, content[DIGEST:]):
                return None
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # used now
        return msgpack.decode(memoryview(content)[DIGEST:], type=ANSWERS[kind])

    def put(self, key: str | None, answer: object) -> None:
        """Keep an answer; nothing happens where it cannot be written."""
        if self._folder is None or key is None:
            return
        content = msgpack.encode(answer)
        with suppress(OSError):
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / key
            path.unlink(missing_ok=True)  # its owner and mode would be kept
            write_atomically(path, _digest(key, content) + content, mode=0o600)

    def trim(self, most: int = MOST_BYTES) -> None:
        """Remove what was not used for the longest time, down to `most` bytes, and what nobody finished; nothing that
        is not ours."""
        if self._folder is None:
            return
        found = []
        with suppress(OSError):
            for entry in os.scandir(self._folder):
                ours = OURS.fullmatch(entry.name)
                with suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    if ours:
                        found.append((about.st_mtime, about.st_size, entry.path, bool(ours["unfinished"])))
        whole = sum(size for _, size, _, _ in found)
        for used, size, path, unfinished in sorted(found):
            if whole > most or (unfinished and time.time() - used > ABANDONED):
                with suppress(OSError):
                    Path(path).unlink()
                    whole -= size


class KeptCode:
    """Workers that are asked only for what the cache does not hold.

    asked, found: how many jobs there were, and how many the cache answered.
    """

    def __init__(self, workers: Workers, cache: CodeCache) -> None:
        self._workers = workers
        self._cache = cache
        self.asked = self.found = 0

    def run(self, jobs: Sequence[Job], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`."""
        keys = [self._cache.key(*job) for job in jobs]
        results = [self._cache.get(job[0], key) for job, key in zip(jobs, keys, strict=True)]
        missing = [index for index, result in enumerate(results) if result is None]
        found = len(jobs) - len(missing)
        self.asked, self.found = self.asked + len(jobs), self.found + found
        if found:
            done(found)
        if missing:
            made = self._workers.run([jobs[index] for index in missing], lambda count: done(found + count))
            for index, result in zip(missing, made, strict=True):
                results[index] = result
                self._cache.put(keys[index], result)
            self._cache.trim()
        return results


@cache
def sources() -> bytes:
    """A digest of all that makes machine code: the sources of this package, and the packages of `MAKERS`."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    for name in MAKERS:
        one = metadata.distribution(name)
        digest.update(f"{name} {one.version}\n{one.read_text('RECORD')}".encode())  # with every file's digest
    return digest.digest()


def _digest(key: str, content: bytes) -> bytes:
    """Of a file: it tells a file that was given another name, too."""
    return hashlib.sha256(key.encode() + content).digest()


def _read_own(path: Path) -> bytes | None:
    """A regular file that nobody but this user, or root, can have written; None for any other. Raises OSError."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        about = os.fstat(opened)
        ours = about.st_uid in (os.geteuid(), 0) and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return file.read() if stat.S_ISREG(about.st_mode) and ours else None
