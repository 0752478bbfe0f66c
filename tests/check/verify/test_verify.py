"""verify() accepts a right artefact and names the layer of a wrong one, in real compiled libraries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.artifact import write_artifact
from bhpe_compile.artifact.program import Program
from bhpe_compile.check.verify import verify
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY

LAYER = "backbone.layer2.0.conv2"


class Compiled:
    """The tiny model, compiled once; `write` links it again with other weights."""

    def __init__(self, folder: Path) -> None:
        source = folder / "model.pt"
        save_model(source, initialise(Hand4Whole(TINY), 1), "hand4whole:tiny")
        compilation = Compilation(CompileOptions("x86", dense="fp32", residual="fp32"), source)
        self.reference = compilation.run.arrays()
        self.onnx = compilation.onnx_bytes
        self.target = compilation.target
        self.program: Program = compilation.lowered.program

    def write(self, folder: Path, weights: bytes | None = None) -> Path:
        program = self.program if weights is None else replace(self.program, weights=weights)
        write_artifact(folder, program, self.target, self.onnx, {}, self.reference, {})
        return folder

    def place(self, layer: str, role: str) -> int:
        """Offset in the weights of an argument of a layer's kernel."""
        step = next(
            s for s in self.program.steps if s.layer == layer and s.kind.startswith(("Binary", "Dense"))
        )
        return self.program.tensors[step.args[step.roles.index(role)]].offset


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(tmp_path_factory.mktemp("verify"))


def test_a_right_artefact(compiled: Compiled, tmp_path: Path) -> None:
    result = verify(compiled.write(tmp_path / "a"))
    assert result.ok
    assert result.binary_exact
    assert result.binary_layers == 46
    assert result.first_difference is None
    assert 0 <= result.flip_rate < 0.05
    assert result.max_abs_error < 0.01
    assert set(result.to_json()) >= {"ok", "max_abs_error", "flip_rate", "binary_exact", "int8_exact"}


def test_one_wrong_bit_is_found_and_named(compiled: Compiled, tmp_path: Path) -> None:
    weights = bytearray(compiled.program.weights)
    weights[compiled.place(LAYER, "weight")] ^= 1
    result = verify(compiled.write(tmp_path / "a", bytes(weights)))
    assert not result.ok
    assert not result.binary_exact
    assert result.first_difference is not None
    assert result.first_difference.startswith(f"{LAYER}: ")


def test_a_wrong_float_is_found(compiled: Compiled, tmp_path: Path) -> None:
    weights = bytearray(compiled.program.weights)
    at = compiled.place("hand_rotation_net.hand_pose_out.0", "bias")
    weights[at : at + 4] = np.float32(9).tobytes()
    result = verify(compiled.write(tmp_path / "a", bytes(weights)))
    assert not result.ok
    assert result.binary_exact
    assert result.first_difference is not None
    assert "smplx_lhand_pose" in result.first_difference


def test_a_reference_that_is_no_number_fails(compiled: Compiled, tmp_path: Path) -> None:
    name = next(info for info in compiled.reference if info != "image")
    broken = {**compiled.reference, name: np.full_like(compiled.reference[name], np.nan)}
    write_artifact(tmp_path / "a", compiled.program, compiled.target, compiled.onnx, {}, broken, {})
    result = verify(tmp_path / "a")
    assert not result.ok
    assert result.first_difference == f"output {name}: NaN or infinity in PyTorch or here"
