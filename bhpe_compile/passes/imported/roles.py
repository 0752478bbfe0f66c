"""What a layer of an ONNX graph is for, from structure alone; the rules of `passes/binarize/roles.py`.

stem       all it reads are inputs, through operations without weights
shortcut   on a path without activation that is added to a path with one, both from the same tensor
output     no other layer stands behind it on some way to an output
core       every other convolution
head       every other layer
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from bhpe_compile.exchange.nodes import layer_of
from bhpe_compile.passes.imported.linear_layers import is_standard

Role = Literal["stem", "shortcut", "output", "core", "head"]

ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Selu"),
    *("Gelu", "Erf", "Mish", "Softplus", "Softsign", "Softmax", "Swish", "Celu"),
)
LINEAR = (
    *("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Identity", "Dropout", "Resize"),
    *("AveragePool", "MaxPool", "GlobalAveragePool"),
)
"""Operators with one input that are no activation."""


def find_roles(graph: ir.Graph) -> dict[str, Role]:
    """The role of every layer, by name."""
    outputs = _outputs(graph)
    found: dict[str, Role] = {}
    for node in graph:
        layer = layer_of(node)
        if layer is not None:
            found[layer] = _role(node, outputs)
    return found


def _role(node: ir.Node, outputs: set[ir.Node]) -> Role:
    if _reads_inputs_only(node):
        return "stem"
    if node in outputs:
        return "output"
    if not is_standard(node, "Conv"):
        return "head"
    return "shortcut" if _is_shortcut(node) else "core"


def _before(node: ir.Node) -> list[ir.Node]:
    """The nodes that compute what `node` reads."""
    return [one for value in node.inputs if value is not None and (one := value.producer()) is not None]


def _behind(node: ir.Node) -> list[ir.Node]:
    """The nodes that read what `node` computes."""
    return [use.node for value in node.outputs for use in value.uses()]


def _outputs(graph: ir.Graph) -> set[ir.Node]:
    waiting = [node for value in graph.outputs if (node := value.producer()) is not None]
    seen: set[ir.Node] = set()
    found: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if layer_of(node) is not None:
            found.add(node)
        else:
            waiting += _before(node)
    return found


def _reads_inputs_only(node: ir.Node) -> bool:
    waiting, seen = _before(node), set[ir.Node]()
    while waiting:
        one = waiting.pop()
        if layer_of(one) is not None:
            return False
        if one not in seen:
            seen.add(one)
            waiting += _before(one)
    return True


def _is_linear(node: ir.Node) -> bool:
    return is_standard(node, *LINEAR)


def _is_shortcut(node: ir.Node) -> bool:
    start = node.inputs[0]
    while start is not None and (before := start.producer()) is not None and _is_linear(before):
        start = before.inputs[0]
    end = node
    while True:
        readers = _behind(end)
        if len(readers) != 1 or start is None:
            return False
        if is_standard(readers[0], "Add"):
            other = next((one for one in readers[0].inputs if one not in end.outputs), None)
            return other is not None and _passes_activation(other, start)
        if not _is_linear(readers[0]):
            return False
        end = readers[0]


def _passes_activation(value: ir.Value, start: ir.Value) -> bool:
    """Whether a path leads from `start` to `value` through an activation."""
    waiting, seen = [(value, False)], set[tuple[ir.Value, bool]]()
    while waiting:
        one, active = waiting.pop()
        if one is start:
            if active:
                return True
            continue
        node = one.producer()
        if node is None or (one, active) in seen:
            continue
        seen.add((one, active))
        behind = active or is_standard(node, *ACTIVATIONS)
        waiting += [(before, behind) for before in node.inputs if before is not None]
    return False
