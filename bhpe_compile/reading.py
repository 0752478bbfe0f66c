"""Reading what others wrote: one reader for each format, used by everybody.

A file is opened only if it is a regular one: a FIFO or a device could be waited for without end. JSON and TOML are
bounded in size, depth and the range of their numbers, so that what follows meets ordinary values. Arrays and archives
are read by `reading_arrays.py`, ONNX files by `reading_onnx.py`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import tomllib
from io import BufferedReader
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20
"""Of a JSON file; the largest that is written here, a report of a full network, has 2 MB."""

MOST_TOML = 1 << 20
"""Bytes of a TOML file."""

LONGEST_KEY = 20
"""Names with dots between them that make one key of TOML: tomllib's time grows with their square."""

DEEPEST = 100
"""Lists and objects within each other."""

SMALLEST, LARGEST = -(1 << 63), (1 << 64) - 1
"""Whole numbers: what 64 bits hold, signed or not."""

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class MalformedError(ValueError):
    """The content is not what its format says; the message has one line."""


class SpecialFileError(OSError):
    """A FIFO, a device or a socket where a file was expected."""


def kind_of(mode: int) -> str | None:
    """What a file of this mode is for people, None for a regular one."""
    return next((name for test, name in KINDS if test(mode)), None)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    OSError where there is none; SpecialFileError where it is something else, which is not opened then.
    """
    if "\0" in str(path):  # Python raises ValueError then, which is no fault of the content
        raise OSError(errno.EINVAL, "no file can have this name", str(path))
    _refuse_special(path.stat().st_mode, path)
    # what took its place since is not waited for
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse_special(os.fstat(opened).st_mode, path)
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def _refuse_special(mode: int, path: Path) -> None:
    kind = kind_of(mode)
    if kind == "a folder":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind is not None:
        raise SpecialFileError(errno.EINVAL, f"is {kind}, not a regular file", str(path))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, at most `most` of them; raises as `open_regular`, and MalformedError for more."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise MalformedError(f"{size} bytes are too many, at most {most} are read")
        return file.read()


def parse_json(content: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text. MalformedError: no JSON, too deep, numbers beyond 64 bits or (`finite`) not finite."""
    try:
        value = json.loads(
            content, parse_int=_whole, parse_constant=_constant if finite else None, parse_float=_number
        )
    except RecursionError:
        raise MalformedError(TOO_DEEP) from None
    except MalformedError:
        raise
    except ValueError as error:
        raise MalformedError(f"no JSON: {error}") from None
    _check_depth(value)
    return value


def read_json(path: Path, *, finite: bool = True) -> Any:
    """`parse_json` of a file; raises as that and as `open_regular`."""
    return parse_json(read_regular(path, MOST_BYTES), finite=finite)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text; raises as `parse_json`."""
    if KEY_TOO_LONG.search(text):
        raise MalformedError(f"more than {LONGEST_KEY} names with dots between them")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise MalformedError(TOO_DEEP) from None
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(str(error)) from None
    except ValueError:  # of int(), for thousands of digits
        raise MalformedError("a number does not fit into 64 bits") from None
    _check_depth(value, numbers=True)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """`parse_toml` of a UTF-8 file; raises as that and as `open_regular`."""
    content = read_regular(path, MOST_TOML)
    try:
        return parse_toml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedError(f"no UTF-8: {error.reason} at byte {error.start}") from None


KEY_TOO_LONG = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{LONGEST_KEY}}}"""
)
"""That many names, each with a dot behind it; also inside a text, where nobody has written them yet."""

TOO_DEEP = f"more than {DEEPEST} lists and objects within each other"


def _whole(text: str) -> int:
    number = int(text) if len(text) <= len(str(SMALLEST)) else LARGEST + 1
    if not SMALLEST <= number <= LARGEST:
        raise MalformedError(f"{text[:24]} does not fit into 64 bits")
    return number


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise MalformedError(f"{text[:24]} is too large")
    return number


def _constant(text: str) -> float:
    raise MalformedError(f"{text} is no number")


def _check_depth(value: Any, *, numbers: bool = False) -> None:
    """MalformedError for what is nested too deeply, for words that are no text and, where `numbers`, their range."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise MalformedError(TOO_DEEP)
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str):
                if not one.isascii() and any("\ud800" <= letter <= "\udfff" for letter in one):
                    raise MalformedError("a word holds half a character")
            elif numbers and type(one) is int and not SMALLEST <= one <= LARGEST:
                raise MalformedError("a number does not fit into 64 bits")
            elif numbers and type(one) is float and not math.isfinite(one):
                raise MalformedError(f"{one} is no number")
        level, depth = inner, depth + 1
