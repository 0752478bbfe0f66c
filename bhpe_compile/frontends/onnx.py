"""The ONNX door: any convolutional network with fixed sizes, as the third stage of a compilation takes it.

    op sets 7 .. 24      brought to 18 where `onnx.version_converter` can, else as they are
    weights              in the file, or beside it, in its own folder only
    float16              computed in float32
    sizes                fixed, or said (`--shape NAME=1,3,256,192`); a batch that is not said is 1
    names                of inputs and outputs: what the C interface and files can be called; the file's own are kept
    layers               every node with stored weights is a layer; its name is the node's, or its weight's

Nothing in a file is executed, and no operator of another domain is known. What is refused is named, with its node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper as external
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.frontends.functions import write_out
from bhpe_compile.frontends.halves import widen
from bhpe_compile.frontends.onnx_sizes import first_line, fix_sizes, inputs_of
from bhpe_compile.passes.base import Note
from bhpe_compile.reading import open_regular

OLDEST, NEWEST = 7, 24
"""Op sets that are read."""

OPSET = 18
"""The op set that a file is brought to."""

DOMAINS = ("", "ai.onnx")
"""What the standard's operators are called to be of."""

REFUSED: dict[str, str] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "recurrent layers have no kernel"),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "control flow cannot be laid out before a run"),
    **dict.fromkeys(
        ("NonMaxSuppression", "Unique", "NonZero", "Compress"),
        "how much it returns depends on its input; leave it out of the file and do it behind the network",
    ),
    "TopK": "sorting has no kernel; leave it out of the file and do it behind the network",
    **dict.fromkeys(
        (
            "RandomNormal",
            "RandomUniform",
            "RandomNormalLike",
            "RandomUniformLike",
            "Multinomial",
            "Bernoulli",
        ),
        "it draws at random, and the same input must give the same output",
    ),
    **dict.fromkeys(
        ("StringNormalizer", "TfIdfVectorizer", "RegexFullMatch", "StringConcat"), "text has no kernel"
    ),
    **dict.fromkeys(
        (
            "SequenceConstruct",
            "SequenceAt",
            "SequenceEmpty",
            "SequenceInsert",
            "SequenceErase",
            "SequenceLength",
        ),
        "sequences have no place in memory that is laid out before a run",
    ),
    **dict.fromkeys(
        ("SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement"), "it is no tensor"
    ),
}
"""Operators that no network of this field needs, and why each is refused."""


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX file in memory.

    proto     as in the file, with fixed sizes and all weights: what ONNX Runtime runs for reference
    model     the same with clean names, brought to `OPSET` where that is possible
    names     of inputs and outputs: the clean name -> the file's own
    metadata  key -> value, as the file has it
    """

    source: str
    proto: ModelProto
    model: ModelProto
    names: Mapping[str, str]
    metadata: Mapping[str, str]
    opset: int
    notes: tuple[Note, ...] = ()
    initial: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """Inputs by clean name: shape and NumPy dtype."""


def load_onnx(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> OnnxNetwork:
    """Read an ONNX file. shapes: of inputs, by the names in the file.

    UsageError for a name in `shapes` that is no input, a shape that does not fit it, and for sizes that are not said;
    InputError for a damaged file, an op set or an operator that is not supported, weights outside the file's folder.
    """
    proto = _read(path)
    opset = _opset(path, proto)
    _refuse(path, proto)
    _load_external(path, proto)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        if "2GB" not in str(error) and "2GiB" not in str(error):
            raise InputError(f"{path}: damaged: {first_line(error)}") from None
    halves = [Note("onnx", "", True, "float16 became float32, which holds all of it")] if widen(proto) else []
    notes = halves + fix_sizes(path, proto, shapes or {})
    model, converted = _at_opset(proto, opset)
    notes += converted
    model, written_out = write_out(model)
    notes += [Note("onnx", "", True, f"{kind} is written out as the standard says") for kind in written_out]
    names = _clean_names(model.graph)
    initial = {}
    for value in inputs_of(model.graph):
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        initial[value.name] = (
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
            str(np.dtype(kind)),
        )
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return OnnxNetwork(str(path), proto, model, names, metadata, opset, tuple(notes), initial)


def _read(path: Path) -> ModelProto:
    try:
        with open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    proto = ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's own kind, which its versions have in other places
        raise InputError(f"{path}: damaged: no ONNX model; copy or download it again") from error
    if not proto.graph.node and not proto.graph.output:
        raise InputError(f"{path}: holds no graph")
    return proto


def _opset(path: Path, proto: ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    version = int(versions.get("", versions.get("ai.onnx", 1)))
    if not OLDEST <= version <= NEWEST:
        raise InputError(
            f"{path}: op set {version} is not read, {OLDEST} to {NEWEST} are; export the model with op set {OPSET}"
        )
    return version


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, those of inner graphs included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
            for one in inner:
                yield from _nodes(one)


def describe_node(node: NodeProto) -> str:
    """How an error names a node: its operator, and its name or else its first output."""
    return f"{node.op_type} ({node.name or next(iter(node.output), 'without a name')})"


def _refuse(path: Path, proto: ModelProto) -> None:
    brought = {(function.domain, function.name) for function in proto.functions}
    for node in _nodes(proto.graph):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in brought:
            raise InputError(f"{path}: node {describe_node(node)}: operators of {node.domain} have no kernel")
        if node.op_type in REFUSED and node.domain in DOMAINS:
            raise InputError(f"{path}: node {describe_node(node)}: {REFUSED[node.op_type]}")
        if node.op_type == "Resize" and any(one.name == "antialias" and one.i for one in node.attribute):
            raise InputError(
                f"{path}: node {describe_node(node)}: smoothing while it scales down has no kernel"
            )
        if node.op_type == "RoiAlign" and any(
            one.name == "mode" and one.s == b"max" for one in node.attribute
        ):
            raise InputError(f"{path}: node {describe_node(node)}: only the mean of its samples is computed")
        if any(one.name == "training_mode" and one.i for one in node.attribute):
            raise InputError(
                f"{path}: node {describe_node(node)}: is in training mode; export the model in eval mode"
            )


# ---- weights beside the file ----------------------------------------------------------------------------------


def _tensors(proto: ModelProto) -> Iterator[TensorProto]:
    yield from external._get_all_tensors(proto)


def _load_external(path: Path, proto: ModelProto) -> None:
    """Read weights that lie beside the file, and only those in its own folder."""
    home = path.resolve().parent
    for tensor in _tensors(proto):
        if not external.uses_external_data(tensor):
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        location = facts.get("location", "")
        place = Path(location)
        target = (home / place).resolve()
        if not location or place.is_absolute() or ".." in place.parts or not target.is_relative_to(home):
            raise InputError(
                f"{path}: the weights {tensor.name!r} lie in {location!r}, which is not in the model's own folder"
            )
        try:
            with open_regular(home / place) as file:
                size = file.seek(0, 2)
                offset = int(facts.get("offset", "0"))
                length = int(facts.get("length", str(size - offset)))
                if offset < 0 or length < 0 or offset + length > size:
                    raise InputError(
                        f"{path}: the weights {tensor.name!r} end behind the {size} bytes of {location}"
                    )
                file.seek(offset)
                tensor.raw_data = file.read(length)
        except ValueError:
            raise InputError(
                f"{path}: damaged: the place of the weights {tensor.name!r} is no number"
            ) from None
        except OSError as error:
            why = error.strerror or error
            raise InputError(
                f"{path}: its weights {location} cannot be read: {why}; copy them beside it"
            ) from None
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


# ---- op set ---------------------------------------------------------------------------------------------------


def _at_opset(proto: ModelProto, version: int) -> tuple[ModelProto, list[Note]]:
    """A copy of the model at `OPSET`; at its own where the converter has no way between them."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    _constants_are_no_inputs(copy.graph)
    if version == OPSET:
        return copy, []
    from onnx import version_converter

    try:
        converted = version_converter.convert_version(copy, OPSET)
    except Exception as error:  # RuntimeError, ConvertError, and whatever C++ throws
        return copy, [
            Note("onnx", "", False, f"op set {version} stays, {OPSET} cannot say it: {first_line(error)}")
        ]
    return converted, [Note("onnx", "", True, f"op set {version} became {OPSET}")]


