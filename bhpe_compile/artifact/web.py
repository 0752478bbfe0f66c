"""A WebAssembly model for pages, workers and Node: an ES module with its types, a page to try it on, an npm package.

The files lie in the artefact's folder, in its manifest with their SHA-256; `PACKAGE` are those that a web site or an
npm package has, the rest (driver, model.onnx, ...) is for `verify` and its kin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from bhpe_compile.artifact.load import check_artifact, read_file
from bhpe_compile.artifact.manifest import MANIFEST
from bhpe_compile.errors import UsageError
from bhpe_compile.networks.interface import Interface

SOURCES = files("bhpe_compile.artifact") / "web"
FAMILY = "wasm32"
MODULE = "model.js"
PAGE = "index.html"
PACKAGE_FILE = "package.json"

LIBRARY = (MODULE, "people.js", "model.d.ts", "model.wasm", "weights.bin", MANIFEST)
SITE = (PAGE, "page.js", "page.css", "worker.js", "drawing.js", "icon.svg")
TEST = "test.mjs"
PACKAGE = (*LIBRARY, *SITE, TEST, PACKAGE_FILE)
"""What is shipped."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".bin": "application/octet-stream",
}
"""Suffix -> media type; browsers compile WebAssembly while it arrives under its own type only."""


def check_web_family(family: str) -> None:
    """UsageError for targets that no browser runs."""
    if family != FAMILY:
        raise UsageError(f"{family}: browsers run WebAssembly only; compile with --target wasm32 --form web")


def web_files(interface: Interface, model_id: str) -> dict[str, bytes]:
    """The files of the form by name, without those that every artefact has."""
    sources = {file.name: file.read_bytes() for file in SOURCES.iterdir() if file.is_file()}
    return sources | {PACKAGE_FILE: _package(interface, model_id)}


def _package(interface: Interface, model_id: str) -> bytes:
    """package.json. `private`: npm packs and installs it, and refuses to publish it by mistake, weights and all."""
    words = [word for word in (interface.network, interface.preset) if word]
    plain = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    described = {
        "name": f"bhpe-{plain or 'model'}",
        "version": f"0.0.0-h{model_id[:12]}",
        "description": f"A pose network ({' '.join(words) or 'not described'}) compiled to WebAssembly",
        "private": True,
        "type": "module",
        "exports": {
            ".": {"types": "./model.d.ts", "default": f"./{MODULE}"},
            **{f"./{name}": f"./{name}" for name in ("model.wasm", "weights.bin", MANIFEST, PACKAGE_FILE)},
        },
        "types": "./model.d.ts",
        "files": sorted(set(PACKAGE) - {PACKAGE_FILE}),
        "sideEffects": False,
        "engines": {"node": ">=20"},
        "scripts": {"test": f"node --test {TEST}"},
    }
    return (json.dumps(described, indent=2) + "\n").encode()


def read_site(artifact: Path) -> Mapping[str, bytes]:
    """The files of an artefact that a server hands out, each compared with its SHA-256.

    UsageError for an artefact without them; raises as `check_artifact` otherwise.
    """
    manifest = check_artifact(artifact)
    if MODULE not in manifest["files"]:
        raise UsageError(f"{artifact}: has no page; compile the model with --target wasm32 --form web")
    listed = [name for name in PACKAGE if name in manifest["files"]]
    return {
        **{name: read_file(artifact, manifest, name) for name in listed},
        MANIFEST: (artifact / MANIFEST).read_bytes(),
    }
