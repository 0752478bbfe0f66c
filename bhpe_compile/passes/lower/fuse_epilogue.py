"""A convolution absorbs what follows it, as long as nothing else reads the values in between.

    v = dot * scale + bias          scale, bias of ChannelAffine: scale' = s * scale, bias' = s * bias + b
    v = v + residual(r)             local residual, any form of residual_match
    v = activation(v)               Relu or RPReLU, whose gamma fold-shift took away; it is "leaky" where no slope
                                    is above 1; or Clip, or a table of levels
    y = v + shortcut                block residual

Each value is then written once. Binary convolutions choose first: theirs is the longer chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.residual_match import match_residual

Absorber = Callable[[ir.Graph, ir.Node, ir.Node, ir.Value], "ir.Node | str"]
"""(graph, kernel, follower, value between) -> the merged kernel, or why not."""


class FuseEpilogue(Pass[ir.Model]):
    """Affine, residual, activation and shortcut into the kernel before them."""

    name: ClassVar[str] = "fuse-epilogue"
    summary: ClassVar[str] = "fuse scale, residuals and activations into the convolution before them"
    requires: ClassVar[tuple[str, ...]] = ("kernels",)
    ensures: ClassVar[tuple[str, ...]] = ("fused epilogues",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        binary = [n for n in graph.graph if g.is_kernel(n, *g.BINARY_KINDS)]
        dense = [n for n in graph.graph if g.is_kernel(n, *g.DENSE_KINDS, *g.INT8_KINDS, g.DEPTHWISE)]
        for node in self.visit(binary + dense):
            notes.extend(self._absorb_all(graph.graph, node))
        return PassResult(graph, any(n.applied for n in notes), tuple(notes))

    def _absorb_all(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        layer, absorbed = node.name or "", []
        while True:
            out = g.result(node, "out")
            follower = g.only_use(out) if out is not None else None
            if out is None or follower is None:
                why = (
                    "several readers" if out is not None and len(list(out.uses())) > 1 else "end of the chain"
                )
                break
            absorber = ABSORBERS.get((follower.domain, follower.op_type))
            if absorber is None:
                why = f"{follower.op_type} follows"
                break
            merged = absorber(graph, node, follower, out)
            if isinstance(merged, str):
                why = merged
                break
            absorbed.append(follower.op_type)
            g.detach(graph, node)
            node = merged
        if absorbed:
            return [self.applied(layer, f"absorbed {', '.join(absorbed)}; {why}")]
        return [self.refused(layer, f"nothing to absorb: {why}")]


def _merge(
    graph: ir.Graph,
    node: ir.Node,
    follower: ir.Node,
    operands: dict[str, ir.Value],
    facts: dict[str, g.AttributeValue],
) -> ir.Node:
    """The kernel with new operands and facts at the follower's place; the follower is gone."""
    old = follower.outputs[0]
    out = g.new_value(f"{old.name}_k", g.shape_of(old))
    merged = g.kernel_node(
        node.op_type, g.text(node, "layer"), operands, {"out": out}, g.facts_of(node) | facts
    )
    g.substitute(graph, follower, merged, {old: out})
    return merged


