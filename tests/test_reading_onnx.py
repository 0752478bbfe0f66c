"""ONNX files: what they declare is what is in them, and no small file makes a large tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bhpe_compile.reading import MalformedError
from bhpe_compile.reading_onnx import parse_onnx, read_onnx

KINDS = [
    value
    for name, value in TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING") and value in helper.get_all_tensor_dtypes()
]


def model(weight: TensorProto | None = None, *more: onnx.NodeProto) -> onnx.ModelProto:
    """y = x + w."""
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32)) if weight is None else weight
    weight.name = "w"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    graph = helper.make_graph([*more, helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return helper.make_model(graph)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(model().SerializeToString())
    assert read_onnx(path) == model()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("raw", [False, True])
def test_every_kind_of_numbers(kind: int, raw: bool) -> None:
    """An odd count, because two 4-bit numbers share a byte."""
    values = np.zeros(3, helper.tensor_dtype_to_np_dtype(kind))
    weight = (
        numpy_helper.from_array(values)
        if raw
        else helper.make_tensor(
            "w", kind, [3], values.astype(np.float32 if values.dtype.kind != "c" else values.dtype)
        )
    )
    assert parse_onnx(model(weight).SerializeToString())
    weight.dims[0] = 2 + 3
    with pytest.raises(MalformedError, match=r"w has \d+ (bytes|numbers), shape \[5\] needs"):
        parse_onnx(model(weight).SerializeToString())


def test_words() -> None:
    weight = helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"])
    assert parse_onnx(model(weight).SerializeToString())
    weight.dims[0] = 1 << 40
    with pytest.raises(MalformedError, match="w has 2 numbers"):
        parse_onnx(model(weight).SerializeToString())


def _declared(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]


def _negative(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [-2, -3]


def _unknown(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 99


def _elsewhere(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    proto.graph.initializer[0].ClearField("raw_data")


def _input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 40


def _attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(
        helper.make_attribute("value", numpy_helper.from_array(np.ones(3, np.float32)))
    )
    proto.graph.node[0].attribute[0].t.dims[:] = [1 << 40]


def _branch(proto: onnx.ModelProto) -> None:
    inner = model().graph
    inner.initializer[0].dims[:] = [1 << 40]
    proto.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))


def _function(proto: onnx.ModelProto) -> None:
    proto.functions.append(helper.make_function("d", "f", ["x"], ["y"], [proto.graph.node[0]], []))
    _attribute(proto)
    proto.functions[0].node[0].CopyFrom(proto.graph.node[0])
    proto.graph.node[0].ClearField("attribute")


def _no_graph(proto: onnx.ModelProto) -> None:
    proto.ClearField("graph")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_declared, "w has 24 bytes, shape"),
        (_negative, "w has shape"),
        (_unknown, "kind 99"),
        (_elsewhere, "in another file, which is not read"),
        (_input, "x would have more than"),
        (_attribute, "has 12 bytes"),
        (_branch, "w has 24 bytes"),
        (_function, "has 12 bytes"),
        (_no_graph, "no graph"),
    ],
)
def test_what_is_refused(damage: Callable[[onnx.ModelProto], None], says: str) -> None:
    proto = model()
    damage(proto)
    with pytest.raises(MalformedError, match=says):
        parse_onnx(proto.SerializeToString())


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Tile"])
@pytest.mark.parametrize("constant", [False, True])
def test_a_few_numbers_do_not_make_a_large_tensor(kind: str, constant: bool) -> None:
    proto = model()
    numbers = numpy_helper.from_array(np.array([1 << 20, 1 << 20], np.int64), "many")
    inputs = ["many"] if kind == "ConstantOfShape" else ["x", "many"]
    proto.graph.node.insert(0, helper.make_node(kind, inputs, ["large"], name="grow"))
    if constant:
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["many"], value=numbers))
    else:
        proto.graph.initializer.append(numbers)
    with pytest.raises(MalformedError, match="grow would have more than"):
        parse_onnx(proto.SerializeToString())


def test_tensors_in_other_files_are_left_to_those_who_ask(tmp_path: Path) -> None:
    proto = model()
    _elsewhere(proto)
    assert parse_onnx(proto.SerializeToString(), external=True) == proto


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x08\x07", b"\xff" * 100])
def test_what_is_no_onnx(content: bytes) -> None:
    with pytest.raises(MalformedError, match="no ONNX"):
        parse_onnx(content)


def test_every_bit_flip_is_read_or_refused() -> None:
    content = model().SerializeToString()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        try:
            parse_onnx(bytes(damaged))
        except MalformedError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either is right)
