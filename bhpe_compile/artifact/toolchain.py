"""`zig cc`, the one C compiler of the project: it comes with pip and builds for every target from every host."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from bhpe_compile.errors import ToolchainError
from bhpe_compile.processes import child_environment, python_command

CACHE_VARIABLE = "ZIG_GLOBAL_CACHE_DIR"


@cache
def _temporary_cache() -> tempfile.TemporaryDirectory[str]:
    """A cache for this process, removed at its end."""
    return tempfile.TemporaryDirectory(prefix="bhpe-zig-")


def _default_cache() -> Path | None:
    """Where zig keeps its cache by itself, or None when it would not know."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if not base:
        return None
    return Path(base) / "zig" if os.environ.get("XDG_CACHE_HOME") else Path(base) / ".cache" / "zig"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def environment() -> Mapping[str, str]:
    """The environment for zig: the user's cache, or a temporary one where that cannot be written."""
    given = os.environ.get(CACHE_VARIABLE)
    folder = Path(given) if given else _default_cache()
    if folder is None or not _writable(folder):
        folder = Path(_temporary_cache().name)
    # zig keeps a second, project-local cache: beside the first one, never in the working directory
    return child_environment(**{CACHE_VARIABLE: str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)})


def zig_cc(arguments: Sequence[str], folder: Path) -> None:
    """Run `zig cc` in `folder`; raises as `zig` does."""
    zig(["cc", *arguments], folder)


def zig(arguments: Sequence[str], folder: Path) -> None:
    """Run zig in `folder`. ToolchainError when ziglang is missing or refuses."""
    if find_spec("ziglang") is None:
        raise ToolchainError(
            "the C compiler is missing: install it with `pip install 'ziglang>=0.17,<0.18'`, then compile again"
        )
    command = python_command("-m", "ziglang", *arguments)
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ToolchainError(f"zig {arguments[0]} failed: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    """The first line that says `error`, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