def _affine(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    operands = g.operands_of(node)
    if "residual" in operands or "shortcut" in operands or g.text(node, "activation") != "none":
        return "the affine comes after a residual or an activation"
    constants = [g.array_of(v) for v in (operands["scale"], operands["bias"], *follower.inputs[1:3])]
    if any(c is None for c in constants):
        return "the affine's parameters are computed at run time"
    scale, bias, s, b = (np.asarray(c, dtype=np.float64).reshape(-1) for c in constants)
    layer = g.text(node, "layer")
    operands["scale"] = g.float_constant(graph, f"{layer}.scale", (scale * s).astype(np.float32))
    operands["bias"] = g.float_constant(graph, f"{layer}.bias", (bias * s + b).astype(np.float32))
    return _merge(graph, node, follower, operands, {})


def _add(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    other = follower.inputs[1] if follower.inputs[0] is out else follower.inputs[0]
    operands = g.operands_of(node)
    if other is None or g.array_of(other) is not None:
        return "a constant is added"
    if len(g.shape_of(out)) != 4 or g.shape_of(other) != g.shape_of(out):
        return "shapes are broadcast"
    if g.text(node, "activation") == "none" and "residual" not in operands and "shortcut" not in operands:
        match = match_residual(other)
        operands["residual"] = match.source
        facts: dict[str, g.AttributeValue] = {
            "residual_kind": match.kind,
            "residual_pool": int(match.pool),
            "residual_clip": int(match.clip),
        }
        return _merge(graph, node, follower, operands, facts)
    if "shortcut" in operands:
        return "a second shortcut"
    operands["shortcut"] = other
    return _merge(graph, node, follower, operands, {})


def _relu(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    if g.text(node, "activation") != "none" or "shortcut" in g.operands_of(node):
        return "a second activation"
    return _merge(graph, node, follower, g.operands_of(node), {"activation": "relu"})


def _rprelu(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    operands = g.operands_of(node)
    if g.text(node, "activation") != "none" or "shortcut" in operands:
        return "a second activation"
    gamma, beta, zeta = (g.array_of(value) for value in follower.inputs[1:])
    if gamma is None or beta is None or zeta is None:
        return "the activation's parameters are computed at run time"
    if gamma.any():
        return "the activation subtracts what no bias took over"
    slope, shift = follower.inputs[2:4]
    if slope is None or shift is None:
        return "the activation has no slope or shift"
    operands |= {"beta": slope, "zeta": shift}
    activation = "leaky" if np.all(beta <= 1) else "rprelu"
    return _merge(graph, node, follower, operands, {"activation": activation})


def _slopes(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    """PRelu or LeakyRelu: v > 0 ? v : slope v, an RPReLU that shifts nothing."""
    operands = g.operands_of(node)
    if g.text(node, "activation") != "none" or "shortcut" in operands:
        return "a second activation"
    channels = g.shape_of(operands["scale"])[0]
    if follower.op_type == "LeakyRelu":
        alpha = follower.attributes["alpha"].as_float() if "alpha" in follower.attributes else 0.01
        slopes = np.full(channels, alpha, np.float32)
    else:
        array = g.array_of(follower.inputs[1])
        if array is None or (array.size > 1 and (array.size != channels or array.shape[-2:] != (1, 1))):
            return "its slopes are computed at run time, or differ by pixel"
        slopes = np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float32)
    layer = g.text(node, "layer")
    operands["beta"] = g.float_constant(graph, f"{layer}.beta", slopes)
    operands["zeta"] = g.float_constant(graph, f"{layer}.zeta", np.zeros(channels, np.float32))
    return _merge(
        graph, node, follower, operands, {"activation": "leaky" if np.all(slopes <= 1) else "rprelu"}
    )


def _clip(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    operands = g.operands_of(node)
    if g.text(node, "activation") != "none" or "shortcut" in operands:
        return "a second activation"
    limits = [-np.inf, np.inf]
    for index, end in enumerate(follower.inputs[1:3]):
        array = g.array_of(end)
        if end is not None and array is None:
            return "its limits are computed at run time"
        if array is not None:
            limits[index] = float(array.reshape(()))
    if limits == [0, np.inf]:
        return _merge(graph, node, follower, operands, {"activation": "relu"})
    layer = g.text(node, "layer")
    operands["limits"] = g.constant(graph, f"{layer}.limits", np.array(limits, np.float32))
    return _merge(graph, node, follower, operands, {"activation": "clip"})


def _table(graph: ir.Graph, node: ir.Node, follower: ir.Node, out: ir.Value) -> ir.Node | str:
    operands = g.operands_of(node)
    if g.text(node, "activation") != "none" or "shortcut" in operands:
        return "a second activation"
    step, zero, table, out_step, out_zero = (g.array_of(value) for value in follower.inputs[1:])
    if step is None or zero is None or table is None or out_step is None or out_zero is None:
        return "its table is computed at run time"
    if step != 1:
        return "its table counts in steps of another size"
    layer = g.text(node, "layer")
    grid = np.array([zero.item(), out_step.item(), out_zero.item()], np.float32)
    operands["table"] = g.constant(graph, f"{layer}.table", table)
    operands["grid"] = g.constant(graph, f"{layer}.grid", grid)
    return _merge(graph, node, follower, operands, {"activation": "table"})


ABSORBERS: dict[tuple[str, str], Absorber] = {
    (DOMAIN, "ChannelAffine"): _affine,
    (DOMAIN, "LevelTable"): _table,
    (DOMAIN, "RPReLU"): _rprelu,
    ("", "Add"): _add,
    ("", "Clip"): _clip,
    ("", "LeakyRelu"): _slopes,
    ("", "PRelu"): _slopes,
    ("", "Relu"): _relu,
}
