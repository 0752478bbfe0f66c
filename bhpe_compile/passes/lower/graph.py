"""Kernel nodes: how the lowering writes its decisions into an ONNX graph.

While it is being lowered a model is still an onnx-ir graph, so every step can be dumped and opened in
Netron. A node of domain `bhpe.kernel` stands for one call of one of our kernels. Its op type names the
kernel, the attribute `roles` names its inputs in order ("x", "weight", "scale", ...), `results` its outputs
("out", "bits", "levels"), `layer` the layer it computes; the other attributes are the kernel's geometry and epilogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from bhpe_compile.exchange.attributes import attributes_of
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    detach,
    float_constant,
    integer,
    integers,
    new_value,
    only_use,
    shape_of,
    substitute,
    text,
)

__all__ = [
    "BINARY_KINDS",
    "CONV_KINDS",
    "DENSE_KINDS",
    "DEPTHWISE",
    "DOMAIN",
    "INT8_KINDS",
    "SYMBOL_PREFIX",
    "AttributeValue",
    "array_of",
    "constant",
    "detach",
    "facts_of",
    "float_constant",
    "integer",
    "integers",
    "is_kernel",
    "kernel_node",
    "new_value",
    "only_use",
    "operand",
    "operands_of",
    "result",
    "results_of",
    "roles",
    "shape_of",
    "substitute",
    "text",
]

DOMAIN = "bhpe.kernel"

SYMBOL_PREFIX = "bhpe_"
"""What the names of functions in object code begin with; the linker hides all others."""

BINARY_KINDS = ("BinaryConv2d", "BinaryConvTranspose2d")
DENSE_KINDS = ("DenseConv2d", "DenseConvTranspose2d")
INT8_KINDS = ("Int8Conv2d", "Int8ConvTranspose2d", "Int8DepthwiseConv2d")
DEPTHWISE = "DepthwiseConv2d"
CONV_KINDS = (*BINARY_KINDS, *DENSE_KINDS, *INT8_KINDS, DEPTHWISE)
"""Kernels with the shared epilogue: affine, residual, activation, shortcut, packed output."""

AttributeValue = int | str | Sequence[int] | Sequence[str]


def is_kernel(node: ir.Node | None, *kinds: str) -> bool:
    """True for a kernel node (of one of the kinds, when any is given)."""
    return node is not None and node.domain == DOMAIN and (not kinds or node.op_type in kinds)


def roles(node: ir.Node) -> tuple[str, ...]:
    """Names of a kernel node's inputs."""
    return tuple(node.attributes["roles"].as_strings())


def operand(node: ir.Node, role: str) -> ir.Value | None:
    """The input that plays `role`, or None."""
    names = roles(node)
    return node.inputs[names.index(role)] if role in names else None


def result(node: ir.Node, name: str) -> ir.Value | None:
    """The output called `name` ("out", "bits" or "levels"), or None."""
    names = tuple(node.attributes["results"].as_strings())
    return node.outputs[names.index(name)] if name in names else None


def kernel_node(
    kind: str,
    layer: str,
    operands: Mapping[str, ir.Value],
    results: Mapping[str, ir.Value],
    attributes: Mapping[str, AttributeValue],
) -> ir.Node:
    """A kernel node; the order of `operands` and `results` is the order of its inputs and outputs."""
    facts: dict[str, AttributeValue] = dict(attributes)
    facts.update(layer=layer, roles=tuple(operands), results=tuple(results))
    return ir.Node(
        DOMAIN,
        kind,
        list(operands.values()),
        attributes_of(facts),
        outputs=list(results.values()),
        name=f"{layer or kind}",
    )


def facts_of(node: ir.Node) -> dict[str, AttributeValue]:
    """A kernel node's attributes except the ones `kernel_node` writes itself."""
    skip = ("layer", "roles", "results")
    return {name: attr.value for name, attr in node.attributes.items() if name not in skip}


def operands_of(node: ir.Node) -> dict[str, ir.Value]:
    """Role -> input value of a kernel node."""
    return {role: value for role, value in zip(roles(node), node.inputs, strict=True) if value is not None}


def results_of(node: ir.Node) -> dict[str, ir.Value]:
    """Result name -> output value of a kernel node."""
    return dict(zip(node.attributes["results"].as_strings(), node.outputs, strict=True))
