"""Reading an artefact: nothing of it is used before its hashes are right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bhpe_compile.artifact.manifest import Manifest, load_manifest
from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.reading import MalformedError, open_regular, read_regular
from bhpe_compile.reading_arrays import open_archive

if TYPE_CHECKING:
    import onnx

REFERENCE = "reference.npz"


def check_artifact(path: Path) -> Manifest:
    """Compare every listed file with its SHA-256 and return the manifest.

    UsageError when `path` is no folder; InputError naming the first file that is missing or changed.
    """
    manifest = load_manifest(path)
    with ThreadPoolExecutor(2) as pool:  # hashlib works outside the interpreter's lock
        problems = pool.map(lambda item: _problem(path / item[0], item[1]), sorted(manifest["files"].items()))
        for problem in problems:
            if problem is not None:
                raise InputError(problem)
    return manifest


def _problem(file: Path, entry: Mapping[str, Any]) -> str | None:
    try:
        with open_regular(file) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest() if size == entry["size"] else ""
    except OSError as error:
        return f"{file}: {error.strerror}, but the manifest lists it; compile the model again"
    if size != entry["size"]:
        return f"{file}: has {size} bytes, the manifest says {entry['size']}; compile the model again"
    if digest != entry["sha256"]:
        return f"{file}: was changed after it was compiled (SHA-256 differs); compile the model again"
    return None


def load_interface(path: Path) -> Interface:
    """What the inputs and outputs of an artefact mean. Raises as `load_manifest` does."""
    return Interface.from_dict(load_manifest(path)["network"])


def read_file(path: Path, manifest: Manifest, name: str) -> bytes:
    """One file of an artefact, checked against the manifest as it is read."""
    try:
        content = read_regular(path / name)
    except OSError as error:
        raise InputError(f"{path / name}: {error.strerror}; compile the model again") from None
    if hashlib.sha256(content).hexdigest() != manifest["files"].get(name, {}).get("sha256"):
        raise InputError(f"{path / name}: was changed after it was compiled; compile the model again")
    return content


def load_onnx(file: Path) -> onnx.ModelProto:
    """The model.onnx of an artefact; InputError where it cannot be read or is damaged."""
    from bhpe_compile.reading_onnx import read_onnx

    try:
        return read_onnx(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); compile the model again") from None
    except MalformedError as error:
        raise InputError(f"{file}: damaged ({error}); compile the model again") from None


@dataclass(frozen=True)
class Reference:
    """What the uncompiled network computed when the artefact was made: its inputs and outputs by name."""

    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]


def load_reference(path: Path) -> Reference:
    """The recorded inputs and outputs of an artefact; InputError when it holds none."""
    manifest = load_manifest(path)
    file = path / REFERENCE
    try:
        with open_archive(file) as archive:
            inputs, outputs = (
                {port["name"]: archive.array(port["name"]) for port in manifest[ports]}
                for ports in ("inputs", "outputs")
            )
            return Reference(inputs, outputs)
    except FileNotFoundError:
        raise InputError(f"{path}: holds no {REFERENCE}; verify it with a picture of your own") from None
    except (OSError, KeyError, MalformedError) as error:
        raise InputError(f"{file}: damaged ({error}); compile the model again") from None
