"""ONNX files that others wrote: every tensor that a file declares is compared with the numbers that are in it.

Nothing is allocated that the file does not fill, and no other file is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.reading import MalformedError, read_regular

if TYPE_CHECKING:
    import onnx

MOST_ONNX = (2 << 30) - 1
"""Bytes of a message of protobuf."""

LARGEST = 1 << 28
"""Elements of a tensor that nodes make of a few numbers, or that a graph declares between its nodes."""

GROWING = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""Operators whose result is as large as the numbers in one of their inputs say, and which input."""

PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
"""Bits of the kinds of which several share a byte."""


def read_onnx(path: Path, *, external: bool = False) -> onnx.ModelProto:
    """The model in an ONNX file, with a graph that has nodes.

    external: tensors may lie in other files; they are not read, and whoever reads them has to look where they lead.
    OSError where the file cannot be read; MalformedError for what is no ONNX, for tensors that are larger than their
    numbers, and for shapes beyond `LARGEST`.
    """
    return parse_onnx(read_regular(path, MOST_ONNX), external=external)


def parse_onnx(content: bytes, *, external: bool = False) -> onnx.ModelProto:
    """`read_onnx` of the bytes of a file."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError):
        raise MalformedError("no ONNX: protobuf does not read it") from None
    if not model.graph.node:
        raise MalformedError("no ONNX: it has no graph with nodes")
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            _check_tensor(tensor, external)
        check_shapes(graph)
    for function in model.functions:
        for graph in (function, *(inner for node in function.node for inner in _inside(node))):
            for tensor in _tensors(graph):
                _check_tensor(tensor, external)
    return model


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    waiting = [graph]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += [inner for node in one.node for inner in _bodies(node)]


def _bodies(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _inside(node: Any) -> Iterator[Any]:
    for body in _bodies(node):
        yield from _graphs(body)


def _tensors(graph: Any) -> Iterator[Any]:
    """The tensors of a graph or function, those of its nodes' attributes included."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            ):
                yield from (sparse.values, sparse.indices)


def _check_tensor(tensor: Any, external: bool) -> None:
    import onnx

    name = tensor.name or "a tensor without a name"
    if any(extent < 0 for extent in tensor.dims):
        raise MalformedError(f"{name} has shape {list(tensor.dims)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if not external:
            raise MalformedError(f"{name} keeps its numbers in another file, which is not read")
        return
    bits = _bits(tensor.data_type, name)
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        there, wanted = len(tensor.raw_data), -(-count * bits // 8)
    else:
        there = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))
        wanted = _fields(tensor.data_type, count)
    if there != wanted:
        kind = "bytes" if tensor.HasField("raw_data") else "numbers"
        raise MalformedError(f"{name} has {there} {kind}, shape {list(tensor.dims)} needs {wanted}")


def _bits(data_type: int, name: str) -> int:
    """Bits of one number; of words, which `raw_data` never holds, 0."""
    import onnx

    kinds = onnx.TensorProto.DataType
    if data_type == onnx.TensorProto.STRING:
        return 0
    if data_type in kinds.values() and kinds.Name(data_type) in PACKED:
        return PACKED[kinds.Name(data_type)]
    try:
        return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8
    except KeyError:
        raise MalformedError(f"{name} holds numbers of kind {data_type}, which ONNX does not know") from None


def _fields(data_type: int, count: int) -> int:
    """Numbers in the typed field that holds `count` elements."""
    import onnx

    kind = onnx.TensorProto
    if data_type in (kind.COMPLEX64, kind.COMPLEX128):
        return 2 * count
    return -(-count * PACKED.get(kind.DataType.Name(data_type), 8) // 8)


def check_shapes(graph: Any) -> None:
    """MalformedError for tensors that a graph would make, or says it has, beyond `LARGEST` elements."""
    import onnx

    for value in (*graph.input, *graph.value_info, *graph.output):
        extents = [one.dim_value for one in value.type.tensor_type.shape.dim if one.HasField("dim_value")]
        if any(extent < 0 for extent in extents):
            raise MalformedError(f"{value.name} has shape {extents}")
        _refuse_large(value.name, extents)
    constants = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            constants |= dict.fromkeys(
                node.output, next((a.t for a in node.attribute if a.HasField("t")), None)
            )
    for node in graph.node:
        place = GROWING.get(node.op_type)
        shape = constants.get(node.input[place]) if place is not None and place < len(node.input) else None
        if shape is not None and shape.data_location != onnx.TensorProto.EXTERNAL:
            _refuse_large(node.name or node.op_type, onnx.numpy_helper.to_array(shape).ravel().tolist())


def _refuse_large(name: str, extents: Iterable[int]) -> None:
    if math.prod(max(1, int(extent)) for extent in extents) > LARGEST:
        raise MalformedError(f"{name} would have more than {LARGEST} elements")
