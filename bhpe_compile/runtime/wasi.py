"""An artefact's driver as a WebAssembly program with WASI, run by the `wasmtime` package in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bhpe_compile.runtime.machine import Ran, Runner, problem_of

if TYPE_CHECKING:
    from wasmtime import Module, Store

STDOUT = "stdout"


def wasi_runner() -> Runner:
    """A runner of WebAssembly programs, which see their folder alone; each is compiled once however often it runs."""
    from wasmtime import Engine, Module, Store

    engine = Engine()
    compiled: dict[Path, Module] = {}

    def run(folder: Path, program: str, arguments: Sequence[str]) -> Ran:
        path = folder / program
        if path not in compiled:
            compiled[path] = Module.from_file(engine, str(path))
        complaint = run_wasi(Store(engine), compiled[path], folder, [program, *arguments])
        return Ran((folder / STDOUT).read_text(errors="replace"), problem_of(0, complaint))

    return run


def run_wasi(store: Store, module: Module, folder: Path, words: Sequence[str]) -> str:
    """Run a program with these arguments in `folder`; what it wrote to stderr, or why it ended."""
    from wasmtime import ExitTrap, Linker, Trap, WasiConfig, WasmtimeError

    complaint = folder / "stderr"
    wasi = WasiConfig()
    wasi.argv = list(words)
    wasi.preopen_dir(str(folder), ".")
    wasi.stderr_file = str(complaint)
    wasi.stdout_file = str(folder / STDOUT)
    store.set_wasi(wasi)
    linker = Linker(store.engine)
    linker.define_wasi()
    start = linker.instantiate(store, module).exports(store)["_start"]
    try:
        start(store)  # type: ignore[operator]  # a function, as in every WASI program
    except ExitTrap:
        pass  # what went wrong is on stderr
    except (Trap, WasmtimeError) as error:
        return str(error).strip().splitlines()[0]
    return complaint.read_text(errors="replace")
