"""An artefact's driver as a WebAssembly program with WASI, run by the `wasmtime` package in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path


def wasi_runner() -> Callable[[Path, str, Sequence[str]], str]:
    """A function of (folder, program, arguments) that runs folder/program, which sees that folder alone.

    It returns what the program wrote to stderr, and compiles a program once however often it runs.
    """
    from wasmtime import Engine, ExitTrap, Linker, Module, Store, Trap, WasiConfig, WasmtimeError

    engine = Engine()
    compiled: dict[Path, Module] = {}

    def run(folder: Path, program: str, arguments: Sequence[str]) -> str:
        path = folder / program
        if path not in compiled:
            compiled[path] = Module.from_file(engine, str(path))
        complaint = folder / "stderr"
        wasi = WasiConfig()
        wasi.argv = [program, *arguments]
        wasi.preopen_dir(str(folder), ".")
        wasi.stderr_file = str(complaint)
        store, linker = Store(engine), Linker(engine)
        store.set_wasi(wasi)
        linker.define_wasi()
        start = linker.instantiate(store, compiled[path]).exports(store)["_start"]
        try:
            start(store)  # type: ignore[operator]  # a function, as in every WASI program
        except ExitTrap:
            pass  # what went wrong is on stderr
        except (Trap, WasmtimeError) as error:
            return str(error).strip().splitlines()[0]
        return complaint.read_text(errors="replace")

    return run
