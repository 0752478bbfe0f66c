"""A session under emulation: the artefact's static driver answers one request file with one response file.

`qemu-aarch64` runs it when it is installed; otherwise the `unicorn` package does, which comes with pip and needs no
rights and no system package.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bhpe_compile.artifact.load import read_file
from bhpe_compile.artifact.manifest import Manifest
from bhpe_compile.errors import InputError, ToolchainError
from bhpe_compile.runtime.protocol import (
    describe_request,
    execute_request,
    parse_description,
    parse_execution,
)
from bhpe_compile.runtime.session import Array, Execution, Place, Probe, Session

DRIVER, WEIGHTS = "driver", "weights.bin"
EMULATOR_OPTIONS = {"qemu-riscv64": ("-cpu", "rv64,v=true,vext_spec=v1.0,vlen=128")}
"""By default qemu has no RISC-V vectors. Registers as short as the standard allows: longer ones run the same code."""

WASM = "wasmtime"
"""The package that runs WebAssembly."""

UNICORN_FOR = "qemu-aarch64"
"""The emulator that unicorn can stand in for here."""

Runner = Callable[[Path, Sequence[str]], str]
"""Runs folder/driver with arguments, in that folder; returns what it wrote to stderr."""


class EmulatedSession(Session):
    """A model whose driver runs in an emulator, once per request."""

    def __init__(self, path: Path, manifest: Manifest, executed: str, runner: Runner) -> None:
        if DRIVER not in manifest["files"]:
            raise InputError(f"{path}: holds no driver to emulate; run it on a machine of its target")
        self.executed = executed
        self._runner = runner
        self._folder = tempfile.TemporaryDirectory(prefix="bhpe-emulate-")
        folder = Path(self._folder.name)
        (folder / DRIVER).write_bytes(read_file(path, manifest, DRIVER))
        (folder / DRIVER).chmod(0o700)
        (folder / WEIGHTS).write_bytes(read_file(path, manifest, WEIGHTS))
        self._description = parse_description(self._answer(describe_request()))
        self.inputs, self.outputs = self._description.inputs, self._description.outputs
        self.steps = self._description.steps

    def _answer(self, request: bytes) -> bytes:
        folder = Path(self._folder.name)
        (folder / "request").write_bytes(request)
        (folder / "response").unlink(missing_ok=True)
        complaint = self._runner(folder, [WEIGHTS, "request", "response"])
        try:
            return (folder / "response").read_bytes()
        except FileNotFoundError:
            raise InputError(f"the driver did not answer: {complaint or 'no message'}") from None

    def _execute(
        self,
        inputs: Sequence[Array],
        taps: Sequence[Place],
        probes: Sequence[Probe],
        forced: Mapping[Place, Array],
    ) -> Execution:
        response = self._answer(execute_request(inputs, taps, probes, forced))
        return parse_execution(response, self._description, probes)

    def close(self) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()


def emulator_command(emulator: str) -> list[str] | None:
    """How to call the emulator, with every CPU feature that a target of ours may use; None where it is missing."""
    program = shutil.which(emulator)
    return None if program is None else [program, *EMULATOR_OPTIONS.get(emulator, ())]


def _command_runner(command: Sequence[str]) -> Runner:
    def run(folder: Path, arguments: Sequence[str]) -> str:
        done = subprocess.run(
            [*command, f"./{DRIVER}", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode < 0:
            return f"it was ended by signal {-done.returncode}"
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else ""

    return run


def _wasi_runner() -> Runner:
    from bhpe_compile.runtime.wasi import wasi_runner

    run = wasi_runner()

    def answer(folder: Path, arguments: Sequence[str]) -> str:
        lines = run(folder, DRIVER, arguments).strip().splitlines()
        return lines[-1] if lines else ""

    return answer


def _unicorn_runner(folder: Path, arguments: Sequence[str]) -> str:
    from bhpe_compile.runtime.unicorn_linux import run_static

    return run_static(folder, DRIVER, arguments).strip()


def open_emulated(path: Path, manifest: Manifest, how: str | None = None) -> EmulatedSession:
    """Open a checked artefact in an emulator: "qemu", "unicorn", or None for the first that is there.

    Raises InputError (no driver in the artefact) and ToolchainError (no emulator, with what to install).
    """
    emulator = manifest["target"].get("emulator")
    if not isinstance(emulator, str):
        raise ToolchainError(
            f"{path}: is compiled for {manifest['target'].get('name')}, which this machine neither runs nor emulates"
        )
    if emulator == WASM:
        if how in (None, WASM) and find_spec("wasmtime") is not None:
            return EmulatedSession(path, manifest, WASM, _wasi_runner())
        raise ToolchainError(f"{path}: is WebAssembly and nothing runs it here: `pip install 'wasmtime>=30'`")
    command = emulator_command(emulator)
    if how in (None, "qemu") and command is not None:
        return EmulatedSession(path, manifest, emulator, _command_runner(command))
    if how in (None, "unicorn") and emulator == UNICORN_FOR and find_spec("unicorn") is not None:
        return EmulatedSession(path, manifest, "unicorn", _unicorn_runner)
    another = " or `pip install 'unicorn>=2.1'`" if emulator == UNICORN_FOR else ""
    raise ToolchainError(
        f"{path}: is compiled for another CPU and no emulator is here: "
        f"install {emulator} (Debian package qemu-user){another}"
    )
