"""ONNX graph with kernel nodes -> Relax function that calls our TIR kernels.

TVM's importer keys its converters on the operation type alone and ignores the domain; our kernel nodes are
given one converter each through its converter map for the time of the import. A kernel node becomes a call in
destination-passing style of an external function: TVM's passes see a name and types, and leave it alone. The
PrimFuncs behind the names are compiled apart; equal descriptions share one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
from tvm import relax
from tvm.ir import IRModule
from tvm.relax.frontend.onnx import onnx_frontend

from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.weights import KernelCall


def _call(bb: relax.BlockBuilder, call: KernelCall, inputs: list[Any]) -> Any:
    """One kernel node as an external call; `inputs` are Relax expressions in the order of the parameters."""
    outs = [relax.TensorType(shape, dtype) for shape, dtype in call.outputs]
    return bb.emit(
        relax.call_dps_packed(call.symbol, relax.Tuple(inputs), out_ty=outs if len(outs) > 1 else outs[0])
    )


@contextmanager
def _converters(calls: Mapping[str, KernelCall]) -> Iterator[None]:
    kinds = {call.kind for call in calls.values()}

    class KernelConverter(onnx_frontend.OnnxOpConverter):  # type: ignore[misc]
        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            return _call(bb, calls[attr["tvm_custom"]["name"]], list(inputs))

    original, convert = onnx_frontend._get_convert_map, onnx_frontend.ONNXGraphImporter._convert_operator

    def named(self: Any, kind: str, inputs: Any, attributes: dict[str, Any], opset: int) -> Any:
        try:
            return convert(self, kind, inputs, attributes, opset)
        except BhpeError:
            raise
        except Exception as error:
            name = attributes["tvm_custom"]["name"]
            raise InputError(
                f"node {kind} ({name}): TVM's importer does not take it: {_line(error)}"
            ) from None

    onnx_frontend._get_convert_map = lambda: {**original(), **dict.fromkeys(kinds, KernelConverter)}
    onnx_frontend.ONNXGraphImporter._convert_operator = named
    try:
        yield
    finally:
        onnx_frontend._get_convert_map = original
        onnx_frontend.ONNXGraphImporter._convert_operator = convert


def _line(error: Exception) -> str:
    """The last line of an error of TVM, whose messages begin with where it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("#")]
    return (lines or [type(error).__name__])[-1][:200]


def _refuse_unknown(model: ir.Model) -> None:
    """InputError that names the first node that TVM's importer has no converter for."""
    known = {*onnx_frontend._get_convert_map(), "Constant"}
    for node in model.graph:
        if g.is_kernel(node):
            continue
        if node.op_type not in known or node.domain not in ("", "ai.onnx"):
            where = f" of {node.domain}" if node.domain not in ("", "ai.onnx") else ""
            raise InputError(
                f"node {node.op_type} ({node.name}): there is no kernel for this operator{where}"
            )


def to_relax(model: ir.Model, calls: Sequence[KernelCall]) -> IRModule:
    """Relax module with `main`. model: as `take_weights` leaves it; calls: of its kernel nodes, in order."""
    nodes = [node.name or "" for node in model.graph if g.is_kernel(node)]
    _refuse_unknown(model)
    model.opset_imports[g.DOMAIN] = 1
    proto = ir.to_proto(model)
    with _converters(dict(zip(nodes, calls, strict=True))), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the importer's checker knows no shapes for operators of our own
        try:
            return onnx_frontend.from_onnx(proto, keep_params_in_input=False)
        except BhpeError:
            raise
        except Exception as error:  # of a dozen kinds, TVM's and Python's
            raise InputError(f"TVM's importer does not take the graph: {_line(error)}") from None
