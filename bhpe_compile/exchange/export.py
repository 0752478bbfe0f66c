"""A frozen torch.fx graph -> ONNX, opset 18, with bare `bhpe` nodes and named layers.

The exporter inlines every function it is given, so `bhpe` operators leave it as bare nodes of a schema; their
bodies are attached afterwards. A layer's node takes the layer's path, read off the name of its weight.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
from onnxscript import opset18 as op
from onnxscript import values
from onnxscript.optimizer import fold_constants
from torch import fx

from bhpe_compile.exchange import INPUT
from bhpe_compile.exchange.functions import DOMAIN, VERSION, attach_bodies
from bhpe_compile.exchange.nodes import weight_of
from bhpe_compile.models import ops, roi_align  # noqa: F401 (register the operators)

OPSET, IR_VERSION = 18, 10


_BHPE = values.Opset(DOMAIN, VERSION)


def _bare(name: str, inputs: tuple[str, ...], integers: tuple[str, ...] = ()) -> values.Op:
    schema = onnx.defs.OpSchema
    return values.Op(
        _BHPE,
        name,
        schema(
            name,
            DOMAIN,
            1,
            inputs=[schema.FormalParameter(i, "T") for i in inputs],
            outputs=[schema.FormalParameter("y", "T")],
            type_constraints=[("T", ["tensor(float)"], "")],
            attributes=[schema.Attribute(a, schema.AttrType.INTS) for a in integers],
        ),
    )


_FIVE = ("x", "threshold", "weight", "scale", "bias")
_CONV = _bare("BinaryConv2d", _FIVE, ("strides", "pads"))
_CONV_TRANSPOSE = _bare("BinaryConvTranspose2d", _FIVE, ("strides", "pads"))
_LINEAR = _bare("BinaryLinear", _FIVE)
_RPRELU = _bare("RPReLU", ("x", "gamma", "beta", "zeta"))


# The exporter matches these parameters by name with the torch operators' schemas.


def _binary_conv2d(
    x: Any,
    threshold: Any,
    weight: Any,
    scale: Any,
    bias: Any,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Any:
    return _CONV(x, threshold, weight, scale, bias, strides=[stride] * 2, pads=[padding] * 4)


def _binary_conv_transpose2d(
    x: Any,
    threshold: Any,
    weight: Any,
    scale: Any,
    bias: Any,
    stride: int,
    padding: int,
    surrogate: str = "bireal",
) -> Any:
    return _CONV_TRANSPOSE(x, threshold, weight, scale, bias, strides=[stride] * 2, pads=[padding] * 4)


def _binary_linear(
    x: Any, threshold: Any, weight: Any, scale: Any, bias: Any, surrogate: str = "bireal"
) -> Any:
    return _LINEAR(x, threshold, weight, scale, bias)


def _rprelu(x: Any, gamma: Any, beta: Any, zeta: Any) -> Any:
    return _RPRELU(x, gamma, beta, zeta)


def _roi_align(x: Any, boxes: Any, batch_index: Any, height: int, width: int) -> Any:
    return op.RoiAlign(
        x,
        boxes,
        batch_index,
        output_height=height,
        output_width=width,
        sampling_ratio=0,
        mode="avg",
        coordinate_transformation_mode="output_half_pixel",
    )


def _table() -> dict[Callable[..., Any], Callable[..., Any]]:
    bhpe = torch.ops.bhpe
    return {
        bhpe.binary_conv2d.default: _binary_conv2d,
        bhpe.binary_conv_transpose2d.default: _binary_conv_transpose2d,
        bhpe.binary_linear.default: _binary_linear,
        bhpe.rprelu.default: _rprelu,
        bhpe.roi_align.default: _roi_align,
    }


def export(graph: fx.GraphModule, example: torch.Tensor) -> ir.Model:
    """Export `graph` (frozen; returns a dict of tensors) for inputs like `example` [1, 3, H, W].

    The outputs are named as the dict's keys; the layers' nodes as their paths.
    """
    outputs = graph.graph.output_node().args[0]
    if not isinstance(outputs, Mapping):
        raise TypeError("the graph has to return a dict of tensors")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            optimize=False,  # its rewrite rules would fold batch norms into float16 weights
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(outputs),
            custom_translation_table=_table(),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    model = program.model
    fold_constants(model)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "bhpe-compile", ""
    model.graph.name = "bhpe"
    _shape_parameters(model.graph)
    name_layers(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    attach_bodies(model)
    return model


def name_layers(model: ir.Model) -> None:
    """node.name = path of the layer, from its weight's name; other nodes keep theirs."""
    taken: set[str] = set()
    for node in model.graph:
        weight = weight_of(node)
        if weight is None or weight.name is None or not weight.name.endswith(".weight"):
            continue
        path = weight.name.removesuffix(".weight")
        name, count = path, 1
        while name in taken:
            name, count = f"{path}#{count}", count + 1
        taken.add(name)
        node.name = name


def _shape_parameters(graph: ir.Graph) -> None:
    """RPReLU's parameters [C] -> [C,1,1] where x has rank 4: they broadcast without a Reshape.

    Equal parameters of several layers are one initializer after export, so each column is a new one.
    """
    for node in graph:
        x = node.inputs[0] if node.domain == DOMAIN and node.op_type == "RPReLU" else None
        if x is None or x.shape is None or len(x.shape) != 4:
            continue
        for index, value in enumerate(node.inputs):
            if index == 0 or value is None or value.const_value is None:
                continue
            name = f"{value.name}.column"
            if name not in graph.initializers:
                array = value.const_value.numpy().reshape(-1, 1, 1)
                column = ir.Value(
                    name=name,
                    const_value=ir.tensor(array, name=name),
                    type=ir.TensorType(ir.DataType.FLOAT),
                    shape=ir.Shape(array.shape),
                )
                graph.register_initializer(column)
            node.replace_input_with(index, graph.initializers[name])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and logs its progress; errors still come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
