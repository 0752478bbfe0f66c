"""What a target is: plain data. A new CPU is one more value, never a branch somewhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tiles, packaged_tiles, read_tiles

GLIBC = "2.28"
"""The oldest C library a compiled model.so runs on (Debian 10, RHEL 8, Ubuntu 18.10 and later)."""


@dataclass(frozen=True)
class Target:
    """One CPU, or class of CPUs, to compile for.

    `llvm` is TVM's target dictionary for the kernels, `isa` the vector unit they are written for.
    `zig` are the arguments of `zig cc` for the library (dynamic, against glibc), `zig_driver` those for the driver:
    against musl, which zig links statically, so that it runs on any board; against glibc for x86, where building musl
    once (half a minute) is not worth it.
    `emulator` is the program that runs the driver on another CPU, if one is known. `requires` are the CPU features
    the kernels use, as Linux names them in /proc/cpuinfo. `tiles` says which table of register tiles is used: that of
    another target, by name, or a file of the user's; by default its own. `like` is the target of the list that one
    described by a user starts from. `module` is what the library is called;
    `threads` says whether its system has any.
    """

    name: str
    summary: str
    family: Literal["x86_64", "aarch64", "armv7", "riscv64", "wasm32"]
    triple: str
    llvm: Mapping[str, Any]
    isa: VectorIsa
    zig: tuple[str, ...]
    zig_driver: tuple[str, ...]
    emulator: str | None
    requires: tuple[str, ...]
    tiles: str | Path = ""
    like: str = ""
    module: str = "model.so"
    threads: bool = True

    def measured_tiles(self) -> Tiles:
        """Its table of register tiles; raises what `read_tiles` raises for a table of the user's."""
        if isinstance(self.tiles, Path):
            return read_tiles(self.tiles, self.isa.name)
        return packaged_tiles(self.tiles or self.name)

    @property
    def in_pairs(self) -> Target:
        """The same target for pair-safe weights: itself where it multiplies all weights alike."""
        return self if self.isa.in_pairs is None else replace(self, isa=self.isa.in_pairs)

    def multiplying(self, int8: object) -> Target:
        """The same target for the weights of an artefact whose 8-bit instruction is called `int8`."""
        pairs = self.in_pairs
        return pairs if pairs.isa.int8.name == int8 else self

    def to_json(self) -> dict[str, Any]:
        """The target as the manifest and `targets --format json` show it."""
        return {
            "name": self.name,
            "summary": self.summary,
            "family": self.family,
            "triple": self.triple,
            "llvm": dict(self.llvm),
            "like": self.like or self.name,
            "isa": self.isa.name,
            "int8": self.isa.int8.name,
            "zig": list(self.zig),
            "emulator": self.emulator,
            "requires": list(self.requires),
        }
