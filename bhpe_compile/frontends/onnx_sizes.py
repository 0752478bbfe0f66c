"""Sizes of an ONNX file: those that are said are written into it, and nothing stays open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, helper, numpy_helper

from bhpe_compile.errors import InputError, UsageError, near
from bhpe_compile.passes.base import Note


def inputs_of(graph: GraphProto) -> list[Any]:
    """The inputs that are no constants; old files list those as well."""
    constants = {one.name for one in graph.initializer}
    return [one for one in graph.input if one.name not in constants]


def fix_sizes(path: Path, proto: ModelProto, shapes: Mapping[str, Sequence[int]]) -> list[Note]:
    """Write the shapes that are said into the graph; a batch that is not is 1."""
    inputs = {one.name: one for one in inputs_of(proto.graph)}
    notes: list[Note] = []
    changed = False
    for name in shapes:
        if name not in inputs:
            hint = near(name, inputs, f"there are {', '.join(inputs)}")
            raise UsageError(f"--shape {name}: {path} has no such input; {hint}")
    for name, value in inputs.items():
        if value.type.WhichOneof("value") != "tensor_type" or not value.type.tensor_type.elem_type:
            raise InputError(f"{path}: input {name} is no tensor; only tensors have a place in memory")
        dims = value.type.tensor_type.shape.dim
        known = value.type.tensor_type.HasField("shape")
        said = shapes.get(name)
        if said is not None:
            fits = not known or (
                len(said) == len(dims)
                and all(not d.dim_value or d.dim_value == s for d, s in zip(dims, said, strict=True))
            )
            if not fits:
                raise UsageError(
                    f"--shape {name}={_shape_text(said)}: in {path} it is {_described(dims)}; "
                    "only what is open there can be said"
                )
            del value.type.tensor_type.shape.dim[:]
            for extent in said:
                value.type.tensor_type.shape.dim.add().dim_value = extent
            value.type.tensor_type.shape.SetInParent()
            changed = True
            continue
        open_dims = [index for index, dim in enumerate(dims) if dim.dim_value <= 0]
        if known and open_dims == [0] and len(dims) > 1:
            dims[0].dim_value = 1
            changed = True
            notes.append(Note("onnx", name, True, "its batch is not said: it is 1"))
        elif not known or open_dims:
            letters = _letters(len(dims))
            like = [str(dim.dim_value or letter) for dim, letter in zip(dims, letters, strict=True)]
            like = like or list("13HW")
            raise UsageError(
                f"{path}: the size of input {name} is open ({_described(dims) if known else 'nothing is said'}); "
                f"say it: --shape {name}={','.join(like)}"
            )
    if not changed and all(_is_fixed(value) for value in proto.graph.output):
        return notes
    # what the file says of other values was derived from open sizes
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:
        raise InputError(f"{path}: its shapes contradict each other: {first_line(error)}") from None
    for value, found in zip(proto.graph.output, inferred.graph.output, strict=True):
        value.CopyFrom(found)
    return notes


def _is_fixed(value: Any) -> bool:
    """Whether the size of a value is said, and nothing in it is open."""
    tensor = value.type.tensor_type
    return bool(tensor.HasField("shape")) and all(dim.dim_value > 0 for dim in tensor.shape.dim)


def _letters(rank: int) -> list[str]:
    """What open extents are called, in the order of axes: the batch is 1, the last two are the picture's."""
    return ["1", *(f"D{i}" for i in range(1, rank - 2)), "H", "W"] if rank > 2 else ["1", "N"][:rank]


def _shape_text(shape: Iterable[int]) -> str:
    return ",".join(map(str, shape))


def _described(dims: Iterable[Any]) -> str:
    return "[" + ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims) + "]"


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def with_output_shapes(source: str, model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> ModelProto:
    """The model with outputs reshaped to `shapes`, by name; itself where they have them. InputError where an output has
    another number of elements."""
    graph = model.graph
    wanted = []
    for value in graph.output:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        shape = list(shapes.get(value.name, dims))
        if shape == dims or not _is_fixed(value):
            continue
        if math.prod(shape) != math.prod(dims):
            raise InputError(f"{source}: output {value.name} is {dims}, which cannot be seen as {shape}")
        wanted.append((value.name, shape))
    if not wanted:
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    for name, shape in wanted:
        inner, target = f"{name}.before", f"{name}.shape"
        for node in changed.graph.node:
            for listed in (node.input, node.output):
                for index, one in enumerate(listed):
                    if one == name:
                        listed[index] = inner
        changed.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), target))
        changed.graph.node.append(helper.make_node("Reshape", [inner, target], [name], f"{name}.view"))
        for value in changed.graph.output:
            if value.name == name:
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(name, kind, shape))
    return changed
