"""A file with QuantizeLinear and DequantizeLinear keeps its own scales.

    DQ(levels of w), DQ(Q(w)), w stored   ->   w as floats; its steps are those of the layer
    layer(DQ(Q(x)))                       ->   layer(x); step and zero point are those of what it reads
    DQ(Q(x)), read by anything else       ->   clip(rint(x / step), -zero, top - zero) step, in float
    DQ(Q(x)), x on these levels already   ->   x

An operator that moves values or takes the largest passes levels on, so pairs around it that round to the same levels
round once. The float form is written in plain operators: ONNX Runtime fuses Q and DQ with what is between them into
operators that round another way.

A layer keeps its scales where an 8-bit kernel can say them: one step and zero point for what it reads; of weights one
step an output channel, zero point 0, levels -127 .. 127. What cannot be said stays float32 with the file's rounding
around it, and a note says why. Without `int8` all of it stays so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
from numpy.typing import NDArray

from bhpe_compile.exchange.nodes import (
    CONVOLUTIONS,
    array_of,
    constant,
    integer,
    new_value,
    shape_of,
    text,
)
from bhpe_compile.exchange.scales import Levels, Scales, scales_of, set_scales
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.fold.quantize_dense import LARGEST_WEIGHT_LEVEL, no_kernel
from bhpe_compile.passes.imported.linear_layers import is_standard

PASSING = frozenset(
    {
        *("MaxPool", "GlobalMaxPool", "Reshape", "Flatten", "Transpose", "Identity", "Squeeze", "Unsqueeze"),
        *("Slice", "Split", "Concat", "Expand", "Gather", "DepthToSpace", "SpaceToDepth"),
    }
)
"""Operators whose results are some of the values that they read."""

FIRST_ONLY = PASSING - {"Concat"}
"""Of these only the first input holds values."""

SIGNED: dict[Any, int] = {np.dtype(np.int8): 128, np.dtype(np.uint8): 0}
"""What is added to levels so that they begin at 0."""

LINEAR = ("Gemm", "MatMul")


@dataclass(frozen=True)
class Stored:
    """Weights that the file has as levels: their step, for each index of `axis` where there are several, and why they
    are no levels of ours, "" where they are."""

    steps: NDArray[np.float32]
    axis: int
    refusal: str


@dataclass(frozen=True)
class Pair:
    """DQ(Q(x)); `levels` None where an 8-bit kernel has no such."""

    first: ir.Node
    step: NDArray[np.float32]
    zero: NDArray[Any]
    axis: int
    levels: Levels | None

    @property
    def x(self) -> ir.Value:
        """What is rounded."""
        value = self.first.inputs[0]
        assert value is not None  # an operator with its input left out is none
        return value


class OwnScales(Pass[ir.Model]):
    """Q and DQ -> scales of layers, and roundings in float."""

    name: ClassVar[str] = "own-scales"
    summary: ClassVar[str] = "keep the scales of a file that was quantized already"

    def __init__(self, int8: bool = True) -> None:
        self.int8 = int8

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        nodes = [one for one in graph.graph if is_standard(one, "QuantizeLinear", "DequantizeLinear")]
        if not nodes:
            return PassResult(graph, False, ())
        notes: list[Note] = []
        stored = self._constants(graph.graph)
        pairs, on = self._pairs(graph.graph)
        common.RemoveUnusedNodesPass()(graph)  # what is read by nobody any more rounds nothing
        if self.int8:
            notes += self._layers(graph.graph, stored, on)
        for out, pair in pairs.items():
            note = self._round(graph.graph, out, pair)
            notes += [] if note is None else [note]
        common.RemoveUnusedNodesPass()(graph)
        return PassResult(graph, True, tuple(notes))

    # ---- constants ----------------------------------------------------------------------------------------

    def _constants(self, graph: ir.Graph) -> dict[ir.Value, Stored]:
        """Compute Q and DQ of constants; what the file had as levels, by the float value."""
        stored: dict[ir.Value, Stored] = {}
        for node in self.visit(list(graph)):
            if not is_standard(node, "QuantizeLinear", "DequantizeLinear") or integer(node, "block_size"):
                continue
            array, facts = array_of(node.inputs[0]), _parameters(node)
            if array is None or facts is None:
                continue
            step, zero, axis = facts
            along = _along(step, array.ndim, axis)
            if node.op_type == "QuantizeLinear":
                bounds = np.iinfo(zero.dtype)
                levels = np.rint(array / step.reshape(along)) + zero.reshape(along).astype(np.float32)
                found: NDArray[Any] = np.clip(levels, bounds.min, bounds.max).astype(zero.dtype)
            else:
                whole = array.astype(np.int64) - zero.reshape(along).astype(np.int64)
                found = whole.astype(np.float32) * step.reshape(along)
            name = node.outputs[0].name or node.name or "stored"
            value = constant(graph, f"{name}.stored", found)
            if node.op_type == "DequantizeLinear":
                stored[value] = Stored(step.reshape(-1), axis, _no_weights(array, zero))
            _replace(node.outputs[0], value)
        return stored

    # ---- pairs --------------------------------------------------------------------------------------------

    def _pairs(self, graph: ir.Graph) -> tuple[dict[ir.Value, Pair], dict[ir.Value, Levels]]:
        """The pairs that round, by their result, in order; and the values that lie on levels."""
        pairs: dict[ir.Value, Pair] = {}
        on: dict[ir.Value, Levels] = {}
        for node in self.visit(list(graph)):
            out = node.outputs[0]
            if is_standard(node, "DequantizeLinear") and (pair := _pair(node)) is not None:
                if pair.levels is not None and on.get(pair.x) == pair.levels and not out.is_graph_output():
                    _replace(out, pair.x)
                    continue
                pairs[out] = pair
                if pair.levels is not None:
                    on[out] = pair.levels
            elif is_standard(node, *PASSING) and not _is_pool_with_places(node):
                read = node.inputs[:1] if node.op_type in FIRST_ONLY else node.inputs
                found = {on.get(value) if value is not None else None for value in read}
                levels = found.pop() if len(found) == 1 else None
                if levels is not None:
                    on |= dict.fromkeys(node.outputs, levels)
        return pairs, on

    # ---- layers -------------------------------------------------------------------------------------------

    def _layers(
        self, graph: ir.Graph, stored: dict[ir.Value, Stored], on: dict[ir.Value, Levels]
    ) -> list[Note]:
        """Say to every layer what the file says of it."""
        notes = []
        for node in self.visit(list(graph)):
            if not is_standard(node, *CONVOLUTIONS, *LINEAR) or node.inputs[0] is None:
                continue
            weight = node.inputs[1]
            held, reads = (stored.get(weight) if weight is not None else None), on.get(node.inputs[0])
            if held is None:
                if reads is not None and weight is not None and array_of(weight) is not None:
                    notes.append(self._stays(node, "the file has its weights in float"))
                continue
            why = held.refusal or _no_steps(node, held)
            if not why and node.op_type in CONVOLUTIONS:
                why = no_kernel(node) or ("" if reads is not None else _no_levels(node.inputs[0]))
                if not why and any(
                    value is not None and array_of(value) is None for value in node.inputs[2:]
                ):
                    why = "its bias is computed at run time"
            if why:
                notes.append(self._stays(node, why))
                continue
            channels = shape_of(weight)[_output_axis(node)]
            steps = np.broadcast_to(np.where(held.steps > 0, held.steps, np.float32(1)), (channels,))
            set_scales(
                node, Scales(reads if node.op_type in CONVOLUTIONS else None, np.ascontiguousarray(steps))
            )
            said = "" if reads is None else f"inputs in steps of {reads.step:.4g}, zero point {reads.zero}; "
            notes.append(self.applied(node.name or "", f"{said}weights as the file has them"))
        return notes

    def _stays(self, node: ir.Node, why: str) -> Note:
        return self.refused(node.name or "", f"stays float32, rounded as in the file: {why}")

    # ---- roundings ----------------------------------------------------------------------------------------

    def _round(self, graph: ir.Graph, out: ir.Value, pair: Pair) -> Note | None:
        """Put x, or its rounding in float, in the place of DQ(Q(x))."""
        if not out.is_graph_output() and _all_round(out, pair.levels):
            _replace(out, pair.x)
            return None
        before = out.producer()
        assert before is not None  # a pair ends with a DequantizeLinear
        for use in list(out.uses()):
            if _rounds(use.node, use.idx, pair.levels):
                use.node.replace_input_with(use.idx, pair.x)
        value = _rounded(graph, before, pair)
        _replace(out, value)
        if pair.levels is not None:
            return None
        return self.refused(
            before.name or "",
            f"computed in float: levels of {pair.zero.dtype}, or one step a channel, have no kernel",
        )


def _all_round(value: ir.Value, levels: Levels | None) -> bool:
    """Whether all that reads `value` rounds it to `levels` itself, at once or behind operators that pass levels on."""
    uses = list(value.uses())
    return (
        bool(uses)
        and not value.is_graph_output()
        and all(
            _rounds(use.node, use.idx, levels)
            or (
                is_standard(use.node, *FIRST_ONLY)
                and use.idx == 0
                and not _is_pool_with_places(use.node)
                and all(_all_round(out, levels) for out in use.node.outputs)
            )
            for use in uses
        )
    )


def _rounds(node: ir.Node, index: int, levels: Levels | None) -> bool:
    """Whether a layer rounds its input to `levels` itself."""
    scales = scales_of(node)
    return index == 0 and levels is not None and scales is not None and scales.reads == levels


def _rounded(graph: ir.Graph, before: ir.Node, pair: Pair) -> ir.Value:
    """clip(rint(x / step), low - zero, high - zero) step, in front of `before`."""
    name, shape = before.name or before.outputs[0].name or "rounded", shape_of(pair.x)
    along = _along(pair.step, len(shape), pair.axis)
    bounds, zero = np.iinfo(pair.zero.dtype), pair.zero.astype(np.float32)
    step = constant(graph, f"{name}.step", pair.step.reshape(along))
    value = pair.x
    if np.unique(zero).size == 1:
        low, high = (np.array(edge - zero.reshape(-1)[0], np.float32) for edge in (bounds.min, bounds.max))
        kinds = [("Clip", [constant(graph, f"{name}.low", low), constant(graph, f"{name}.high", high)])]
    else:
        low, high = (np.float32(edge) - zero.reshape(along) for edge in (bounds.min, bounds.max))
        kinds = [
            ("Max", [constant(graph, f"{name}.low", low)]),
            ("Min", [constant(graph, f"{name}.high", high)]),
        ]
    for kind, more in [("Div", [step]), ("Round", []), *kinds, ("Mul", [step])]:
        out = new_value(f"{name}.{kind.lower()}", shape)
        graph.insert_before(
            before, ir.Node("", kind, [value, *more], outputs=[out], name=f"{name}.{kind.lower()}")
        )
        value = out
    return value


def _pair(node: ir.Node) -> Pair | None:
    """The pair that a DequantizeLinear ends; None where it undoes no QuantizeLinear with the same parameters."""
    levels = node.inputs[0]
    first = levels.producer() if levels is not None else None
    if first is None or not is_standard(first, "QuantizeLinear") or first.inputs[0] is None:
        return None
    if integer(node, "block_size") or first.inputs[0].dtype != ir.DataType.FLOAT:
        return None
    given, back = _parameters(first), _parameters(node)
    if given is None or back is None or given[1].dtype != back[1].dtype or given[1].dtype.kind not in "iu":
        return None
    step, zero, axis = given
    if not np.array_equal(step, back[0]) or not np.array_equal(zero, back[1]):
        return None
    single = step.size == 1 and zero.dtype in SIGNED and step.reshape(-1)[0] > 0
    known = Levels(step.reshape(-1)[0], int(zero.reshape(-1)[0]) + SIGNED[zero.dtype]) if single else None
    return Pair(first, step, zero, axis, known)


def _parameters(node: ir.Node) -> tuple[NDArray[np.float32], NDArray[Any], int] | None:
    """Step, zero point (0 of the type of the levels, where none is said) and axis; None where they are no constants."""
    step = array_of(node.inputs[1])
    if step is None or step.dtype != np.float32:
        return None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if zero is not None:
        found = array_of(zero)
        if found is None or found.dtype.kind not in "iu":
            return None
    else:
        levels = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
        kind = levels.dtype if levels is not None else None
        if kind is None:
            return None
        dtype = kind.numpy()
        if dtype.kind not in "iu":
            return None
        found = np.zeros_like(step, dtype)
    return step, found, integer(node, "axis", 1)


def _along(step: NDArray[np.float32], rank: int, axis: int) -> tuple[int, ...]:
    """The shape in which steps meet a tensor of `rank` axes."""
    return () if step.size == 1 else tuple(-1 if index == axis % rank else 1 for index in range(rank))


def _no_weights(levels: NDArray[Any], zero: NDArray[Any]) -> str:
    """Why these are no levels of weights of ours, "" where they are."""
    if levels.dtype not in SIGNED:
        return f"its weights are levels of {levels.dtype}"
    shift = SIGNED[levels.dtype] ^ 128  # uint8 about 128 is int8 about 0
    points = np.unique(zero.astype(np.int64))
    if points.tolist() != [shift]:
        return f"its weights have zero point {points.tolist()[0]}, kernels have {shift} there"
    whole = levels.astype(np.int64) - shift
    if np.abs(whole).max(initial=0) > LARGEST_WEIGHT_LEVEL:
        return f"its weights reach level {int(whole.min())}, kernels have -127 .. 127"
    return ""


def _no_levels(value: ir.Value) -> str:
    """Why what a layer reads is on no levels."""
    pair = value.producer()
    if pair is not None and is_standard(pair, "DequantizeLinear"):
        step = array_of(pair.inputs[1])
        if step is not None and step.size > 1:
            return "what it reads has a step for each channel"
    return "what it reads has no scale in the file"


def _output_axis(node: ir.Node) -> int:
    """The axis of output channels in the weights of a layer."""
    transposed = node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not integer(node, "transB"))
    return int(transposed or node.op_type == "MatMul")


def _no_steps(node: ir.Node, held: Stored) -> str:
    """Why the steps of a layer's weights are not those of its output channels, "" where they are."""
    rank = len(shape_of(node.inputs[1]))
    if held.steps.size > 1 and held.axis % rank != _output_axis(node):
        return "its weights have a step for each input"
    if node.op_type == "MatMul" and rank != 2:
        return "its weights have more than two axes"
    if node.op_type == "Gemm" and any(
        key in node.attributes and node.attributes[key].as_float() != 1 for key in ("alpha", "beta")
    ):
        return "its product is scaled"
    if text(node, "auto_pad", "NOTSET") != "NOTSET" and node.op_type == "ConvTranspose":
        return "its padding is automatic"
    return ""


def _is_pool_with_places(node: ir.Node) -> bool:
    """Whether a pool also tells where its values are: those are no levels."""
    return node.op_type == "MaxPool" and len(node.outputs) > 1


def _replace(old: ir.Value, new: ir.Value) -> None:
    """`new` in the place of `old`, everywhere; an output keeps its name."""
    name = old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if new.is_graph_output():
        old.name, new.name = f"{name}_replaced", name
