"""The passes of an imported graph: their order, what each needs and ensures; each leaves a file that runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.base import PassManager, PassOrderError, PassRecord
from bhpe_compile.passes.imported import imported_passes
from bhpe_compile.passes.imported.binary_layers import BinaryLayers
from bhpe_compile.passes.imported.own_scales import OwnScales
from tests.onnx_graphs import Net
from tests.passes.fold.graphs import run, text
from tests.passes.imported.graphs import read, whole

LAYERS = "imported layers"

ORDER = {
    "own-scales": ((), ()),
    "plain-forms": ((), ()),
    "flat-windows": ((), ()),
    "linear-layers": ((), (LAYERS,)),
    "spread-layers": ((LAYERS,), ()),
    "name-layers": ((LAYERS,), ()),
    "join-affines": ((LAYERS,), ()),
    "binary-layers": ((LAYERS,), ()),
}
"""What each needs and ensures."""


def network() -> ir.Model:
    """Something for every pass, of whole numbers."""
    net = Net()
    y = net.add("Conv", "x", net.constant(whole(1, 4, 3, 3), "stem.weight"), pads=[1, 1])
    y = net.add("Dropout", net.add("Relu", y))
    y = net.add("Tile", y, net.constant(np.array([1, 1, 2], np.int64)))
    y = net.add("ConvTranspose", y, net.constant(whole(2, 4, 2, 2), "up.weight"), strides=[2])
    y = net.add("MatMul", y, net.constant(whole(3, 24, 5), "head.weight"))
    net.add("Add", y, net.constant(whole(4, 5)), out="y")
    return read(net, {"x": (1, 3, 6)}, ["y"])


def test_names_needs_and_promises() -> None:
    every = imported_passes(binary=True)
    assert {one.name: (one.requires, one.ensures) for one in every} == ORDER
    assert [one.name for one in every] == list(ORDER)
    assert [one.name for one in imported_passes()] == list(ORDER)[:-1]
    assert "join-affines" not in {
        one.name for one in imported_passes(scaled=True)
    }  # scales stand between layers
    assert all(one.summary for one in every)


def test_options_reach_the_passes_that_have_them() -> None:
    def scales(*args: bool) -> bool:
        (found,) = [one for one in imported_passes(*args) if isinstance(one, OwnScales)]
        return found.int8

    assert [scales(), scales(True), scales(False)] == [True, True, False]
    for keep in ((), ("stem*", "head")):
        (found,) = [one for one in imported_passes(True, True, keep) if isinstance(one, BinaryLayers)]
        assert found.keep_float == keep


def test_names_before_the_layers_are_an_error() -> None:
    with pytest.raises(PassOrderError, match=LAYERS):
        PassManager(list(reversed(imported_passes()))).run(network())


def test_every_pass_leaves_a_file_that_computes_the_same() -> None:
    model, x = network(), whole(5, 1, 3, 6)
    want = run(model, x)[0]
    changed = []

    def observe(record: PassRecord, graph: ir.Model) -> None:
        np.testing.assert_array_equal(run(graph, x)[0], want)
        changed.append((record.name, record.modified))

    PassManager(imported_passes()).run(model, observe)
    assert changed == [(name, name not in ("own-scales", "join-affines")) for name in list(ORDER)[:-1]]
    layers = [layer for node in model.graph if (layer := layer_of(node)) is not None]
    assert layers == ["stem", "up", "head"]
    before = text(model)
    PassManager(imported_passes()).run(model)
    assert text(model) == before
