"""Attributes of nodes from plain values.

onnx_ir asks of a list first whether it is a graph, a tensor or a type, by protocols, which Python 3.11 works out anew
each time. Ours are lists of integers or of words. (For the same reason arrays become `ir.Tensor`, not `ir.tensor`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir


def attributes_of(facts: Mapping[str, Any]) -> list[ir.Attr]:
    """One attribute for each entry, as `ir.convenience.convert_attributes` makes them; TypeError as it raises it."""
    return [_attribute(name, value) for name, value in facts.items()]


def _attribute(name: str, value: Any) -> ir.Attr:
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if all(isinstance(one, int) for one in value):
            return ir.AttrInt64s(name, value)
        if all(isinstance(one, str) for one in value):
            return ir.AttrStrings(name, value)
    return ir.convenience.convert_attribute(name, value)
