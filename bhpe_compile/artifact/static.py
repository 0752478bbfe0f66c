"""A model to link into a program: libmodel.a, the headers, two example programs and a CMake package.

The library computes in the caller's thread, and a program that uses bhpe_create_in needs nothing of the system but
memcpy and its kin, and libm: no allocator, no files, no threads. Two models in one program would define the same names.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

from bhpe_compile.artifact.layout import weights_file
from bhpe_compile.artifact.link import COMPILE, CSRC, EXECUTOR, ONE_THREAD, embedding, needs, write_sources
from bhpe_compile.artifact.program import Program
from bhpe_compile.artifact.toolchain import zig
from bhpe_compile.targets.target import Target

BUNDLE = files("bhpe_compile.artifact") / "bundle"
ARCHIVE = "libmodel.a"


def static_files(program: Program, target: Target, *, embed: bool = False) -> dict[str, bytes]:
    """The files of the bundle by name, without those that every artefact has. ToolchainError as `link` raises it."""
    with tempfile.TemporaryDirectory(prefix="bhpe-static-") as name:
        folder = Path(name)
        objects = write_sources(program, folder)
        if embed:
            (folder / "weights.bin").write_bytes(weights_file(program))
        system = (*needs(target), *ONE_THREAD, *embedding(embed))
        flags = [*target.zig_driver, *COMPILE, *system, "-fPIC"]
        compiled = [Path(source).with_suffix(".o").name for source in EXECUTOR]
        for source, output in zip(EXECUTOR, compiled, strict=True):
            # where it always lies, so that zig finds it in its cache; embedded.c reads weights.bin beside itself
            place = folder if source in ("tables.c", "embedded.c") else CSRC
            zig(["cc", *flags, "-c", str(place / source), "-o", output], folder)
        members = [*compiled, *objects]
        zig(["ar", "rcsD", ARCHIVE, *members], folder)
        found = {ARCHIVE: (folder / ARCHIVE).read_bytes()}
    return found | {file.name: file.read_bytes() for file in BUNDLE.iterdir() if file.is_file()}
