"""manifest.json: what an artefact is made of. Sorted keys, no time stamps, no paths.

format, format_version     "bhpe-artifact", 1
abi_version, model_id      of model.so; weights.bin carries the same id
files                      name -> {sha256, size}, every file but the manifest itself
target                     the CPU, as data
inputs, outputs            [{name, shape, dtype}] in the order of the C interface
network                    what they mean, how a picture becomes an input (`networks/interface.py`)
memory                     bytes of the weights, the arena and the workspace
...                        what the compiler adds: passes, options, versions, model
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bhpe_compile.artifact.program import Port, Program
from bhpe_compile.errors import BhpeError, InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.reading import MalformedError, read_json
from bhpe_compile.targets.target import Target

MANIFEST = "manifest.json"
FORMAT = "bhpe-artifact"
FORMAT_VERSION = 2
ABI_VERSION = 6

WEIGHTS = "weights.bin"
LIBRARIES = ("model.so", "model.wasm")
"""One of these and the weights are what no artefact works without."""

Manifest = dict[str, Any]


def dump_json(value: object) -> bytes:
    """Canonical JSON: sorted keys, two spaces, UTF-8, no NaN."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(
        errors="replace"  # half characters, of a file name that is not UTF-8
    )


def _ports(program: Program, ports: Sequence[Port]) -> list[dict[str, Any]]:
    slots = ((port.name, program.tensors[port.tensor]) for port in ports)
    return [{"name": name, "shape": list(slot.shape), "dtype": slot.dtype} for name, slot in slots]


def make_manifest(
    program: Program,
    target: Target,
    model_id: str,
    contents: Mapping[str, bytes],
    compile_info: Mapping[str, Any],
) -> Manifest:
    """The manifest of an artefact with these file contents; `compile_info` keys stand beside ours."""
    manifest: Manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "abi_version": ABI_VERSION,
        "model_id": model_id,
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in contents.items()
        },
        "target": target.to_json(),
        "inputs": _ports(program, program.inputs),
        "outputs": _ports(program, program.outputs),
        "network": program.interface.to_dict(),
        "memory": {
            "weights": len(program.weights),
            "arena": program.arena_bytes,
            "workspace": program.workspace_bytes,
        },
    }
    taken = sorted(manifest.keys() & compile_info.keys())
    if taken:
        raise BhpeError(f"internal: compile_info may not set {', '.join(taken)} of the manifest")
    return manifest | dict(compile_info)


def load_manifest(path: Path) -> Manifest:
    """The manifest of the artefact folder `path`, its structure checked (its files are not).

    UsageError when there is no such folder; InputError when it is no artefact of a version known here.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such artefact folder")
    file = path / MANIFEST
    try:
        manifest = read_json(file)
    except FileNotFoundError:
        raise InputError(f"{path}: has no {MANIFEST}, so it is not a compiled model") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except MalformedError:
        raise InputError(f"{file}: is not JSON; compile the model again") from None
    problem = _problem(manifest)
    if problem is not None:
        raise InputError(f"{file}: {problem}")
    return dict(manifest)


def listed_files(path: Path) -> frozenset[str] | None:
    """The files of the artefact folder `path`, of whatever version it is; None where it is none."""
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, MalformedError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_file_entry(name, entry) for name, entry in files.items()):
        return None
    return frozenset(files)


def library_name(manifest: Manifest) -> str:
    """What the library of an artefact is called."""
    return next((name for name in LIBRARIES if name in manifest["files"]), LIBRARIES[0])


def _problem(manifest: object) -> str | None:
    """What keeps a parsed JSON value from being a manifest, or None."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return "is not the manifest of a compiled model"
    if manifest.get("format_version") != FORMAT_VERSION:
        return (
            f"format version {manifest.get('format_version')!r} is not {FORMAT_VERSION}; "
            "compile the model again with this version of bhpe-compile"
        )
    if manifest.get("abi_version") != ABI_VERSION:
        return (
            f"C interface {manifest.get('abi_version')!r} is not {ABI_VERSION}; "
            "compile the model again with this version of bhpe-compile"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_file_entry(name, entry) for name, entry in files.items()):
        return "files are not listed as name: {sha256, size}"
    missing = [name for name in (library_name(manifest), WEIGHTS) if name not in files]
    if missing:
        return f"does not list {', '.join(missing)}"
    target = manifest.get("target")
    if (
        not isinstance(target, dict)
        or not isinstance(target.get("family"), str)
        or not _is_words(target.get("requires"))
    ):
        return "target is damaged"
    for key in ("inputs", "outputs"):
        ports = manifest.get(key)
        if not isinstance(ports, list) or not ports or not all(map(_is_port, ports)):
            return f"{key} are damaged"
    if not isinstance(manifest.get("model_id"), str):
        return "model_id is damaged"
    try:
        Interface.from_dict(manifest.get("network"))
    except InputError as error:
        return str(error)
    return None


def _is_file_entry(name: str, entry: object) -> bool:
    plain = (
        name not in ("", ".", "..", MANIFEST) and "/" not in name and "\\" not in name and "\0" not in name
    )
    return (
        plain
        and isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("size")) is int
    )


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_port(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("dtype"), str)
        and isinstance(value.get("shape"), list)
        and all(type(extent) is int and extent >= 0 for extent in value["shape"])
    )


def is_imported(manifest: Mapping[str, Any]) -> bool:
    """Whether an artefact was made of an ONNX file."""
    model = manifest.get("model")
    return isinstance(model, Mapping) and model.get("format") == "onnx"


def products(int8: object, pair_safe: bool) -> str:
    """How 8-bit weights are multiplied, in words: the instruction, and that weights were chosen for pairs of bytes."""
    return f"{int8}, pair-safe weights" if pair_safe else str(int8)


def products_of(manifest: Mapping[str, Any]) -> str:
    """The same of an artefact; "" for one without 8-bit layers, or from before manifests told."""
    said = manifest.get("options") or {}
    int8 = manifest["target"].get("int8")
    return "" if int8 is None or said.get("dense") != "int8" else products(int8, bool(said.get("pair_safe")))
