"""Kernel nodes, as passes write and read them."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from bhpe_compile import kernels
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import DESCRIBERS


def value(*shape: int) -> ir.Value:
    return g.new_value("v", shape)


def test_kinds_of_convolutions() -> None:
    """Those of our kernels that have the shared epilogue, and no others."""
    assert set(g.CONV_KINDS) == {name for name in DESCRIBERS if "Conv" in name and name != "ConvertFloats"}
    for kinds, word in ((g.BINARY_KINDS, "Binary"), (g.DENSE_KINDS, "Dense"), (g.INT8_KINDS, "Int8")):
        assert sorted(kinds) == sorted(name for name in g.CONV_KINDS if name.startswith(word))
    assert all(hasattr(kernels, name) for name in DESCRIBERS)
    assert len(g.CONV_KINDS) == 8


def test_every_name_offered_is_there() -> None:
    assert [name for name in g.__all__ if not hasattr(g, name)] == []


def test_nodes_of_kernels() -> None:
    """The helpers of `graph` by which passes read and write them."""
    x, out = value(1, 2), value(1, 3)
    made = g.kernel_node("PackBits", "a.b", {"x": x, "threshold": value(2)}, {"bits": out}, {"border": 4})
    assert (made.domain, made.op_type, made.name) == ("bhpe.kernel", "PackBits", "a.b")
    assert g.kernel_node("PackBits", "", {"x": x}, {"bits": value(1)}, {}).name == "PackBits"
    assert g.roles(made) == ("x", "threshold")
    assert g.facts_of(made) == {"border": 4}
    assert list(g.operands_of(made)) == ["x", "threshold"]
    assert g.operands_of(made)["x"] is x
    assert g.results_of(made) == {"bits": out}
    assert g.operand(made, "x") is x
    assert g.operand(made, "weight") is None
    assert g.result(made, "bits") is out
    assert g.result(made, "out") is None
    assert g.is_kernel(made)
    assert g.is_kernel(made, "MaxPool2d", "PackBits")
    assert not g.is_kernel(made, "MaxPool2d")
    assert not g.is_kernel(None)
    assert not g.is_kernel(ir.Node("", "PackBits", [value(1)]), "PackBits")
    assert g.text(made, "layer") == "a.b"
    made.replace_input_with(1, None)
    assert list(g.operands_of(made)) == ["x"]
    with pytest.raises(ValueError, match="shorter"):
        g.operands_of(ir.Node("bhpe.kernel", "PackBits", [value(1)], [ir.AttrStrings("roles", ["x", "y"])]))
