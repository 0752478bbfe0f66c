"""A broken constant, broken machine code, a wrong lowering and another network are found by name; what is right is
left in peace."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bhpe_compile.artifact import load_reference
from bhpe_compile.check.bisect import BisectResult, bisect
from bhpe_compile.check.bisect.remake import Again, options_of
from bhpe_compile.check.verify import verify
from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.kernels.epilogue_tir import EpilogueEmitter
from bhpe_compile.networks.registry import get_network
from bhpe_compile.passes.fold import quantize_dense
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.processes import python_command
from tests.check.artefacts import SIZE, Here, Small, damaged, exact_network, signed_again
from tests.command import environment
from tests.kept import KeptWorkers
from tests.networks.packages import install, on_path
from tests.networks.small import scattered
from tests.passes.lower.graphs import small_network

BIASED = "layer2.0.conv2"


def stages(result: BisectResult) -> list[tuple[str, bool]]:
    return [(stage.name, stage.ok) for stage in result.stages]


def found(result: BisectResult) -> tuple[str, str]:
    assert result.culprit is not None
    assert not result.ok
    return result.culprit.origin, result.culprit.node


def script(folder: Path, name: str, *arguments: object) -> str:
    """What a script of a reproduction prints."""
    done = subprocess.run(
        python_command(name, *map(str, arguments)),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_no_difference(right: Path, tmp_path: Path) -> None:
    result = bisect(right, repro=tmp_path / "repro")
    assert (result.ok, result.culprit, result.remarks, result.repro) == (True, None, (), ())
    assert stages(result) == [("program", True)]
    assert result.stages[0].compared == 3 * SIZE * SIZE + 64 * (16 + 16 + 16 + 64 + 32)
    assert not (tmp_path / "repro").exists()


@pytest.mark.parametrize(
    ("layer", "role", "mask"),
    [("block.conv1", "weight", 1), ("stem", "weight", 1), ("stem", "bias", 1), ("down.conv2", "zeta", 1)],
)
def test_a_broken_constant(layer: str, role: str, mask: int, right: Path, tmp_path: Path) -> None:
    broken = damaged(right, tmp_path / "broken", layer, role, mask)
    result = bisect(broken, repro=tmp_path / "repro")
    assert found(result) == ("weights.bin", layer)
    assert result.culprit is not None
    assert result.culprit.what == f"{role} of {layer}"
    assert stages(result) == [("program", False)]
    # the reproduction shows it by itself: in the broken artefact, and not in the right one
    assert "in 0 of" not in script(tmp_path / "repro", "step.py", broken)
    assert "in 0 of" in script(tmp_path / "repro", "step.py", right)
    assert script(tmp_path / "repro", "run.py").startswith("0 of ")  # the layer as it should be
    assert layer in (tmp_path / "repro" / "README.md").read_text()


def test_a_constant_too_small_to_show_is_found(right: Path, tmp_path: Path) -> None:
    """The last bit of one number: no sign and no output tells, the constants do."""
    broken = damaged(right, tmp_path / "broken", "down.conv2", "zeta", 1, byte=0)
    assert verify(broken).ok
    assert found(bisect(broken)) == ("weights.bin", "down.conv2")


def test_broken_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of 8-bit layers lose their product's sign."""
    finish = EpilogueEmitter.finish
    with monkeypatch.context() as patch:
        patch.setattr(
            EpilogueEmitter, "finish", lambda self, dot, *rest, **more: finish(self, -dot, *rest, **more)
        )
        made = Small.of(exact_network(), Here())
    broken = made.write(tmp_path / "broken")
    result = bisect(broken, repro=tmp_path / "repro")
    assert found(result) == ("code generation", "stem")
    assert result.culprit is not None
    assert "signs or levels differ" in result.culprit.what
    assert "in 0 of" not in script(tmp_path / "repro", "step.py", broken)


