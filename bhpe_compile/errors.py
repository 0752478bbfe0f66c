"""Errors a user can meet, each with the exit code of the command line.

0 ok, 1 internal error, 2 usage, 3 unsupported or damaged input, 4 verification failed,
5 budget missed, 6 tool chain missing, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class BhpeError(Exception):
    """One clear line for the user: what is wrong, where, and what to do about it."""

    exit_code: ClassVar[int] = 1


class UsageError(BhpeError):
    """The request itself is wrong: missing file, unknown target, unwritable output."""

    exit_code = 2


class InputError(BhpeError):
    """A model, artefact or picture is damaged or not supported."""

    exit_code = 3


class VerificationError(BhpeError):
    """A compiled model does not compute what its reference computes."""

    exit_code = 4


class BudgetError(BhpeError):
    """A limit the user set (accuracy, operations, size, latency) is exceeded."""

    exit_code = 5


class ToolchainError(BhpeError):
    """A compiler, linker or emulator that the request needs is missing or failed."""

    exit_code = 6


class StoppedError(BhpeError):
    """A long run was stopped from outside and can go on where it was."""

    exit_code = 130  # 128 + SIGINT, as shells report it


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """'did you mean ...?', or `otherwise` where nothing is near."""
    found = get_close_matches(name, list(known), 3, 0.5)
    return f"did you mean {' or '.join(found)}?" if found else otherwise
