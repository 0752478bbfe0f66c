"""Runs the real command line, in a process of its own or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bhpe_compile.processes import SAFE, python_command

ROOT = Path(__file__).parent.parent
FILES = [
    *("bhpe.h", "bhpe.hpp", "driver", "manifest.json", "model.onnx", "model.so"),
    *("reference.npz", "report.json", "weights.bin"),
]
"""What an artefact for Linux holds."""

COMMAND = tuple(python_command("-m", "bhpe_compile.cli"))


@dataclass(frozen=True)
class Outcome:
    """What a finished command left: its exit code and both streams."""

    code: int
    stdout: str
    stderr: str


def environment(**more: str) -> dict[str, str]:
    """The environment a command runs in: this checkout first on the path, one thread a process."""
    ours = {
        name: value for name, value in os.environ.items() if name != SAFE
    }  # set by commands in this process
    return {**ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def bhpe(*arguments: str | Path, cwd: Path | None = None, timeout: float = 300, **more: str) -> Outcome:
    """Run `bhpe-compile` with `arguments` (and the variables `more`) and wait for its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def inside(*arguments: str | Path, cwd: Path | None = None) -> Outcome:
    """Run the command line in this process: the same words, exit code and streams, without importing everything anew.

    For errors and for short answers. What is about the process itself (imports, signals, memory) wants `bhpe`.
    """
    from bhpe_compile.cli.main import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    variables = dict(os.environ)
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        warnings.catch_warnings(),
    ):
        try:
            code = main([str(word) for word in arguments])
        finally:
            os.environ.clear()
            os.environ.update(variables)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return Outcome(code, stdout, stderr)


def listing(folder: Path) -> list[str]:
    """Everything below `folder`, hidden files included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def every_command(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of the command line with the words that call it; of a group the commands in it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, *words, name)
        else:
            yield (*words, name), command
