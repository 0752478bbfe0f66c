"""Program + Target -> model.so, weights.bin and the driver.

The kernels arrive as object code; `zig cc` compiles the tables and the executor and links them: once as a library
that needs the C library of the board and nothing else, once as a program. Only `bhpe_*` is visible. No path is part of
the result, so the same program gives the same bytes everywhere.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from bhpe_compile.artifact.layout import check_program, model_id, weights_file
from bhpe_compile.artifact.program import Program
from bhpe_compile.artifact.tables import render_tables
from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.targets.target import Target

CSRC = files("bhpe_compile.artifact") / "csrc"

EXECUTOR = (
    *("executor.c", "create.c", "pool.c", "cpu.c", "weights.c", "checksum.c", "embedded.c", "frame.c"),
    "tables.c",
)
"""What every form of a compiled model is made of, besides its kernels."""

EXPORTS = "{ global: bhpe_*; local: *; };\n"

COMPILE = (
    *("-std=c11", "-O2", "-g0", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"),
    *("-Wall", "-Wextra", "-Werror", "-pthread", "-ffp-contract=off", "-fno-math-errno"),
)
LINK = ("-Wl,--gc-sections", "-s")
SHARED_OBJECT = (
    *("-shared", "-fPIC", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"),
    *("-Wl,-soname,model.so", "-Wl,--version-script=exports.map"),
)
NEEDS_FILES = ("bhpe_create_from_path",)
"""Functions that a WebAssembly module does not export: with them it would ask its host for a file system."""


def declared() -> list[str]:
    """The functions of the C interface, as bhpe.h declares them."""
    return re.findall(r"^BHPE_API .*?\b(bhpe_\w+)\(", (CSRC / "bhpe.h").read_text(), re.MULTILINE)


def web_module() -> tuple[str, ...]:
    """How a WebAssembly module is linked that a host calls into: it imports nothing, and exports the C interface and
    what puts weights and pictures into its memory. A run takes some kilobytes of stack."""
    exported = [name for name in declared() if name not in NEEDS_FILES]
    exports = (f"-Wl,--export={name}" for name in (*exported, "malloc", "aligned_alloc", "free"))
    return "-mexec-model=reactor", "-Wl,-z,stack-size=1048576", *exports


def module_kind(name: str) -> tuple[str, ...]:
    """How a library of this name is linked."""
    return web_module() if name == "model.wasm" else SHARED_OBJECT


ONE_THREAD = ("-DBHPE_ONE_THREAD",)


@dataclass(frozen=True)
class Linked:
    """The files of one compiled model, and the id that ties library and weights together (hexadecimal)."""

    module: bytes
    driver: bytes
    weights: bytes
    model_id: str


def headers() -> dict[str, bytes]:
    """The C interface and its C++ form, as they are shipped beside a library."""
    return {name: (CSRC / name).read_bytes() for name in ("bhpe.h", "bhpe.hpp")}


def write_sources(program: Program, folder: Path) -> list[str]:
    """Put everything the linker needs into `folder`; returns the objects' names."""
    check_program(program)
    for source in CSRC.iterdir():
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "tables.c").write_text(render_tables(program), encoding="ascii")
    (folder / "exports.map").write_text(EXPORTS, encoding="ascii")
    names = []
    for index, content in enumerate(program.objects):
        names.append(f"kernels{index}.o")
        (folder / names[-1]).write_bytes(content)
    return names


def needs(target: Target) -> tuple[str, ...]:
    """Definitions that let create refuse a processor without what the kernels use."""
    return tuple(f"-DBHPE_NEEDS_{feature}" for feature in target.requires)


def embedding(embed: bool) -> tuple[str, ...]:
    """Options that make weights.bin, which must lie beside the sources, a part of the library."""
    return ("-DBHPE_EMBED", "-Wno-c23-extensions") if embed else ()


def link(program: Program, target: Target, *, embed: bool = False) -> Linked:
    """Build everything for `target`; `embed`: with the weights in the library.

    ToolchainError without a compiler, or when code needs what is not there.
    """
    with tempfile.TemporaryDirectory(prefix="bhpe-link-") as name:
        folder = Path(name)
        objects = write_sources(program, folder)
        weights = weights_file(program)
        if embed:
            (folder / "weights.bin").write_bytes(weights)

        def build(output: str, zig: Sequence[str], kind: Sequence[str], names: Sequence[str]) -> bytes:
            # where they always lie, so that zig finds them in its cache; embedded.c reads weights.bin beside itself
            lasting = () if embed else (set(names) - {"tables.c"})
            sources = [str(CSRC / name) if name in lasting else name for name in names]
            system = (*needs(target), *(() if target.threads else ONE_THREAD), *embedding(embed))
            zig_cc([*zig, *COMPILE, *system, *kind, *LINK, *sources, *objects, "-lm", "-o", output], folder)
            return (folder / output).read_bytes()

        with ThreadPoolExecutor(2) as pool:
            module = pool.submit(build, target.module, target.zig, module_kind(target.module), EXECUTOR)
            driver = pool.submit(build, "driver", target.zig_driver, (), (*EXECUTOR, "session.c", "driver.c"))
            return Linked(module.result(), driver.result(), weights, model_id(program).hex())
