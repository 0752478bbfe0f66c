"""ONNX graph with kernel nodes -> Relax function that calls our TIR kernels.

TVM's importer keys its converters on the operation type alone and ignores the domain; our kernel nodes are
given one converter each through its converter map for the time of the import. A kernel node becomes a call in
destination-passing style of an external function: TVM's passes see a name and types, and leave it alone. The
PrimFuncs behind the names are compiled apart; equal descriptions share one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import IRModule
from tvm.relax.frontend.onnx import onnx_frontend

from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe
from bhpe_compile.passes.lower.emit import KernelCall
from bhpe_compile.targets.isa import VectorIsa


@dataclass
class Importer:
    """Holds what one import collects: the calls in order."""

    isa: VectorIsa
    nodes: Mapping[str, ir.Node]
    calls: list[KernelCall] = field(default_factory=list)

    def convert(self, bb: relax.BlockBuilder, inputs: list[Any], name: str) -> Any:
        """One kernel node as an external call; `inputs` are Relax expressions in the order of the node's roles."""
        node = self.nodes[name]
        kernel = describe(node)
        expressions = dict(zip(g.roles(node), inputs, strict=True))
        arrays = {r: _numpy(e, node) for r, e in expressions.items() if r in ARRAY_ROLES}
        packed = _pack(kernel, self.isa, arrays, node)
        args, outs = [], []
        parameters = kernel.parameters(self.isa)
        for parameter in parameters:
            if parameter.is_output:
                outs.append(relax.TensorType(parameter.shape, parameter.dtype))
                continue
            if parameter.role in packed:
                array = packed[parameter.role]
                if array.shape != tuple(parameter.shape) or str(array.dtype) != parameter.dtype:
                    raise BhpeError(
                        f"internal: {node.name} {parameter.role}: {array.dtype}{array.shape}, "
                        f"kernel wants {parameter.dtype}{parameter.shape}"
                    )
                args.append(relax.const(array))
            else:
                args.append(expressions[parameter.role])
        symbol = kernel.symbol()
        roles = tuple(p.role for p in parameters)
        layer = g.text(node, "layer")
        self.calls.append(KernelCall(symbol, node.op_type, layer, roles, kernel.parallel))
        return bb.emit(
            relax.call_dps_packed(symbol, relax.Tuple(args), out_ty=outs if len(outs) > 1 else outs[0])
        )


def _numpy(expr: Any, node: ir.Node) -> NDArray[Any]:
    value = getattr(expr, "value", None)
    if not isinstance(value, tvm.runtime.Tensor):
        raise BhpeError(f"internal: a parameter of {node.name} is not constant")
    array: NDArray[Any] = value.numpy()
    return array


def _pack(
    kernel: Kernel, isa: VectorIsa, arrays: dict[str, NDArray[Any]], node: ir.Node
) -> dict[str, NDArray[Any]]:
    """Constants in the layout the kernel wants; weights that are stored as float16 must be exact."""
    weight = arrays.get("weight", np.zeros(0))
    stored = getattr(kernel, "weight_dtype", "float16")
    if (
        g.is_kernel(node, *g.DENSE_KINDS)
        and stored == "float16"
        and not np.array_equal(weight, weight.astype(np.float16))
    ):
        raise BhpeError(
            f"internal: {g.text(node, 'layer')}: weights changed after they were rounded to float16"
        )
    return kernel.constants(isa, arrays)


@contextmanager
def _converters(importer: Importer, kinds: frozenset[str]) -> Iterator[None]:
    class KernelConverter(onnx_frontend.OnnxOpConverter):  # type: ignore[misc]
        @classmethod
        def _impl_v1(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
            return importer.convert(bb, list(inputs), attr["tvm_custom"]["name"])

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


def _refuse_unknown(model: ir.Model, kinds: frozenset[str]) -> None:
    """InputError that names the first node that TVM's importer has no converter for."""
    known = {*onnx_frontend._get_convert_map(), *kinds, "Constant"}
    for node in model.graph:
        if node.op_type not in known or node.domain not in ("", "ai.onnx", g.DOMAIN):
            where = f" of {node.domain}" if node.domain not in ("", "ai.onnx") else ""
            raise InputError(
                f"node {node.op_type} ({node.name}): there is no kernel for this operator{where}"
            )


def to_relax(model: ir.Model, isa: VectorIsa) -> tuple[IRModule, list[KernelCall]]:
    """Relax module with `main`, and the calls of our kernels in order."""
    nodes: dict[str, ir.Node] = {}
    for index, node in enumerate(model.graph):
        if g.is_kernel(node):
            node.name = f"kernel_{index}"  # unique: layers may own several kernels
            nodes[node.name] = node
    importer = Importer(isa, nodes)
    kinds = frozenset(n.op_type for n in nodes.values())
    _refuse_unknown(model, kinds)
    model.opset_imports[g.DOMAIN] = 1
    proto = ir.to_proto(model)
    with _converters(importer, kinds), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the importer's checker knows no shapes for operators of our own
        try:
            module = onnx_frontend.from_onnx(proto, keep_params_in_input=False)
        except BhpeError:
            raise
        except Exception as error:  # of a dozen kinds, TVM's and Python's
            raise InputError(f"TVM's importer does not take the graph: {_line(error)}") from None
    return module, importer.calls
