"""An artefact of an ONNX file, from the file on: the file made again, model.onnx, the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.check.bisect import bisect
from bhpe_compile.check.bisect.remake import ranges_of
from bhpe_compile.compiler.imported import OnnxCompilation
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import InputError
from tests.check.artefacts import damaged
from tests.onnx_graphs import Net, save


def network(folder: Path, seed: int = 0) -> Path:
    net = Net(seed)
    x = net.add("Relu", net.conv("image", 3, 8, pads=[1] * 4, name="first"))
    net.conv(net.add("Relu", net.conv(x, 8, 8, group=8, pads=[1] * 4, name="deep")), 8, 4, 1, name="last")
    model = net.model({"image": (1, 3, 12, 10)}, [net.nodes[-1].output[0]])
    return save(model, folder / f"net{seed}.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file and its artefact in 8 bits."""
    folder = tmp_path_factory.mktemp("made")
    np.savez(folder / "a.npz", image=np.random.default_rng(0).random((2, 3, 12, 10), np.float32))
    path = network(folder)
    compilation = OnnxCompilation(CompileOptions("x86", scheme="int8", calibrate=(folder / "a.npz",)), path)
    compilation.write(folder / "out")
    return path, folder / "out"


def test_no_difference(made: tuple[Path, Path]) -> None:
    """What 8 bits cost is told, and is no difference."""
    result = bisect(made[1], checkpoint=made[0])
    assert (result.ok, result.reference, result.remarks) == (True, "the ONNX file", ())
    assert [(stage.name, stage.ok, stage.compared > 0) for stage in result.stages] == [
        ("model.onnx", True, True),
        ("program", True, True),
    ]
    (gap,) = result.against_file.values()
    assert 1e-4 < gap < 0.1


def test_another_file(made: tuple[Path, Path], tmp_path: Path) -> None:
    result = bisect(made[1], checkpoint=network(tmp_path, seed=1), repro=tmp_path / "repro")
    assert result.culprit is not None
    assert (result.culprit.origin, result.culprit.node) == ("model.onnx", "first")
    assert result.remarks == ("model.onnx is not what the ONNX file and the recorded options give now",)
    assert (tmp_path / "repro" / "run.py").exists()


def test_a_broken_constant(made: tuple[Path, Path], tmp_path: Path) -> None:
    result = bisect(damaged(made[1], tmp_path / "broken", "deep", "scale", 0x10), checkpoint=made[0])
    assert result.culprit is not None
    assert (result.culprit.origin, result.culprit.node) == ("weights.bin", "deep")


def test_ranges_that_are_damaged() -> None:
    assert ranges_of({"ranges": {"a": [-1, 2.5]}}) == {"a": (-1.0, 2.5)}
    for bad in ({}, {"ranges": {"a": [1]}}, {"ranges": {"a": ["x", 1]}}):
        with pytest.raises(InputError, match="does not tell the ranges"):
            ranges_of(bad)
