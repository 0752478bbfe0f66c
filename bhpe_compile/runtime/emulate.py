"""Emulators: a machine of another CPU, here.

`qemu-*` runs a driver where it is installed; for AArch64 the `unicorn` package does otherwise, which comes with pip
and needs no rights and no system package. `wasmtime` runs WebAssembly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bhpe_compile.artifact.manifest import Manifest
from bhpe_compile.errors import ToolchainError
from bhpe_compile.processes import find_program
from bhpe_compile.runtime.driven import DrivenSession
from bhpe_compile.runtime.machine import Emulator, Ran, command_runner, problem_of
from bhpe_compile.targets.host import missing_features

EMULATOR_OPTIONS = {"qemu-riscv64": ("-cpu", "rv64,v=true,vext_spec=v1.0,vlen=128")}
"""By default qemu has no RISC-V vectors. Registers as short as the standard allows: longer ones run the same code."""

WASM = "wasmtime"
"""The package that runs WebAssembly."""

EMULATORS = {
    "aarch64": "qemu-aarch64",
    "armv7": "qemu-arm",
    "riscv64": "qemu-riscv64",
    "wasm32": WASM,
}
"""Family -> the emulator that is started. A manifest is written by whoever made the artefact: it names no program."""

UNICORN_FOR = "qemu-aarch64"
"""The emulator that unicorn can stand in for here."""


RATES = {"binary": 3e8, "int8": 1.9e8, "float": 1e8}
"""Multiply-accumulates a second of emulated code, by precision: unicorn on one core; qemu is about as fast."""


def emulated_seconds(manifest: Manifest, report: object) -> float | None:
    """About how long one run of an artefact takes under emulation here, by the MACs of its report; None where this
    machine runs it directly, or where the report does not say."""
    target = manifest["target"]
    macs = report.get("macs") if isinstance(report, Mapping) else None
    if not missing_features(target["family"], target["requires"]) or not isinstance(macs, Mapping):
        return None
    return sum(float(macs.get(precision, 0)) / rate for precision, rate in RATES.items())


def emulator_command(emulator: str) -> list[str] | None:
    """How to call the emulator, with every CPU feature that a target of ours may use; None where it is missing."""
    program = find_program(emulator)
    return None if program is None else [program, *EMULATOR_OPTIONS.get(emulator, ())]


def _unicorn_runner(folder: Path, program: str, arguments: Sequence[str]) -> Ran:
    from bhpe_compile.runtime.unicorn_linux import run_static

    return Ran("", problem_of(0, run_static(folder, program, arguments)))


def open_emulated(path: Path, manifest: Manifest, how: str | None = None) -> DrivenSession:
    """Open a checked artefact in an emulator: "qemu", "unicorn", or None for the first that is there.

    Raises InputError (no driver in the artefact) and ToolchainError (no emulator, with what to install).
    """
    emulator = EMULATORS.get(manifest["target"]["family"])
    if emulator is None:
        raise ToolchainError(
            f"{path}: is compiled for {manifest['target'].get('name')}, which this machine neither runs nor emulates"
        )
    if emulator == WASM:
        if how in (None, WASM) and find_spec("wasmtime") is not None:
            from bhpe_compile.runtime.wasi import wasi_runner

            return DrivenSession(path, manifest, Emulator(WASM, wasi_runner()))
        raise ToolchainError(f"{path}: is WebAssembly and nothing runs it here: `pip install 'wasmtime>=30'`")
    command = emulator_command(emulator)
    if how in (None, "qemu") and command is not None:
        return DrivenSession(path, manifest, Emulator(emulator, command_runner(command)))
    if how in (None, "unicorn") and emulator == UNICORN_FOR and find_spec("unicorn") is not None:
        return DrivenSession(path, manifest, Emulator("unicorn", _unicorn_runner))
    another = " or `pip install 'unicorn>=2.1'`" if emulator == UNICORN_FOR else ""
    raise ToolchainError(
        f"{path}: is compiled for another CPU and no emulator is here: "
        f"install {emulator} (Debian package qemu-user){another}"
    )
