"""onnxsim keeps binary layers, names and values; without it the model goes on as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bhpe_compile.exchange import simplify as module
from bhpe_compile.exchange.nodes import layer_of, weight_of
from bhpe_compile.exchange.simplify import Simplifier, simplify
from tests.passes.fold.graphs import Builder, node_named, op_types, run, text


@pytest.fixture(autouse=True)
def _a_process_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Simplifier", Simplifier)  # the tests of other files share one


def foldable() -> tuple[ir.Model, NDArray[np.float32]]:
    """A chain of binary layers with a constant subgraph and a batch norm behind a dense layer."""
    b = Builder(1)
    x = b.input("image", (1, 3, 6, 6))
    y = b.batch_norm(b.dense(x, "stem", 8), "norm")
    y = b.rprelu(b.binary("BinaryConv2d", y, "block", 8), "act")
    y = b.binary("BinaryConvTranspose2d", y, "up", 4)
    two, three = (b.constant(f"factor{i}", np.array([i], np.float32)) for i in (2, 3))
    six = b.add("Mul", [two, three], "six", (1,))
    y = b.add("Mul", [y, six], "scaled", (1, 4, 12, 12))
    for node in b.graph:
        if node.name in ("six", "act"):  # onnxsim has to find them
            node.outputs[0].shape = node.outputs[0].type = None
    return b.build(y), b.normal(1, 3, 6, 6)


def test_constants_are_folded_and_layers_kept() -> None:
    model, x = foldable()
    before = run(model, x)[0]
    simplified, notes = simplify(model)
    assert [note.applied for note in notes] == [True], notes
    assert op_types(simplified) == [
        "Conv",
        "BatchNormalization",
        "BinaryConv2d",
        "RPReLU",
        "BinaryConvTranspose2d",
        "Mul",
    ]
    assert [node_named(simplified, name).op_type for name in ("stem", "block", "up")] == [
        "Conv",
        "BinaryConv2d",
        "BinaryConvTranspose2d",
    ]
    np.testing.assert_array_equal(run(simplified, x)[0], before)


def test_layers_stay_layers() -> None:
    simplified, _ = simplify(foldable()[0])
    layers = {node.op_type: layer_of(node) for node in simplified.graph}
    assert layers == {
        "Conv": "stem",
        "BatchNormalization": None,
        "BinaryConv2d": "block",
        "RPReLU": None,
        "BinaryConvTranspose2d": "up",
        "Mul": None,
    }


def test_weights_stay_where_they_are() -> None:
    """They are not written out and read back: the arrays are the same ones, the model they came from too."""
    model, _ = foldable()
    before = text(model)
    simplified, notes = simplify(model)
    assert [note.applied for note in notes] == [True], notes
    assert text(model) == before
    for name in ("stem", "block", "up"):
        old, new = weight_of(node_named(model, name)), weight_of(node_named(simplified, name))
        assert old is not None
        assert new is not None
        assert new.const_value is old.const_value
        assert new.is_initializer()
    assert [value.name for value in simplified.graph.inputs] == ["image"]


def test_the_same_model_gives_the_same_bytes() -> None:
    model, _ = foldable()
    assert text(simplify(model)[0]) == text(simplify(model)[0])


def test_files_of_the_user_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling in a folder that holds an onnx.py must not run it."""
    for name in ("onnx.py", "onnxsim.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('the file of the user')\n")
    monkeypatch.chdir(tmp_path)
    _, notes = simplify(foldable()[0])
    assert [note.applied for note in notes] == [True], notes


def test_shapes_are_known_behind_functions() -> None:
    simplified, _ = simplify(foldable()[0])
    shapes = {node.name: node.outputs[0].shape for node in simplified.graph}
    assert shapes["act"] == ir.Shape([1, 8, 6, 6])
    assert all(shape is not None for shape in shapes.values())


def test_an_invalid_model_comes_back_unchanged_with_the_reason() -> None:
    b = Builder()
    x = b.input("image", (1, 3, 4, 4))
    nowhere = ir.Value(name="nowhere", type=x.type, shape=x.shape)
    model = b.build(b.add("Add", [x, nowhere], "wrong", (1, 3, 4, 4)))
    before = text(model)
    same, notes = simplify(model)
    assert same is model
    assert text(same) == before
    assert len(notes) == 1
    assert not notes[0].applied
    assert "unsimplified" in notes[0].reason


def test_a_crash_of_the_process_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxsim has segmentation faults on its record."""
    monkeypatch.setattr(module, "_SCRIPT", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    model, _ = foldable()
    same, notes = simplify(model)
    assert same is model
    assert notes[0].reason == "exit code -11; the model goes on unsimplified"


def test_a_process_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCRIPT", "import time; time.sleep(60)")
    monkeypatch.setattr(module, "SECONDS", 0.2)
    model, _ = foldable()
    same, notes = simplify(model)
    assert same is model
    assert notes[0].reason == "no answer in 0.2 s; the model goes on unsimplified"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    simplified, _ = simplify(foldable()[0])
    assert list(tmp_path.iterdir()) == []
    assert text(simplified)  # its weights are in memory, not in a file that is gone
