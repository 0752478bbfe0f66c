"""Attributes of nodes: the same as onnx_ir's own, without its questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bhpe_compile.exchange.attributes import attributes_of

FACTS: dict[str, Any] = {
    "pads": [1, 1, 0, 0],
    "perm": (0, 2, 1),
    "roles": ("x", "weight"),
    "axis": -1,
    "flat": True,
    "alpha": 0.5,
    "scales": [0.5, 2.0],
    "layer": "stem",
    "value": ir.Tensor(np.arange(3)),
    "copied": ir.RefAttr("copied", "pads", ir.AttributeType.INTS),
    "tensors": [ir.Tensor(np.arange(3))],
}


@pytest.mark.parametrize("name", FACTS)
def test_as_onnx_ir_makes_them(name: str) -> None:
    (ours,) = attributes_of({name: FACTS[name]})
    (theirs,) = ir.convenience.convert_attributes({name: FACTS[name]})
    assert (ours.name, ours.type) == (theirs.name, theirs.type)
    assert ours.value == theirs.value
    assert type(ours.value) is type(theirs.value)


@pytest.mark.parametrize("value", [["x", 1], [object()], object()])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="Unsupported attribute type"):
        attributes_of({"name": value})
