"""A machine that runs an artefact's driver: a folder on it, programs started there, files in and out.

An emulator on this machine is one, a board that ssh or TVM's RPC reaches another. The driver is a static program that
asks for nothing but a kernel, so a machine needs no software for it.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bhpe_compile.processes import child_environment

DRIVER, WEIGHTS, REQUEST, RESPONSE = "driver", "weights.bin", "request", "response"
"""Names of files on a machine."""


@dataclass(frozen=True)
class Ran:
    """How a program ended: `problem` is the last line it wrote to stderr, or what ended it; "" where all is well."""

    output: str
    problem: str


class Machine(Protocol):
    """One folder on a machine; names are those of files in it."""

    executed: str
    """Where that is, for people: "qemu-aarch64", "pi@rpi4 (ssh)"."""

    def put(self, name: str, data: bytes, *, program: bool = False) -> None:
        """Write a file, one that can be started where `program`."""

    def run(self, program: str, arguments: Sequence[str]) -> Ran:
        """Run a program of the folder, in the folder, to its end."""

    def get(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""

    def close(self) -> None:
        """Remove the folder and end the connection."""


Runner = Callable[[Path, str, Sequence[str]], Ran]
"""Runs folder/program with arguments, in that folder."""


class Emulator:
    """A temporary folder of this machine, whose programs an emulator runs."""

    def __init__(self, executed: str, runner: Runner) -> None:
        self.executed = executed
        self._runner = runner
        self._temporary = tempfile.TemporaryDirectory(prefix="bhpe-emulate-")
        self._folder = Path(self._temporary.name)

    def put(self, name: str, data: bytes, *, program: bool = False) -> None:
        (self._folder / name).write_bytes(data)
        if program:
            (self._folder / name).chmod(0o700)

    def run(self, program: str, arguments: Sequence[str]) -> Ran:
        return self._runner(self._folder, program, arguments)

    def get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def close(self) -> None:
        self._temporary.cleanup()


def command_runner(command: Sequence[str]) -> Runner:
    """A runner that puts `command` in front of the program."""

    def run(folder: Path, program: str, arguments: Sequence[str]) -> Ran:
        done = subprocess.run(
            [*command, f"./{program}", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=child_environment(),
            check=False,
        )
        return Ran(done.stdout, problem_of(done.returncode, done.stderr))

    return run


def problem_of(status: int, stderr: str) -> str:
    """What a program complains of, "" where it ended well and wrote nothing."""
    lines = stderr.strip().splitlines()
    if status < 0:
        return ": ".join((f"it was ended by signal {-status}", *lines[-1:]))
    if lines:
        return lines[-1]
    return f"it ended with status {status} and no message" if status else ""
