"""Targets that a user describes: a TOML file, or TVM's own description as JSON or as an option string.

A file has one table a target, which says what is different from a target of the list:

    [garden-camera]
    like = "arm"               # the target it starts from
    summary = "the camera at the gate"
    mcpu = "cortex-a55"        # as LLVM calls the processor
    mattr = ["+dotprod"]       # features besides those of mcpu
    int8 = "sdot"              # the instruction for 8-bit layers: one of the family's
    requires = ["asimddp"]     # features, as Linux calls them, that a machine is asked for before code is loaded
    tiles = "tiles.json"       # register tiles that `tune` measured, beside the file

TVM's description names the processor alone; the target of the list that is nearest to it supplies the rest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MalformedError, parse_json, read_toml
from bhpe_compile.targets.int8_instructions import SDOT, SMLAL, SMULL, Int8Instruction
from bhpe_compile.targets.target import Target
from bhpe_compile.text import printable

Presets = Mapping[str, Target]

FILE_KEYS = {
    "like": str,
    "summary": str,
    "mcpu": str,
    "mattr": list,
    "int8": str,
    "requires": list,
    "tiles": str,
}
TVM_KEYS = {"kind": str, "mtriple": str, "mcpu": str, "mattr": list, "mabi": str, "mfloat-abi": str}

INT8: Mapping[str, tuple[Int8Instruction, ...]] = {"aarch64": (SMULL, SMLAL, SDOT)}
"""Family -> instructions that its kernels may use; others have one."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
"""Names of targets: they become names of folders and packages."""

DOT_PRODUCTS = "+dotprod"

LINUX_NAMES = {
    "+dotprod": ("asimddp",),
    "+fullfp16": ("fphp", "asimdhp"),
    "+lse": ("atomics",),
    "+rdm": ("asimdrdm",),
    "+neon": ("asimd",),
    "+v": ("v",),
}
"""LLVM's feature -> Linux' names of it."""

BASES = {
    "x86_64": "x86",
    "aarch64": "arm",
    "arm": "armv7",
    "armv7": "armv7",
    "riscv64": "riscv64",
    "wasm32": "wasm32",
}
"""How a triple begins -> the target to start from, unless the processor is one of the list."""


def is_description(text: str) -> bool:
    """Whether a value of --target is a file or a description rather than a name."""
    return text.startswith("{") or text.startswith("llvm") or ".toml" in text


def describe_target(text: str, presets: Presets) -> Target:
    """The target that a file (PATH.toml or PATH.toml:NAME), JSON or an option string describes.

    UsageError where it does not exist or is unclear; InputError for a file or a description that is damaged.
    """
    if text.startswith("{"):
        return from_tvm(_parse_json(text), presets)
    if ".toml" not in text:
        return from_tvm(_parse_options(text), presets)
    path, _, name = text.partition(".toml")
    return from_file(Path(f"{path}.toml"), name.removeprefix(":"), presets)