def _constants_are_no_inputs(graph: GraphProto) -> None:
    """Take constants out of the list of inputs, as files of IR version 3 have them."""
    kept = inputs_of(graph)
    if len(kept) != len(graph.input):
        kept = [type(one).FromString(one.SerializeToString()) for one in kept]
        del graph.input[:]
        graph.input.extend(kept)


# ---- names ----------------------------------------------------------------------------------------------------

UNUSABLE = re.compile(r"[^\w.\-+@ ]")


def clean(name: str) -> str:
    """A name that can be that of a file and of a C program's tensor: gpu_0/data_0 -> gpu_0_data_0."""
    return UNUSABLE.sub("_", name).strip(". ") or "unnamed"


def _clean_names(graph: GraphProto) -> dict[str, str]:
    """Give inputs and outputs clean names, in place; the clean name -> the file's own."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {one.name for one in graph.initializer}
    names: dict[str, str] = {}
    new: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        if value.name in new:
            continue
        wanted = clean(value.name)
        name, count = wanted, 1
        while name in names or (name != value.name and name in taken):
            count += 1
            name = f"{wanted}_{count}"
        new[value.name], names[name] = name, value.name
    if all(old == now for old, now in new.items()):
        return names
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for listed in (node.input, node.output):
            for index, name in enumerate(listed):
                listed[index] = new.get(name, name)
    return names
