"""Text from outside: names of files, layers and targets are shown as text, whatever they contain."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` on one line: control characters, escape sequences, changes of direction and half characters as \x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def printable_lines(text: str) -> str:
    """The same line by line."""
    return "\n".join(map(printable, text.split("\n")))


def to_utf8(text: str) -> bytes:
    r"""UTF-8 for a file; half characters, of names that are not UTF-8, as \udcff."""
    return text.encode(errors="backslashreplace")