def from_file(path: Path, name: str, presets: Presets) -> Target:
    """Table `name` of the file; the only one where `name` is empty."""
    try:
        tables = read_toml(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MalformedError as error:
        raise InputError(f"{path}: is not TOML ({error})") from None
    named = {key: value for key, value in tables.items() if isinstance(value, dict)}
    if not named or len(named) < len(tables):
        raise InputError(f"{path}: wants one table a target, [name]; see docs/devices.md")
    if not name and len(named) > 1:
        raise UsageError(f"{path}: describes {', '.join(named)}; say which with {path}:NAME")
    chosen = name or next(iter(named))
    if chosen not in named:
        raise UsageError(f"{path}: describes no {chosen}, but {', '.join(named)}")
    where = f"{path}: [{chosen}]"
    if not NAME.fullmatch(chosen):
        raise InputError(
            f"{path}: [{printable(chosen)}]: a name has letters, digits and . _ - in it, at most 64"
        )
    table = _checked(named[chosen], FILE_KEYS, where)
    like = table.get("like", "")
    if like not in presets:
        raise InputError(f"{where}: like must name a target of `bhpe-compile targets`, not {like!r}")
    base = presets[like]
    llvm = dict(base.llvm)
    if "mcpu" in table:
        llvm["mcpu"] = table["mcpu"]
    if "mattr" in table:
        llvm["mattr"] = [*llvm.get("mattr", ()), *_features(table["mattr"], where)]
    tiles: str | Path = path.parent / table["tiles"] if "tiles" in table else base.tiles or base.name
    target = replace(
        base,
        name=chosen,
        like=base.name,
        summary=printable(table.get("summary", f"like {base.name}, described in {path.name}")),
        llvm=llvm,
        requires=tuple(dict.fromkeys((*base.requires, *table.get("requires", ()), *_linux(llvm)))),
        tiles=tiles,
    )
    return _with_int8(target, table.get("int8"), where)


def from_tvm(description: Mapping[str, Any], presets: Presets) -> Target:
    """What TVM's own description means here."""
    where = "--target"
    given = _checked(description, TVM_KEYS, where)
    if given.get("kind") != "llvm" or "mtriple" not in given:
        raise UsageError(f"{where}: a description wants kind llvm and an mtriple, such as aarch64-linux-gnu")
    family = given["mtriple"].split("-")[0]
    start = next((base for begin, base in BASES.items() if family.startswith(begin)), None)
    if start is None:
        raise UsageError(
            f"{where}: no kernels for {given['mtriple']}; `bhpe-compile targets` lists what there is"
        )
    same = [
        t
        for t in presets.values()
        if t.llvm.get("mcpu") == given.get("mcpu") and t.family == presets[start].family
    ]
    base = same[0] if same else presets[start]
    llvm = {**base.llvm, **given, "mtriple": base.triple}
    if "mattr" in given:
        llvm["mattr"] = list(dict.fromkeys((*base.llvm.get("mattr", ()), *_features(given["mattr"], where))))
    requires = tuple(dict.fromkeys((*base.requires, *_linux(llvm))))
    target = replace(
        base,
        name="-".join(filter(None, (base.family, given.get("mcpu")))),
        like=base.name,
        summary=f"like {base.name}, as described",
        llvm=llvm,
        requires=requires,
        tiles=base.tiles or base.name,
    )
    return _with_int8(target, None, where)


def _parse_json(text: str) -> Mapping[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UsageError(f"--target: is no JSON ({error})") from None
    assert isinstance(value, dict)  # it begins with a brace
    return value


def _parse_options(text: str) -> Mapping[str, Any]:
    """`llvm -mtriple=... -mcpu=... -mattr=+a,+b`, as TVM took it for years."""
    try:
        kind, *words = shlex.split(text)
    except ValueError as error:  # a quote without its other half
        raise UsageError(f"--target: cannot read {text!r} ({error})") from None
    found: dict[str, Any] = {"kind": kind}
    for word in words:
        name, equals, value = word.partition("=")
        if not name.startswith("-") or not equals:
            raise UsageError(f"--target: cannot read {word!r}; write -mcpu=NAME")
        key = name.lstrip("-")
        found[key] = value.split(",") if key == "mattr" else value
    return found


def _checked(table: Mapping[str, Any], keys: Mapping[str, type], where: str) -> dict[str, Any]:
    for key, value in table.items():
        if key not in keys:
            raise InputError(f"{where}: unknown key {key!r}; known are {', '.join(keys)}")
        words = isinstance(value, list) and all(isinstance(word, str) for word in value)
        if not (words if keys[key] is list else isinstance(value, str)):
            raise InputError(f"{where}: {key} must be {'a list of words' if keys[key] is list else 'a word'}")
    return dict(table)


def _features(words: list[str], where: str) -> list[str]:
    for word in words:
        if word[:1] not in ("+", "-"):
            raise InputError(f"{where}: mattr wants +feature or -feature, not {word!r}")
    return words


def _linux(llvm: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for word in llvm.get("mattr", ()) for name in LINUX_NAMES.get(word, ()))


def _with_int8(target: Target, name: str | None, where: str) -> Target:
    """The target with the asked 8-bit instruction; by default dot products where the features have them."""
    if name is None and (target.family != "aarch64" or DOT_PRODUCTS not in target.llvm.get("mattr", ())):
        return target
    known = INT8.get(target.family, (target.isa.int8,))
    chosen = next((one for one in known if one.name == (name or SDOT.name)), None)
    if chosen is None:
        raise InputError(f"{where}: int8 must be one of {', '.join(one.name for one in known)}, not {name!r}")
    return replace(target, isa=replace(target.isa, int8=chosen))


def restore_target(entry: Mapping[str, Any], presets: Presets) -> Target | None:
    """The target that a manifest tells of; None where this version has none that is the same."""
    base = presets.get(str(entry.get("name")), presets.get(str(entry.get("like"))))
    if base is None:
        return None
    family = INT8.get(base.family, (base.isa.int8,))
    int8 = next((one for one in family if one.name == entry.get("int8")), base.isa.int8)
    target = replace(
        replace(base, isa=replace(base.isa, int8=int8)).multiplying(entry.get("int8")),
        name=str(entry.get("name")),
        summary=str(entry.get("summary")),
        like=str(entry.get("like")),
        llvm=entry.get("llvm", base.llvm),
        requires=tuple(entry.get("requires", base.requires)),
        tiles=base.tiles or base.name,
    )
    return target if target.to_json() == entry else None
