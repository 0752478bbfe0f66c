"""Forms of operators that say the same as others become those others, which every storey below knows.

Tile(x, r), r constant          -> Reshape, Expand, Reshape
Dropout(x)                      -> x                           its mask, where it is read, is refused
ConvTranspose with output_shape -> with pads and output_padding
Pow(x, e), e constant integers  -> Pow(x, float(e))
Softplus(x), Mish(x)            -> max(x, 0) + log1p(exp(-|x|)); log1p(u) = log(w) u / (w - 1), w = 1 + u, and u where
                                   w = 1, so that small values are not lost; Mish is x tanh(softplus(x))
Clip(x + 3, 0, 6) / 6          -> HardSigmoid(x), alpha 1/6, beta 1/2
x Clip(x + 3, 0, 6) / 6        -> HardSwish(x)
Resize by a scale that gives no whole number of pixels is refused: its positions would be others
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.affines import affine_of, number_of
from bhpe_compile.exchange.nodes import (
    array_of,
    constant,
    detach,
    integers,
    new_value,
    only_use,
    shape_of,
    substitute,
    text,
)
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.imported.linear_layers import is_standard

HARD_SWISH = 14
"""The op set that brought HardSwish."""


class PlainForms(Pass[ir.Model]):
    """Other forms -> plain ones."""

    name: ClassVar[str] = "plain-forms"
    summary: ClassVar[str] = "write forms of operators that say the same in one way"

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        for node in self.visit(list(graph.graph)):
            if is_standard(node, "Tile"):
                notes.append(self._tile(graph.graph, node))
            elif is_standard(node, "Dropout"):
                notes.append(self._dropout(graph.graph, node))
            elif is_standard(node, "ConvTranspose") and "output_shape" in node.attributes:
                notes.append(self._output_shape(node))
            elif is_standard(node, "Softplus", "Mish") and node.outputs[0].dtype == ir.DataType.FLOAT:
                notes.append(self._softplus(graph.graph, node))
            elif is_standard(node, "Clip") and node.outputs[0].dtype == ir.DataType.FLOAT:
                notes += self._hard(graph, node)
            elif is_standard(node, "Resize"):
                _check_scales(node)
            elif is_standard(node, "Pow"):
                notes += self._pow(graph.graph, node)
        return PassResult(graph, any(note.applied for note in notes), tuple(notes))

    def _tile(self, graph: ir.Graph, node: ir.Node) -> Note:
        x, repeats, name = node.inputs[0], array_of(node.inputs[1]), node.name or "tile"
        if x is None or repeats is None:
            return self.refused(name, "how often it repeats is computed at run time")
        shape, dtype = shape_of(x), x.dtype or ir.DataType.FLOAT
        apart = tuple(extent for one in shape for extent in (1, one))
        spread = tuple(
            extent for one, times in zip(shape, repeats, strict=True) for extent in (int(times), one)
        )
        value = x
        for kind, wanted, word in (
            ("Reshape", apart, "apart"),
            ("Expand", spread, "spread"),
            ("Reshape", shape_of(node.outputs[0]), "together"),
        ):
            out = new_value(f"{name}.{word}", wanted, dtype)
            target = constant(graph, f"{name}.{word}.shape", np.array(wanted, np.int64))
            one = ir.Node("", kind, [value, target], outputs=[out], name=f"{name}.{word}")
            if word == "together":
                substitute(graph, node, one, {node.outputs[0]: out})
            else:
                graph.insert_before(node, one)
            value = out
        return self.applied(name, "repeated by Expand")

    def _dropout(self, graph: ir.Graph, node: ir.Node) -> Note:
        name = node.name or "dropout"
        mask = node.outputs[1] if len(node.outputs) > 1 else None
        training = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if len(node.inputs) > 2 and node.inputs[2] is not None and (training is None or training.any()):
            raise InputError(f"node Dropout ({name}): is in training mode; export the model in eval mode")
        if mask is not None and (mask.is_graph_output() or list(mask.uses())):
            raise InputError(f"node Dropout ({name}): its mask is read; export the model in eval mode")
        out = new_value(f"{name}.same", shape_of(node.outputs[0]), node.outputs[0].dtype or ir.DataType.FLOAT)
        same = ir.Node("", "Identity", [node.inputs[0]], outputs=[out], name=name)
        substitute(graph, node, same, {node.outputs[0]: out})
        return self.applied(name, "does nothing outside of training")

    def _output_shape(self, node: ir.Node) -> Note:
        """total = stride (x - 1) + output_padding + reach - y, shared between front and back."""
        x, y = shape_of(node.inputs[0])[2:], shape_of(node.outputs[0])[2:]
        rank = len(x)
        if len(y) != rank:  # what onnx's shape inference makes of a size below the input's
            wanted = list(integers(node, "output_shape", ()))
            raise InputError(
                f"node ConvTranspose ({node.name}): output_shape {wanted} is no size that {list(x)} grows to; "
                "export it with pads"
            )
        kernel = shape_of(node.inputs[1])[2:]
        strides, dilations = (integers(node, word, (1,) * rank) for word in ("strides", "dilations"))
        more = list(integers(node, "output_padding", (0,) * rank))
        upper = text(node, "auto_pad", "NOTSET") == "SAME_UPPER"
        pads = [0] * (2 * rank)
        for axis in range(rank):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = strides[axis] * (x[axis] - 1) + more[axis] + reach - y[axis]
            if total < 0:
                more[axis], total = more[axis] - total, 0
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + rank] = (small, large) if upper else (large, small)
        for word in ("output_shape", "auto_pad"):
            node.attributes.pop(word, None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", more)
        return self.applied(node.name or "", f"its size by pads {pads}")

    def _softplus(self, graph: ir.Graph, node: ir.Node) -> Note:
        name, x = node.name or "softplus", node.inputs[0]
        shape = shape_of(x)
        nothing, one = (constant(graph, f"{name}.{value}", np.array(value, np.float32)) for value in (0, 1))
        count = 0

        def emit(kind: str, *inputs: ir.Value | None, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
            nonlocal count
            count += 1
            out = new_value(f"{name}.v{count}", shape, dtype)
            graph.insert_before(node, ir.Node("", kind, list(inputs), outputs=[out], name=f"{name}.v{count}"))
            return out

        u = emit("Exp", emit("Neg", emit("Abs", x)))
        w = emit("Add", one, u)
        lost = emit("Equal", w, one, dtype=ir.DataType.BOOL)
        apart = emit("Where", lost, one, emit("Sub", w, one))
        small = emit("Where", lost, u, emit("Div", emit("Mul", emit("Log", w), u), apart))
        value = emit("Add", emit("Max", x, nothing), small)
        if node.op_type == "Mish":
            value = emit("Mul", x, emit("Tanh", value))
        out = new_value(f"{name}.same", shape)
        same = ir.Node("", "Identity", [value], outputs=[out], name=name)
        substitute(graph, node, same, {node.outputs[0]: out})
        return self.applied(name, "written so that small values are not lost")

    def _hard(self, model: ir.Model, clip: ir.Node) -> list[Note]:
        """Constants 3 and 6 around a Clip are those of HardSigmoid and HardSwish."""
        shift = clip.inputs[0].producer() if clip.inputs[0] is not None else None
        ends = [number_of(end) for end in clip.inputs[1:]]
        after = only_use(clip.outputs[0])
        if ends != [0, 6] or shift is None or after is None or only_use(shift.outputs[0]) is None:
            return []
        x = next((one for one in shift.inputs if one is not None and _is_affine(shift, one, 1, 3)), None)
        if x is None:
            return []
        nodes, kind = [shift, clip, after], "HardSigmoid"
        if is_standard(after, "Mul") and set(after.inputs) == {x, clip.outputs[0]}:
            last = only_use(after.outputs[0])
            if last is None or model.opset_imports.get("", 0) < HARD_SWISH:
                return []
            nodes, kind = [*nodes, last], "HardSwish"
        last = nodes[-1]
        if not _is_affine(last, nodes[-2].outputs[0], 1 / 6, 0):
            return []
        numbers = {"alpha": 1 / 6, "beta": 0.5} if kind == "HardSigmoid" else {}
        y, name = last.outputs[0], last.name or clip.name or kind
        out = new_value(f"{y.name}_hard", shape_of(y))
        attributes = [ir.AttrFloat32(word, number) for word, number in numbers.items()]
        kept = y.name
        substitute(model.graph, last, ir.Node("", kind, [x], attributes, outputs=[out], name=name), {y: out})
        out.name = kept
        for one in reversed(nodes[:-1]):
            detach(model.graph, one)
        return [self.applied(name, f"was written in {len(nodes)} operators")]

    def _pow(self, graph: ir.Graph, node: ir.Node) -> list[Note]:
        exponent, x = array_of(node.inputs[1]), node.inputs[0]
        if exponent is None or exponent.dtype.kind not in "iu" or x is None or x.dtype != ir.DataType.FLOAT:
            return []
        name = node.name or "pow"
        node.replace_input_with(1, constant(graph, f"{name}.exponent", exponent.astype(np.float32)))
        return [self.applied(name, "its exponents as floats")]


def _is_affine(node: ir.Node, value: ir.Value, a: float, b: float) -> bool:
    """Whether `node` computes a * value + b, but for the rounding of a."""
    found = affine_of(node, value)
    if found is None or any(one.size != 1 for one in found):
        return False
    return abs(float(found[0].reshape(())) - a) < 1e-6 and float(found[1].reshape(())) == b


def _check_scales(node: ir.Node) -> None:
    """InputError for a Resize whose scales do not give its size exactly."""
    scales = array_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if scales is None or not scales.size or "axes" in node.attributes:
        return
    x, y = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if any(round(extent * float(scale), 4) != out for extent, scale, out in zip(x, scales, y, strict=True)):
        raise InputError(
            f"node Resize ({node.name}): its scales {scales.tolist()} do not give whole numbers of pixels; "
            "export it with sizes"
        )
