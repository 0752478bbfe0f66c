"""Targets: CPUs to compile for, by name."""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import replace

from bhpe_compile.errors import UsageError
from bhpe_compile.targets import aarch64, arm32, riscv, wasm, x86
from bhpe_compile.targets.boards import BOARDS
from bhpe_compile.targets.host import NATIVE, host_runs, native_target
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.target import Target
from bhpe_compile.targets.user import describe_target, is_description, restore_target


def _presets() -> dict[str, Target]:
    presets = {target.name: target for target in x86.PRESETS}
    with contextlib.suppress(UsageError):  # a host we have no kernels for still compiles for others
        presets[NATIVE] = native_target()
    others = (*aarch64.PRESETS, *arm32.PRESETS, *riscv.PRESETS, *wasm.PRESETS)
    presets.update({target.name: target for target in others})
    return presets


PRESETS = _presets()
"""Targets by name, in the order they are listed. `native` is there when this host runs one of the others."""


OTHER_NAMES = {
    **dict.fromkeys(("aarch64", "arm64", "armv8", "armv8_a"), "arm"),
    **dict.fromkeys(("arm32", "armhf", "armv7l", "armv7_a"), "armv7"),
    **dict.fromkeys(("x86_64", "amd64", "x64"), "x86"),
    **dict.fromkeys(("wasm", "webassembly"), "wasm32"),
}
"""What systems and compilers call these CPUs, "-" as "_" -> the target to suggest."""


def list_targets() -> tuple[Target, ...]:
    """Every target that can be named."""
    return tuple(PRESETS.values())


def get_target(name: str) -> Target:
    """The target or board called `name`, or what `name` describes (see `user.py`).

    UsageError with the nearest name and the list for anything else; InputError for a damaged description.
    """
    if name in PRESETS:
        return PRESETS[name]
    if name in BOARDS:
        preset, summary = BOARDS[name]
        base = PRESETS[preset]
        return replace(base, name=name, summary=summary, like=preset, tiles=base.tiles or preset)
    if name == NATIVE:
        return native_target()  # raises, and says why
    if is_description(name):
        return describe_target(name, PRESETS)
    plain = name.lower().replace("-", "_")
    near = [OTHER_NAMES[plain]] if plain in OTHER_NAMES else []
    near = near or difflib.get_close_matches(name.lower(), (*PRESETS, *BOARDS), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"unknown target {name!r}: {hint}known are {', '.join((*PRESETS, *BOARDS))}")


__all__ = [
    "BOARDS",
    "PRESETS",
    "Target",
    "VectorIsa",
    "get_target",
    "host_runs",
    "list_targets",
    "native_target",
    "restore_target",
]
