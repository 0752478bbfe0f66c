"""A board that ssh reaches. It needs a shell with mktemp, cat and chmod, and nothing of ours.

One connection serves all commands (ssh's ControlMaster). Files go through `cat`, because small systems have no sftp.
Nothing asks: keys and known hosts are the user's, in ssh's own configuration.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.processes import child_environment, find_program
from bhpe_compile.runtime.machine import Ran, problem_of

CONNECT_SECONDS = 10

LOST = 255
"""ssh's own status where it, and not the command, failed."""

FOLDER = re.compile(r"/[\w./ -]+")
"""What a folder's name may look like that a board tells."""

DESTINATION = re.compile(r"[\w.@:\[\]%+-]*")

PLAIN = re.compile(r"[\w./+ -]{1,60}", re.ASCII)
"""Folders that ssh takes in quotes for a socket, whose path is at most 108 bytes."""


class SshMachine:
    """A new folder on the board, removed at the end. ToolchainError where there is no connection."""

    def __init__(self, destination: str, config: Path | None = None) -> None:
        if not destination or destination.startswith("-") or not DESTINATION.fullmatch(destination):
            raise UsageError(f"--ssh {destination}: must be user@host, or a name of ssh's configuration")
        program = find_program("ssh")
        if program is None:
            raise ToolchainError("ssh is missing: install it (Debian package openssh-client)")
        self.executed = f"{destination} (ssh)"
        self._destination = destination
        plain = PLAIN.fullmatch(tempfile.gettempdir())
        self._sockets = tempfile.TemporaryDirectory(prefix="bhpe-ssh-", dir=None if plain else "/tmp")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ControlMaster": "auto",
            "ControlPath": f'"{self._sockets.name}/c"',
            "ControlPersist": "60",
            "LogLevel": "ERROR",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._command = [program, *(["-F", str(config)] if config else []), *words]
        self._folder: str | None = None
        try:
            made = self._ask('mktemp -d "${TMPDIR:-/tmp}/bhpe.XXXXXX"').decode(errors="replace").strip()
            if not FOLDER.fullmatch(made):
                raise ToolchainError(
                    f"--ssh {destination}: mktemp there answered {made[:80]!r}, not a folder"
                )
        except BaseException:
            self.close()
            raise
        self._folder = made

    def put(self, name: str, data: bytes, *, program: bool = False) -> None:
        self._ask(
            f"cat > {self._path(name)}" + (f" && chmod 700 {self._path(name)}" if program else ""), data
        )

    def run(self, program: str, arguments: Sequence[str]) -> Ran:
        words = shlex.join([f"./{program}", *arguments])
        done = self._ssh(f"cd {shlex.quote(self._here)} && {words}")
        return Ran(done.stdout.decode(errors="replace"), problem_of(done.returncode, _text(done.stderr)))

    def get(self, name: str) -> bytes | None:
        done = self._ssh(f"cat {self._path(name)}")
        return None if done.returncode else done.stdout

    def close(self) -> None:
        if self._folder is not None:
            self._ssh(f"rm -rf {shlex.quote(self._folder)}", lost=True)
            self._folder = None
        subprocess.run(
            [*self._command, "-O", "exit", "--", self._destination],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=child_environment(),
            check=False,
        )
        self._sockets.cleanup()

    @property
    def _here(self) -> str:
        assert self._folder is not None
        return self._folder

    def _path(self, name: str) -> str:
        return shlex.quote(f"{self._here}/{name}")

    def _ask(self, command: str, data: bytes = b"") -> bytes:
        """What a command that must succeed writes."""
        done = self._ssh(command, data)
        if done.returncode:
            reason = problem_of(done.returncode, _text(done.stderr))
            raise ToolchainError(f"--ssh {self._destination}: {reason}")
        return done.stdout

    def _ssh(
        self, command: str, data: bytes = b"", *, lost: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a shell command on the board; ToolchainError where the connection fails, unless that is expected."""
        done = subprocess.run(
            [*self._command, "--", self._destination, command],
            input=data,
            capture_output=True,
            env=child_environment(),
            check=False,
        )
        if done.returncode == LOST and not lost:
            raise ToolchainError(f"--ssh {self._destination}: {problem_of(LOST, _text(done.stderr))}")
        return done


def _text(stderr: bytes) -> str:
    return stderr.decode(errors="replace")
