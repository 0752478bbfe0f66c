"""What the tests of this folder share: files in a pass's hands, and whole numbers, of which float sums are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.passes.base import Pass
from tests.onnx_graphs import Net, Shape
from tests.passes.fold.graphs import run, text

Notes = list[tuple[str, bool, str]]


def whole(seed: int, *shape: int) -> NDArray[np.float32]:
    """-3 .. 3, never 0: sums of a million products of two are exact in float32, in any order."""
    drawn = np.random.default_rng(seed).integers(1, 4, shape)
    return (drawn * np.random.default_rng(seed + 1).choice((-1, 1), shape)).astype(np.float32)


def read(
    net: Net,
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    opset: int = 18,
    kinds: Mapping[str, int] | None = None,
) -> ir.Model:
    """The graph of `net` as a pass gets it."""
    return ir.from_proto(net.model(inputs, outputs, opset=opset, kinds=kinds))


def notes_of(one: Pass[ir.Model], model: ir.Model) -> Notes:
    """Run it; site, applied and reason of each note, and `modified` agrees with them."""
    result = one(model)
    assert result.modified == any(note.applied for note in result.notes)
    assert {note.pass_name for note in result.notes} <= {one.name}
    return [(note.site, note.applied, note.reason) for note in result.notes]


def assert_left_alone(one: Pass[ir.Model], model: ir.Model) -> Notes:
    """It changes no byte; what it says."""
    before = text(model)
    found = notes_of(one, model)
    assert not any(applied for _, applied, _ in found)
    assert text(model) == before
    return found


def assert_equal(one: Pass[ir.Model], model: ir.Model, *inputs: NDArray[Any], atol: float = 0) -> None:
    """It changes the graph, by which every output stays in name, shape and value (but for `atol`); a second run
    changes nothing."""
    names = [value.name for value in model.graph.outputs]
    before = run(model, *inputs)
    assert one(model).modified
    assert [value.name for value in model.graph.outputs] == names
    for got, want in zip(run(model, *inputs), before, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)
    again = text(model)
    assert not one(model).modified
    assert text(model) == again
