"""Starting other programs, so that nothing lying in the working folder is ever executed.

Python puts the working folder, or the script's, in front of its search path (`python -m`, `-c`); an empty or relative
entry of PYTHONPATH or PATH means the working folder, too. A `tvm.py` or a `zig` that somebody left in a folder of
pictures would then run. Every program this package starts is started with the arguments and the environment made here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Variables that list folders in which programs, modules and libraries are looked for."""

SAFE = "PYTHONSAFEPATH"
"""What `-P` says, as a variable: it reaches Pythons that libraries start (multiprocessing, torch's DataLoader)."""

_OURS = Path(__file__).parent

_BEGIN = """import sys
sys.path.insert(0, sys.argv[1])
import {package}
del sys.path[0], sys.argv[1]
from {module} import {function}
{function}()
"""


def python_command(*words: str | Path) -> list[str]:
    """This Python with `words` (`-c`, code, arguments, ...), without the working folder on its search path."""
    return [sys.executable, "-P", *map(str, words)]


def our_command(module: str, function: str) -> list[str]:
    """A Python that calls a function of this package, from the folder this package was imported from.

    Only the package itself is looked for there: a checkout in the working folder lends nothing else.
    """
    code = _BEGIN.format(package=_OURS.name, module=module, function=function)
    return python_command("-c", code, _OURS.parent)


def child_environment(**more: str) -> dict[str, str]:
    """os.environ for another program, and `more`: every searched folder is absolute.

    PYTHONPATH holds what this process imports from, so that a child finds the same packages. The working folder is
    among it only where the user's own PYTHONPATH names it in full.
    """
    given = _absolute("PYTHONPATH")
    here = _real("")
    imported = [entry for entry in sys.path if Path(entry).is_absolute() and _real(entry) != here]
    modules = os.pathsep.join(dict.fromkeys([*given, *imported]))
    home = {} if has_home() else {"HOME": _private_home().name}
    return {**os.environ, **_cleaned(), **home, "PYTHONPATH": modules, SAFE: "1", **more}


def has_home() -> bool:
    """Whether the account has a home folder by name: in containers neither HOME nor /etc/passwd may tell of one."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


@cache
def _private_home() -> TemporaryDirectory[str]:
    """A home folder for programs that insist on one (TVM), removed at the end of this process."""
    import tempfile

    return tempfile.TemporaryDirectory(prefix="bhpe-home-")


def find_program(name: str) -> str | None:
    """The absolute path of a program on PATH, None where it is missing; relative entries of PATH are left out."""
    return shutil.which(name, path=_cleaned().get("PATH", os.defpath))


@contextmanager
def safe_children() -> Iterator[None]:
    """Inside, processes that libraries start by themselves get `child_environment`."""
    changed = {name: os.environ.get(name) for name in (*SEARCHED, SAFE)}
    os.environ.update(child_environment())
    try:
        yield
    finally:
        for name, value in changed.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def leave_working_folder() -> None:
    """For the command line: from here on this process and its children import and find nothing in the working folder.

    Takes back what `python -m` and empty or relative entries of PYTHONPATH put on sys.path, and drops such entries
    from the environment. A checkout that is the working folder is looked into last.
    """
    unwanted = {
        _real(entry)
        for entry in (os.environ.get("PYTHONPATH") or os.sep).split(
            os.pathsep
        )  # an empty one counts for nothing
        if not Path(entry).is_absolute()
    }
    if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:  # `python -m` is looking for this package
        unwanted.add(_real(sys.path[0]))
    unwanted -= {_real(entry) for entry in _absolute("PYTHONPATH")}
    sys.path[:] = [entry for entry in sys.path if _real(entry) not in unwanted]
    if _real(str(_OURS.parent)) in unwanted:  # processes that multiprocessing starts look for the package
        sys.path.append(str(_OURS.parent))
    os.environ.update(_cleaned())
    os.environ[SAFE] = "1"


def _absolute(variable: str) -> list[str]:
    return [entry for entry in os.environ.get(variable, "").split(os.pathsep) if Path(entry).is_absolute()]


def _cleaned() -> dict[str, str]:
    """The variables of `SEARCHED` that are set, without relative entries; an empty PATH would be the working folder."""
    found = {name: os.pathsep.join(_absolute(name)) for name in SEARCHED if name in os.environ}
    return {name: value or (os.defpath if name == "PATH" else "") for name, value in found.items()}


def _real(entry: str) -> str | None:
    """Where `entry` is; None where the working folder, which it depends on, is gone."""
    try:
        return os.path.realpath(entry)
    except OSError:
        return None
