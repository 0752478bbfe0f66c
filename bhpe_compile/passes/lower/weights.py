"""Weights stay in this process: code generation gets a graph in which they are inputs.

So machine code depends on the network's form alone, and a network that was trained again needs none of it made anew.
Weights are packed here, in the layout the kernels read, and put into the program when its memory is laid out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.artifact.program import ALIGNMENT, Program
from bhpe_compile.errors import BhpeError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import ARRAY_ROLES, describe
from bhpe_compile.passes.lower.memory_plan import aligned
from bhpe_compile.targets.isa import VectorIsa

Array = NDArray[Any]


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel of ours. outputs: (shape, dtype) of what it writes."""

    symbol: str
    kind: str
    layer: str
    roles: tuple[str, ...]
    parallel: bool = False
    outputs: tuple[tuple[tuple[int, ...], str], ...] = ()


@dataclass(frozen=True)
class Constant:
    """Bytes of a program's weights: those of the constant `name`, or `data` where that is ""."""

    name: str
    data: bytes = b""


@dataclass(frozen=True)
class Bare:
    """A graph of kernels without their weights.

    model: its inputs are those of the network, then the constants; a kernel node's inputs are the kernel's parameters,
    in their order. calls: of the kernel nodes, in the graph's order. kernels: the different ones. constants: what the
    further inputs hold, by name, packed for the kernels.
    """

    model: ir.Model
    calls: tuple[KernelCall, ...]
    kernels: tuple[Kernel, ...]
    constants: dict[str, bytes]


def take_weights(model: ir.Model, isa: VectorIsa) -> Bare:
    """The graph `model` without the weights of its kernels; `model` is left as it is."""
    model = model.clone()
    prefix = "constant"
    while any((value.name or "").startswith(prefix) for value in model.graph.inputs):
        prefix += "_"
    constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
    kernels: dict[str, Kernel] = {}
    calls = []
    for index, node in enumerate(model.graph):
        if not g.is_kernel(node):
            continue
        kernel, operands = describe(node), g.operands_of(node)
        symbol, parameters = kernel.symbol(), kernel.parameters(isa)
        packed = packed_constants(node, isa)
        inputs = []
        for parameter in parameters:
            if parameter.is_output:
                continue
            if parameter.role not in packed:
                inputs.append(operands[parameter.role])
                continue
            array = packed[parameter.role]
            if array.shape != tuple(parameter.shape) or str(array.dtype) != parameter.dtype:
                raise BhpeError(
                    f"internal: {node.name} {parameter.role}: {array.dtype}{array.shape}, "
                    f"kernel wants {parameter.dtype}{parameter.shape}"
                )
            key = (array.dtype.str, array.shape, array.tobytes())
            if key not in constants:
                constants[key] = ir.val(
                    f"{prefix}{len(constants)}", ir.DataType.from_numpy(array.dtype), array.shape
                )
            inputs.append(constants[key])
        outputs = tuple((tuple(p.shape), p.dtype) for p in parameters if p.is_output)
        roles = tuple(p.role for p in parameters)
        calls.append(KernelCall(symbol, node.op_type, g.text(node, "layer"), roles, kernel.parallel, outputs))
        kernels[symbol] = kernel
        node.name = f"kernel_{index}"  # unique: layers may own several kernels
        node.attributes.clear()  # what is to be known stands in the call
        node.resize_inputs(len(inputs))
        for place, value in enumerate(inputs):
            node.replace_input_with(place, value)
    model.graph.inputs.extend(constants.values())
    for name in [name for name, value in model.graph.initializers.items() if not value.uses()]:
        del model.graph.initializers[name]
    contents = {value.name or "": content for (_, _, content), value in constants.items()}
    return Bare(model, tuple(calls), tuple(kernels.values()), contents)


def packed_constants(node: ir.Node, isa: VectorIsa) -> dict[str, Array]:
    """Constants of a kernel node in the layout the kernel wants; weights that are stored as float16 must be exact."""
    kernel, arrays = describe(node), {}
    for role, value in g.operands_of(node).items():
        if role in ARRAY_ROLES:
            array = g.array_of(value)
            if array is None:
                raise BhpeError(f"internal: a parameter of {node.name} is not constant")
            arrays[role] = array
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


def put_weights(program: Program, layout: Sequence[Constant], constants: Mapping[str, bytes]) -> Program:
    """The program with its weights, which lie one behind the other as `layout` says."""
    image = bytearray()
    for one in layout:
        content = constants[one.name] if one.name else one.data
        image += content.ljust(aligned(len(content)), b"\0")
    return replace(program, weights=bytes(image or bytes(ALIGNMENT)))
