"""An artefact as a Python package: `pip install` it, import it, run it, with NumPy alone.

A wheel is a zip file with the package and a folder of metadata (PEP 427). Its version is 0 and the model's identity,
so that another model is another version.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from bhpe_compile.archive import zip_bytes
from bhpe_compile.artifact.load import check_artifact, read_file
from bhpe_compile.artifact.manifest import MANIFEST, Manifest
from bhpe_compile.errors import UsageError
from bhpe_compile.files import write_atomically
from bhpe_compile.text import printable

SHIPPED = ("model.so", "weights.bin", "bhpe.h")

PLATFORMS = {
    "x86_64": "manylinux_2_28_x86_64",
    "aarch64": "manylinux_2_28_aarch64",
    "armv7": "manylinux_2_28_armv7l",
    "riscv64": "linux_riscv64",
}
"""The platform a wheel says it is for: Linux with the C library that model.so was linked against."""


def package_name(artifact: Path) -> str:
    """What the package is called: the folder's name, as Python may import it and pip accepts it, in ASCII.

    Letters lose their accents; of a name without any other letter only its hash stays.
    """
    name = artifact.resolve().name
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[\W_]+", "_", letters, flags=re.ASCII).strip("_").lower()
    return f"bhpe_{plain or hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def check_family(family: str) -> None:
    """UsageError for CPUs that Python has no packages for."""
    if family not in PLATFORMS:
        raise UsageError(
            f"{family}: Python has no packages for it; compile for another target or without a wheel"
        )


def write_wheel(artifact: Path, folder: Path, name: str | None = None) -> Path:
    """Write the wheel of a checked artefact into `folder` and return its path; the same artefact, the same bytes.

    UsageError for a target that no wheel can be for, a name that cannot be imported, a folder that cannot be written.
    """
    manifest = check_artifact(artifact)
    family = manifest["target"]["family"]
    check_family(family)
    name = name or package_name(artifact)
    if not (name.isidentifier() and name.isascii() and name[0] != "_" and name[-1] != "_"):
        raise UsageError(
            f"{name!r} cannot be imported and installed; give the package another name, of a-z, digits and _"
        )
    version = f"0+{manifest['model_id'][:12]}"
    tag = f"py3-none-{PLATFORMS[family]}"
    path = folder / f"{name}-{version}-{tag}.whl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _archive(_contents(artifact, manifest, name, version, tag), name, version))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def _contents(artifact: Path, manifest: Manifest, name: str, version: str, tag: str) -> dict[str, bytes]:
    module = (files("bhpe_compile.artifact") / "wheel_module.py").read_bytes()
    target = manifest["target"]
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name.replace('_', '-')}",
        f"Version: {version}",
        f"Summary: A pose network compiled for {printable(str(target.get('name')))}",
        "Requires-Python: >=3.10",
        "Requires-Dist: numpy",
    ]
    wheel = ["Wheel-Version: 1.0", "Generator: bhpe-compile", "Root-Is-Purelib: false", f"Tag: {tag}"]
    info = f"{name}-{version}.dist-info"
    return {
        f"{name}/__init__.py": module,
        **{f"{name}/{file}": read_file(artifact, manifest, file) for file in SHIPPED},
        f"{name}/{MANIFEST}": (artifact / MANIFEST).read_bytes(),
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": ("\n".join(wheel) + "\n").encode(),
    }


def _archive(contents: Mapping[str, bytes], name: str, version: str) -> bytes:
    record = f"{name}-{version}.dist-info/RECORD"
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow((path, f"sha256={digest}", len(content)))
    rows.writerow((record, "", ""))
    return zip_bytes({**contents, record: table.getvalue().encode()}, mode=0o644)
