"""Small networks of binary and 8-bit layers, compiled in this process, to verify and to damage."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.artifact import write_artifact
from bhpe_compile.artifact.layout import HEADER, checksums
from bhpe_compile.artifact.program import Program
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.networks.interface import Crop, Input, Interface
from bhpe_compile.passes.fold.half_residuals import HalfResiduals
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from bhpe_compile.passes.lower import generate, lower_passes, tasks
from bhpe_compile.runtime import open_session
from bhpe_compile.targets import get_target
from tests.kept import KeptWorkers
from tests.passes.lower.graphs import small_network

Array = NDArray[Any]

SIZE = 32
STEM, SHORTCUT = "stem", "block.shortcut"
"""The layers of `small_network` that are not binary."""


@dataclass(frozen=True)
class Small:
    """`small_network` for one target; `write` makes an artefact of it, with other parts where they are given."""

    model: ir.Model
    content: bytes
    program: Program
    reference: Mapping[str, Array]
    target: str

    @classmethod
    def of(
        cls, model: ir.Model, workers: KeptWorkers | Here, target: str = "x86", *, picture: bool = True
    ) -> Small:
        content = ir.to_proto(model).SerializeToString(deterministic=True)
        image = recorded_image()
        reference = {"image": image, **run_model(content, {"image": image})}
        lowered = model.clone()
        for one in lower_passes():
            one(lowered)
        made = generate(lowered, get_target(target), workers)
        port = Input("image", image.shape, "picture", Crop()) if picture else Input("image", image.shape)
        interface = Interface(inputs=(port,))
        return cls(model, content, replace(made.program, interface=interface), reference, target)

    def write(
        self,
        folder: Path,
        *,
        program: Program | None = None,
        content: bytes | None = None,
        reference: Mapping[str, Array] | None = None,
    ) -> Path:
        write_artifact(
            folder,
            program or self.program,
            get_target(self.target),
            content or self.content,
            {},
            dict(reference or self.reference),
            {},
        )
        return folder


class Here:
    """Code generation in this process, which a test may have changed."""

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    @staticmethod
    def run(jobs: Sequence[Any], done: Callable[[int], None] = lambda _: None) -> list[Any]:
        """As `Workers.run`."""
        return [getattr(tasks, name)(*arguments) for name, *arguments in jobs]


def recorded_image() -> Array:
    """What `Small` is run on when it is made."""
    return np.random.default_rng(1).random((1, 3, SIZE, SIZE), np.float32)


def exact_network(seed: int = 0) -> ir.Model:
    """Binary layers, 8-bit ones, float16 residuals."""
    model = small_network(height=SIZE, width=SIZE, seed=seed)
    QuantizeDense(dict.fromkeys((STEM, SHORTCUT), (-2.0, 2.0)))(model)
    HalfResiduals()(model)
    return model


def signed_again(artefact: Path, name: str, content: bytes) -> None:
    """Replace a file of an artefact, and its hash in the manifest."""
    (artefact / name).write_bytes(content)
    manifest = json.loads((artefact / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (artefact / "manifest.json").write_text(json.dumps(manifest))


def weigh_again(artefact: Path, weights: bytearray) -> None:
    """Replace the weights of an artefact, with checksums and a manifest that agree."""
    weights[HEADER.size - 8 : HEADER.size] = struct.pack("<II", *checksums(bytes(weights[HEADER.size :])))
    signed_again(artefact, "weights.bin", bytes(weights))


def damaged(artefact: Path, folder: Path, layer: str, role: str, mask: int = 0x40, byte: int = 3) -> Path:
    """A copy in which bits of a constant are flipped, with checksums and a manifest that agree."""
    shutil.copytree(artefact, folder)
    with open_session(folder) as session:
        step = next(s for s in session.steps if s.layer == layer and role in s.roles)
        offset = step.arguments[step.argument(role)].offset
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[HEADER.size + offset + byte] ^= mask
    weigh_again(folder, weights)
    return folder