def test_another_network_in_the_artefact_is_a_wrong_constant(
    small: Small, right: Path, tmp_path: Path
) -> None:
    """Without the checkpoint model.onnx is what counts."""
    shutil.copytree(right, tmp_path / "other")
    model = onnx.load_from_string(small.content)
    bias = next(t for t in model.graph.initializer if t.name == "down.conv1.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    signed_again(tmp_path / "other", "model.onnx", model.SerializeToString())
    assert found(bisect(tmp_path / "other")) == ("weights.bin", "down.conv1")


def test_a_wrong_choice_of_the_lowering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels of half the step: constants and code are as lowering wants them, and model.onnx wants others."""
    constant = g.constant

    def wrong(graph: Any, name: str, array: Any) -> Any:
        return constant(graph, name, array * np.float32(0.5) if name == "stem.quantization" else array)

    monkeypatch.setattr(g, "constant", wrong)
    made = Small.of(exact_network(), Here())
    result = bisect(made.write(tmp_path / "a"), repro=tmp_path / "repro")
    assert found(result) == ("lower", "stem")
    assert "in 0 of" in script(tmp_path / "repro", "step.py", tmp_path / "a")  # the step does what it should


# ---- behind float layers -----------------------------------------------------------------------------------


def in_float(workers: KeptWorkers | Here) -> Small:
    """Its stem and a shortcut are in float, and what follows is binary."""
    return Small.of(small_network(height=SIZE, width=SIZE), workers)


def test_behind_float_layers_the_search_goes_on(kept_workers: KeptWorkers, tmp_path: Path) -> None:
    result = bisect(in_float(kept_workers).write(tmp_path / "a"))
    assert (result.ok, result.float_parts) == (True, ("stem", "block.shortcut"))
    assert (result.near, result.unjudged) == (4, 0)  # residuals bring the float stem in front of every layer
    assert result.stages[0].compared == 64 * (16 + 16 + 64 + 32)


@pytest.mark.parametrize(("layer", "role"), [("stem", "bias"), ("down.conv2", "zeta")])
def test_a_wrong_constant_behind_and_in_float_layers(
    layer: str, role: str, kept_workers: KeptWorkers, tmp_path: Path
) -> None:
    artefact = in_float(kept_workers).write(tmp_path / "right")
    assert found(bisect(damaged(artefact, tmp_path / "wrong", layer, role))) == ("weights.bin", layer)


def test_wrong_code_behind_float_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Binary layers lose the sign of their sums: the float stem in front is right, the layer behind is named."""
    finish = EpilogueEmitter.finish

    def wrong(self: EpilogueEmitter, dot: Any, *words: Any, **more: Any) -> None:
        binary = self.buffers["weight"].dtype == "uint8"
        finish(self, -dot if binary else dot, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(EpilogueEmitter, "finish", wrong)
        made = in_float(Here())
    result = bisect(made.write(tmp_path / "broken"), repro=tmp_path / "repro")
    assert found(result) == ("code generation", "block.conv1")


def test_a_folder_of_somebody_else_is_refused_first(right: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        bisect(right, repro=tmp_path)


# ---- from the checkpoint on --------------------------------------------------------------------------------

DESCRIPTION = """
from bhpe_compile.networks.hmr.module import HMR
from bhpe_compile.networks.interface import Crop, Input, Interface
from bhpe_compile.networks.layers.trunk import Trunk
from bhpe_compile.networks.network import Network
from bhpe_compile.networks.smpl import OUTPUTS


def build(preset):
    return HMR(Trunk("bottleneck", 8, (1, 1, 1, 1)), hidden=16).eval()


def interface(preset):
    return Interface("small", preset, (Input("image", (1, 3, 64, 64), "picture", Crop()),), OUTPUTS)


NETWORK = Network(name="small", summary="a small one", presets=("full",), build=build, interface=interface)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A checkpoint of a small network of an installed package, and its artefact."""
    folder = tmp_path_factory.mktemp("made")
    install(
        folder / "site",
        "small-network",
        "1",
        {"small": "small_network_of_a_test:NETWORK"},
        small_network_of_a_test=DESCRIPTION,
    )
    with on_path(folder / "site"):
        checkpoint = folder / "model.pt"
        save_model(checkpoint, scattered(get_network("small").build("full")), "small:full")
        compile_model(checkpoint, folder / "model", CompileOptions("x86", network="small:full"))
        yield checkpoint, folder / "model"


def test_a_checkpoint_gives_its_artefact_again(made: tuple[Path, Path]) -> None:
    checkpoint, artefact = made
    result = bisect(artefact, checkpoint=checkpoint)
    assert (result.ok, result.culprit, result.remarks) == (True, None, ())
    assert stages(result) == [("model.onnx", True), ("program", True)]
    assert result.stages[0].compared == result.stages[1].compared > 1000
    verified = verify(artefact, network=Again(checkpoint, artefact))
    assert (verified.ok, verified.equal, verified.float_parts) == (True, True, ())
    assert verified.binary_layers > 5
    assert verified.max_abs_error < 1e-5


def test_a_broken_pass(made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of weights twice as large: model.onnx is not what the checkpoint gives now."""
    checkpoint, artefact = made
    steps = quantize_dense.weight_steps
    monkeypatch.setattr(quantize_dense, "weight_steps", lambda *given: steps(*given) * 2)
    result = bisect(artefact, checkpoint=checkpoint, repro=tmp_path)
    assert found(result) == ("model.onnx", "conv1")
    assert stages(result) == [("model.onnx", False)]
    assert result.remarks == ("model.onnx is not what the checkpoint and the recorded options give now",)
    assert not script(tmp_path, "run.py").startswith("0 of ")
    assert next(iter(onnx.load(tmp_path / "model.onnx").graph.node)).name == "conv1"


def test_another_network_in_the_artefact(made: tuple[Path, Path], tmp_path: Path) -> None:
    """model.onnx that does not come from the checkpoint."""
    checkpoint, artefact = made
    shutil.copytree(artefact, tmp_path / "other")
    model = onnx.load(artefact / "model.onnx")
    node = next(one for one in model.graph.node if one.name == BIASED)
    bias = next(t for t in model.graph.initializer if t.name == node.input[4])
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    signed_again(tmp_path / "other", "model.onnx", model.SerializeToString())
    result = bisect(tmp_path / "other", checkpoint=checkpoint)
    assert found(result) == ("model.onnx", BIASED)
    assert result.remarks


def test_the_options_of_a_manifest(made: tuple[Path, Path]) -> None:
    manifest = json.loads((made[1] / "manifest.json").read_text())
    options = options_of(manifest)
    assert options_of({**manifest, "options": {**manifest["options"], "pair_safe": True}}) == replace(
        options, pair_safe=True
    )
    assert (options.target, options.network, options.dense, options.residual) == (
        "x86",
        "small:full",
        "int8",
        "fp16",
    )
    with pytest.raises(InputError, match="was not made from a checkpoint"):
        options_of({"options": {"target": "x86", "dense": "int8", "residual": "fp16"}})


def test_the_record_is_what_the_frozen_network_computes(made: tuple[Path, Path]) -> None:
    reference = load_reference(made[1])
    again = Again(*made)(json.loads((made[1] / "manifest.json").read_text()), reference.inputs)
    for name, value in reference.outputs.items():
        np.testing.assert_array_equal(again[name], value)
