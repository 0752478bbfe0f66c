"""torch's own exporter, for networks with operations that `record` does not know; it takes seconds to import.

The exporter inlines every function it is given, so `bhpe` operators leave it as bare nodes of a schema.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
from onnxscript import values
from onnxscript.optimizer import fold_constants
from torch import fx

from bhpe_compile.exchange.functions import DOMAIN, OPSET, VERSION
from bhpe_compile.networks.layers import (  # noqa: F401 (register the operators)
    crop,
    heat_maps,
    ops,
    sample_points,
    written_torch,
)

_BHPE = values.Opset(DOMAIN, VERSION)


def _bare(
    name: str, inputs: tuple[str, ...], integers: tuple[str, ...] = (), numbers: tuple[str, ...] = ()
) -> values.Op:
    """An operator of the domain: `integers` are attributes that are lists, `numbers` single ones."""
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
            attributes=[
                *(schema.Attribute(a, schema.AttrType.INTS) for a in integers),
                *(schema.Attribute(a, schema.AttrType.INT) for a in numbers),
            ],
        ),
    )


_FIVE = ("x", "threshold", "weight", "scale", "bias")
_CONV = _bare("BinaryConv2d", _FIVE, ("strides", "pads"))
_CONV_TRANSPOSE = _bare("BinaryConvTranspose2d", _FIVE, ("strides", "pads"))
_LINEAR = _bare("BinaryLinear", _FIVE)
_RPRELU = _bare("RPReLU", ("x", "gamma", "beta", "zeta"))
_CELL_MEAN = _bare("CellMean", ("x",))
_LOGISTIC = _bare("Logistic", ("x",))
_ROTATION_VECTOR = _bare("RotationVector", ("x",))
_CROP = _bare("Crop", ("x", "boxes"), numbers=("height", "width"))
_HEAT_MAP = _bare("HeatMap", ("x",), numbers=("depth",))
_SAMPLE_POINTS = _bare("SamplePoints", ("x", "points"))
_SOFT_ARGMAX = _bare("SoftArgmax", ("x",), numbers=("depth", "axes"))


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


def _heat_map(logits: Any, depth: int) -> Any:
    return _HEAT_MAP(logits, depth=depth)


def _sample_points(x: Any, points: Any) -> Any:
    return _SAMPLE_POINTS(x, points)


def _soft_argmax(logits: Any, depth: int, axes: int) -> Any:
    return _SOFT_ARGMAX(logits, depth=depth, axes=axes)


def _cell_mean(x: Any) -> Any:
    return _CELL_MEAN(x)


def _logistic(x: Any) -> Any:
    return _LOGISTIC(x)


def _rotation_vector(x: Any) -> Any:
    return _ROTATION_VECTOR(x)


def _crop(x: Any, boxes: Any, height: int, width: int) -> Any:
    return _CROP(x, boxes, height=height, width=width)


def _table() -> dict[Callable[..., Any], Callable[..., Any]]:
    bhpe = torch.ops.bhpe
    return {
        bhpe.binary_conv2d.default: _binary_conv2d,
        bhpe.binary_conv_transpose2d.default: _binary_conv_transpose2d,
        bhpe.binary_linear.default: _binary_linear,
        bhpe.rprelu.default: _rprelu,
        bhpe.cell_mean.default: _cell_mean,
        bhpe.crop.default: _crop,
        bhpe.logistic.default: _logistic,
        bhpe.rotation_vector.default: _rotation_vector,
        bhpe.heat_map.default: _heat_map,
        bhpe.sample_points.default: _sample_points,
        bhpe.soft_argmax.default: _soft_argmax,
    }


def torch_export(
    graph: fx.GraphModule, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
) -> ir.Model:
    """Export `graph` for inputs like `inputs`; constants are initializers, names of nodes are the exporter's."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            optimize=False,  # its rewrite rules would fold batch norms into float16 weights
            opset_version=OPSET,
            input_names=list(inputs),
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
    return model


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
