"""What a compiled model holds, read from its folder: nothing is counted again, and every byte belongs somewhere.

weights.bin is its header, the constants of each layer, those that several layers share (equal constants are stored
once), those of generated code, and the padding between them. model.so and the driver are split by section. Every
other file is one part. The parts of a file add up to its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bhpe_compile.artifact.layout import HEADER
from bhpe_compile.artifact.load import check_artifact, read_file
from bhpe_compile.artifact.manifest import LIBRARIES, MANIFEST, Manifest, library_name, products_of
from bhpe_compile.artifact.web import PACKAGE_FILE, SITE, TEST
from bhpe_compile.errors import InputError
from bhpe_compile.reading import parse_json
from bhpe_compile.report.cost import Costs, Layer
from bhpe_compile.report.elf import elf_parts

T = TypeVar("T")

REPORT, WEIGHTS = "report.json", "weights.bin"

ON_DEVICE = (*LIBRARIES, "weights.bin")
"""What a board needs."""

PURPOSES = {
    "model.wasm": "kernels and executor",
    "driver": "the same as a program",
    "bhpe.h": "the C interface",
    "bhpe.hpp": "the C++ interface",
    "libmodel.a": "the model to link into a program",
    "main.c": "an example program",
    "video.c": "an example program",
    "bhpe_modelConfig.cmake": "the CMake package",
    **dict.fromkeys(("model.js", "people.js"), "the module for pages, workers and Node"),
    "model.d.ts": "its types",
    **dict.fromkeys(SITE, "the page"),
    **dict.fromkeys((PACKAGE_FILE, TEST), "the npm package"),
    "model.onnx": "the network for ONNX Runtime, and what verify compares with",
    "reference.npz": "the recorded picture and outputs",
    "report.json": "layers, steps and decisions",
    "manifest.json": "facts and hashes",
}


@dataclass(frozen=True)
class FilePart:
    """`nbytes` of a file; `layer` is the path of the layer they belong to, or ""."""

    file: str
    part: str
    layer: str
    nbytes: int


@dataclass(frozen=True)
class Artifact:
    """A compiled model as a report sees it.

    `memory`: bytes of the arena, the workspace and the weights while it runs. `notes`: decisions of passes. `network`,
    `preset`: what it was compiled from, None for a bare graph or an ONNX file. `llvm`: TVM's dictionary of its target.
    """

    path: Path
    manifest: Manifest
    report: Mapping[str, Any]
    costs: Costs
    parts: tuple[FilePart, ...]
    memory: Mapping[str, int]
    notes: tuple[Mapping[str, Any], ...]
    network: str | None
    preset: str | None
    llvm: Mapping[str, str]

    @property
    def target(self) -> str:
        """The target it was compiled for, by name."""
        return str(self.manifest["target"].get("name", "unknown"))

    @property
    def products(self) -> str:
        """How 8-bit weights are multiplied, in words; "" without any."""
        return products_of(self.manifest)

    @property
    def files(self) -> dict[str, int]:
        """Sizes by file name."""
        return sizes(self.parts)

    @property
    def device_bytes(self) -> int:
        """Bytes of the files that a board needs."""
        return sum(size for name, size in self.files.items() if name in ON_DEVICE)


def sizes(parts: Iterable[FilePart]) -> dict[str, int]:
    """Bytes by file, in order of first mention."""
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.file] = sums.get(part.file, 0) + part.nbytes
    return sums


def read_artifact(path: Path) -> Artifact:
    """Read and check the artefact folder `path`.

    UsageError when there is no such folder; InputError when a file was changed or its report.json is of an earlier
    version.
    """
    manifest = check_artifact(path)
    if REPORT not in manifest["files"]:
        raise InputError(f"{path}: holds no {REPORT}; compile the model again")
    content = read_file(path, manifest, REPORT)
    return _reading(path, lambda: _artifact(path, manifest, parse_json(content)))


def _reading(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path / REPORT}: is damaged or of an earlier version ({what}); compile the model again"
        ) from None


def _artifact(path: Path, manifest: Manifest, report: dict[str, Any]) -> Artifact:
    names = {layer["name"] for layer in report["layers"]}
    parts = [*_weights(path, manifest, report, names), *_others(path, manifest)]
    kept = {part.layer: part.nbytes for part in parts if part.layer}
    layers = tuple(_layer(layer, report["steps"], kept) for layer in report["layers"])
    model = report.get("model") or {}
    return Artifact(
        path=path,
        manifest=manifest,
        report=report,
        costs=Costs(layers, scheme_of(report)),
        parts=tuple(parts),
        memory={str(name): int(size) for name, size in sorted(manifest.get("memory", {}).items())},
        notes=tuple(dict(note) for note in report.get("notes", [])),
        network=str(model["network"]) if "network" in model else None,
        preset=str(model["preset"]) if "preset" in model else None,
        llvm={str(name): str(value) for name, value in manifest["target"].get("llvm", {}).items()},
    )


def scheme_of(report: Mapping[str, Any]) -> str:
    """By what scheme the network was made binary; "float" when it was not or nobody knows."""
    trained = (report.get("model") or {}).get("binarization")
    if trained:
        return str(trained["scheme"]["name"])
    return str(report.get("options", {}).get("scheme", "float"))


def _layer(row: Mapping[str, Any], steps: Iterable[Mapping[str, Any]], kept: Mapping[str, int]) -> Layer:
    mine = [step for step in steps if step["layer"] == row["name"]]
    traffic = sum(int(step["read_bytes"]) + int(step["written_bytes"]) for step in mine)
    return Layer.from_row(row, kept.get(row["name"], 0), traffic, [str(step["kind"]) for step in mine])


def _weights(
    path: Path, manifest: Manifest, report: Mapping[str, Any], names: set[str]
) -> Iterable[FilePart]:
    """The parts of weights.bin: by owner, a constant of several owners being shared."""
    owners: dict[int, set[str]] = {}
    lengths: dict[int, int] = {}
    for step in report["steps"]:
        owner = step["layer"] if step["layer"] in names else ""
        for _, offset, nbytes in step["constants"]:
            owners.setdefault(offset, set()).add(owner)
            lengths[offset] = max(lengths.get(offset, 0), int(nbytes))
    by_layer = {layer["name"]: 0 for layer in report["layers"]}
    shared = generated = 0
    for offset, who in owners.items():
        if len(who) > 1:
            shared += lengths[offset]
        elif who == {""}:
            generated += lengths[offset]
        else:
            by_layer[next(iter(who))] += lengths[offset]
    size = int(manifest["files"][WEIGHTS]["size"])
    padding = size - HEADER.size - sum(lengths.values())
    if padding < 0:
        raise ValueError("steps name more constants than weights.bin has bytes")
    yield FilePart(WEIGHTS, "header", "", HEADER.size)
    yield from (FilePart(WEIGHTS, "layer", name, nbytes) for name, nbytes in by_layer.items())
    yield FilePart(WEIGHTS, "shared by several layers", "", shared)
    yield FilePart(WEIGHTS, "other kernels and generated code", "", generated)
    yield FilePart(WEIGHTS, "alignment", "", padding)


def _others(path: Path, manifest: Manifest) -> Iterable[FilePart]:
    for name in sorted(manifest["files"]):
        if name in (*LIBRARIES, "driver") and library_name(manifest) != "model.wasm":
            content = read_file(path, manifest, name)
            for part, nbytes in elf_parts(content, str(path / name)).items():
                yield FilePart(name, part, "", nbytes)
        elif name != WEIGHTS:
            yield FilePart(name, PURPOSES.get(name, "file"), "", int(manifest["files"][name]["size"]))
    yield FilePart(MANIFEST, PURPOSES[MANIFEST], "", (path / MANIFEST).stat().st_size)
