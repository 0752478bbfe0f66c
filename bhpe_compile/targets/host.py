"""The machine this process runs on: its CPU features, and the best target among the presets that it satisfies.

`native` is deliberately conservative: it is a known preset under another name, so it never uses a feature the
host lacks and compiles to the same code on every host of the same class.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from bhpe_compile.errors import UsageError
from bhpe_compile.targets import aarch64, arm32, riscv, x86
from bhpe_compile.targets.target import Target

NATIVE = "native"

_FEATURE_KEYS = ("flags", "features")
"""How /proc/cpuinfo calls the list on x86 and on ARM, in lower case."""

_FAMILIES = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv8l": "armv7"}
"""What `uname -m` may say -> family; a 32-bit program on a 64-bit kernel is told armv8l."""


_NARROW = {"aarch64": "armv7", "x86_64": "i686", "riscv64": "riscv32"}
"""What a 32-bit process on such a kernel is: Raspberry Pi OS has both."""

NARROW = 1 << 32

AT_HWCAP = 16
"""Of getauxval: the processor's features as bits."""

ARMV7_BITS = {"half": 1, "thumb": 2, "vfp": 6, "neon": 12, "vfpv3": 13, "vfpv4": 16, "idiva": 17, "idivt": 18}
"""Linux' names of them and their bits, of 32-bit ARM."""


def auxiliary(kind: int) -> int:
    """A word of what the kernel told this process at its start; 0 where there is none."""
    import ctypes

    ask = getattr(ctypes.CDLL(None), "getauxval", None)
    if ask is None:
        return 0
    ask.restype, ask.argtypes = ctypes.c_ulong, (ctypes.c_ulong,)
    return int(ask(kind))


def parse_features(cpuinfo: str) -> frozenset[str]:
    """The features that every processor of a /proc/cpuinfo text has (big.LITTLE: the intersection)."""
    lists = []
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        name = key.strip().lower()
        if colon and name in _FEATURE_KEYS:
            lists.append(frozenset(value.split()))
        elif colon and name == "isa":  # RISC-V: rv64imafdcv_zicsr_...: letters, then words
            letters, *words = value.strip().lower().split("_")
            lists.append(frozenset((*letters.removeprefix("rv64"), *words)))
    return frozenset.intersection(*lists) if lists else frozenset()


@cache
def host_features() -> frozenset[str]:
    """CPU features of this host as Linux names them to this process; empty on other systems.

    /proc/cpuinfo has the names of the kernel's own width: a 32-bit process asks what the kernel told it.
    """
    if host_family() == "armv7":
        words = auxiliary(AT_HWCAP)
        return frozenset(name for name, bit in ARMV7_BITS.items() if words >> bit & 1)
    path = Path("/proc/cpuinfo")
    return (
        parse_features(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else frozenset()
    )


def cpu_name() -> str:
    """This processor as Linux names it; "unknown" where it does not (boards often have no name)."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, "unknown")


def host_family() -> str:
    """ "x86_64" or "aarch64" on Linux, another word elsewhere. `uname` tells of the kernel, pointers of the process."""
    machine = _FAMILIES.get(platform.machine().lower(), platform.machine())
    if sys.maxsize < NARROW:
        machine = _NARROW.get(machine, machine)
    return machine if platform.system() == "Linux" else platform.system()


def missing_features(family: str, requires: Iterable[str]) -> tuple[str, ...]:
    """What this host lacks to run code of `family` that uses `requires`; empty when it runs it."""
    if host_family() != family:
        return (family,)
    return tuple(sorted(set(requires) - host_features()))


def host_runs(target: Target) -> bool:
    """Whether a library for `target` runs in this process, without emulation."""
    return not missing_features(target.family, target.requires)


def native_target() -> Target:
    """The most demanding preset that this host runs, named `native`. UsageError when there is none."""
    presets = (*x86.PRESETS, *aarch64.PRESETS, *arm32.PRESETS, *riscv.PRESETS)
    for preset in reversed(presets):
        if host_runs(preset):
            return replace(
                preset,
                name=NATIVE,
                summary=f"this machine, as {preset.name}",
                emulator=None,
                tiles=preset.name,
            )
    raise UsageError(
        f"target native: this machine ({host_family()}) runs none of the presets; "
        "name the target of the device instead, `bhpe-compile targets` lists them"
    )
