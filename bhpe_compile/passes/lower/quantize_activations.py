"""8-bit convolutions read levels; a Quantize kernel in front of each writes them, with the border it needs.

    Int8Conv2d(x)   ->   Int8Conv2d(Quantize(x))

A 1x1 convolution with a stride reads every second pixel only: Quantize picks those, and the stride is gone. A picture
with channels first is read as it is.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from bhpe_compile.kernels.int8_layout import stored_width
from bhpe_compile.kernels.window import both, convolution, deconvolution_phase, four
from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.channel_last import TO_LAST
from bhpe_compile.passes.lower.describe import extents

FEW_CHANNELS = 4
"""Maps of more channels are transposed by a kernel that knows the cache."""


class QuantizeActivations(Pass[ir.Model]):
    """Float edges in front of 8-bit kernels become levels."""

    name: ClassVar[str] = "quantize-activations"
    summary: ClassVar[str] = "write 8-bit levels in front of 8-bit convolutions"
    requires: ClassVar[tuple[str, ...]] = ("channel last",)
    ensures: ClassVar[tuple[str, ...]] = ("quantized activations",)

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes = [
            self._quantize(graph.graph, node)
            for node in self.visit(list(graph.graph))
            if g.is_kernel(node, *g.INT8_KINDS) and "quantization" in g.roles(node)
        ]
        if notes:
            common.RemoveUnusedNodesPass()(graph)
        return PassResult(graph, bool(notes), tuple(notes))

    def _quantize(self, graph: ir.Graph, node: ir.Node) -> Note:
        operands, facts = g.operands_of(node), g.facts_of(node)
        x = operands["x"]
        batch, height, width, channels = g.shape_of(x)
        stride, border, columns = 1, 1, width
        if node.op_type == "Int8ConvTranspose2d":
            stored = max(
                stored_width(deconvolution_phase(width, phase), channels, border) for phase in (0, 1)
            )
        else:
            kernel, strides, padding = (extents(node, name) for name in ("kernel", "stride", "padding"))
            _, left, _, right = four(padding)
            border = max(four(padding))
            whole = node.op_type == "Int8Conv2d" and kernel == 1 and border == 0
            if whole and isinstance(strides, int):
                stride = strides
                facts["stride"] = 1
            columns = -(-width // stride)
            window = convolution(columns, both(kernel)[1], both(strides)[1] // stride, left, right)
            stored = columns + 2 * border
            if node.op_type == "Int8Conv2d":
                stored = stored_width(window, channels, border)
        rows = -(-height // stride)
        picture = _picture(x) if stride == 1 else None
        levels = g.new_value(
            f"{node.name}.levels", (batch, rows + 2 * border, stored, channels), ir.DataType.UINT8
        )
        quantize = g.kernel_node(
            "Quantize",
            g.text(node, "layer"),
            {"x": x if picture is None else picture, "quantization": operands.pop("quantization")},
            {"out": levels},
            {
                **{"stride": stride, "border": border, "stored_width": stored, "layout": "nhwc"},
                "channels_first": int(picture is not None),
            },
        )
        graph.insert_before(node, quantize)
        operands["x"] = levels
        facts |= {"in_border": border, "height": rows, "width": columns}
        results = {
            name: g.new_value(f"{value.name}_q", g.shape_of(value), value.dtype or ir.DataType.FLOAT)
            for name, value in g.results_of(node).items()
        }
        new = g.kernel_node(node.op_type, g.text(node, "layer"), operands, results, facts)
        g.substitute(graph, node, new, dict(zip(node.outputs, new.outputs, strict=True)))
        every = "every pixel" if stride == 1 else f"every {stride}nd pixel of each row and column"
        return self.applied(new.name or "", f"its input is quantized by a kernel of its own, {every}")


def _picture(value: ir.Value) -> ir.Value | None:
    """The same with channels first, where it has few of them and is transposed for this only."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or g.integers(node, "perm", ()) != TO_LAST:
        return None
    return node.inputs[0] if g.shape_of(value)[3] <= FEW_CHANNELS else None
