"""The ONNX door: what it reads, what it fixes, and what it refuses in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.frontends.onnx import OnnxNetwork, clean, load_onnx
from bhpe_compile.frontends.shapes import parse_shape
from tests.onnx_graphs import Net, landmarks, save


def relu(shape: Any = (1, 3, 4, 4), opset: int = 17, x: str = "x", y: str = "y") -> onnx.ModelProto:
    net = Net()
    net.add("Relu", x, out=y)
    return net.model({x: shape}, [y], opset=opset)


def load(model: onnx.ModelProto, folder: Path, **shapes: tuple[int, ...]) -> OnnxNetwork:
    return load_onnx(save(model, folder / "m.onnx"), shapes)


def test_what_is_told_of_a_file(tmp_path: Path) -> None:
    network = load(landmarks(), tmp_path)
    assert network.initial == {"image": ((1, 3, 32, 24), "float32")}
    assert (network.opset, dict(network.names)) == (17, {"image": "image", "points": "points"})
    assert network.model.opset_import[0].version == 18
    assert [note.reason for note in network.notes] == ["op set 17 became 18"]


@pytest.mark.parametrize("opset", [7, 11, 13, 18, 24])
def test_op_sets(opset: int, tmp_path: Path) -> None:
    assert load(relu(opset=opset), tmp_path).opset == opset


@pytest.mark.parametrize("opset", [6, 25])
def test_other_op_sets_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"op set {opset} is not read, 7 to 24 are; export"):
        load(relu(opset=opset), tmp_path)


def test_an_op_set_without_a_way_back_stays(tmp_path: Path) -> None:
    net = Net()
    net.add("Gelu", "x", out="y")
    network = load(net.model({"x": (1, 4)}, ["y"], opset=20), tmp_path)
    assert network.model.opset_import[0].version == 20
    assert "op set 20 stays" in network.notes[0].reason


# ---- sizes ----------------------------------------------------------------------------------------------------


def test_a_batch_that_is_not_said_is_one(tmp_path: Path) -> None:
    network = load(relu(("N", 3, 8, 8)), tmp_path)
    assert network.initial["x"][0] == (1, 3, 8, 8)
    assert network.notes[0].reason == "its batch is not said: it is 1"


def test_open_sizes_ask_for_shape(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x is open \(\[N, 3, H, W\]\); say it: --shape x=1,3,H,W$"):
        load(relu(("N", 3, "H", "W")), tmp_path)
    network = load(relu(("N", 3, "H", "W")), tmp_path, x=(1, 3, 5, 7))
    (output,) = network.model.graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [1, 3, 5, 7]


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it is \[1, 3, 4, 4\]; only what is open"):
        load(relu(), tmp_path, x=(1, 3, 4, 5))
    with pytest.raises(UsageError, match="has no such input; did you mean image"):
        load(landmarks(), tmp_path, imag=(1, 3, 32, 24))


@pytest.mark.parametrize("text", ["x", "x=", "=1,2", "x=1,0", "x=1,a", "x=1,99999999"])
def test_shapes_are_checked_as_words(text: str) -> None:
    with pytest.raises(UsageError, match="say NAME=1,3,256,192"):
        parse_shape(text)
    assert parse_shape("a=b=1,3,8,8") == ("a=b", (1, 3, 8, 8))


# ---- names ----------------------------------------------------------------------------------------------------


def test_names_that_files_cannot_have_are_cleaned(tmp_path: Path) -> None:
    network = load(relu(x="gpu_0/data_0", y="../y"), tmp_path)
    assert dict(network.names) == {"gpu_0_data_0": "gpu_0/data_0", "_y": "../y"}
    assert [value.name for value in network.model.graph.input] == ["gpu_0_data_0"]
    assert network.proto.graph.input[0].name == "gpu_0/data_0"


def test_names_that_become_alike_stay_apart(tmp_path: Path) -> None:
    net = Net()
    net.add("Add", "a/b", "a_b", out="a:b")
    network = load(net.model({"a/b": (1, 2), "a_b": (1, 2)}, ["a:b"]), tmp_path)
    assert sorted(network.names.values()) == ["a/b", "a:b", "a_b"]
    assert len(set(network.names)) == 3
    onnx.checker.check_model(network.model)


def test_a_name_of_nothing_usable() -> None:
    assert clean("..") == "unnamed"


# ---- weights beside the file ----------------------------------------------------------------------------------


def external(folder: Path, location: str, **facts: int) -> Path:
    model = landmarks()
    for tensor in model.graph.initializer:
        if tensor.name == "stem.weight":
            content = tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location, "length": len(content), **facts}.items():
                tensor.external_data.add(key=key, value=str(value))
            (folder / "weights.data").write_bytes(content)
    return save(model, folder / "m.onnx")


def test_weights_beside_the_file(tmp_path: Path) -> None:
    network = load_onnx(external(tmp_path, "weights.data"))
    (weight,) = (t for t in network.model.graph.initializer if t.name == "stem.weight")
    (expected,) = (t for t in landmarks().graph.initializer if t.name == "stem.weight")
    assert weight.raw_data == expected.raw_data


@pytest.mark.parametrize("location", ["/etc/hostname", "../weights.data", "a/../../weights.data", ""])
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = external(tmp_path / "inner", location)
    (tmp_path / "weights.data").write_bytes((tmp_path / "inner" / "weights.data").read_bytes())
    with pytest.raises(InputError, match="which is not in the model's own folder"):
        load_onnx(path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = external(tmp_path / "inner", "link.data")
    (tmp_path / "inner" / "weights.data").rename(tmp_path / "weights.data")
    (tmp_path / "inner" / "link.data").symlink_to(tmp_path / "weights.data")
    with pytest.raises(InputError, match="not in the model's own folder"):
        load_onnx(path)


def test_weights_that_are_missing_or_too_short(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.data cannot be read: No such file"):
        load_onnx(external(tmp_path, "gone.data"))
    with pytest.raises(InputError, match="end behind the 1728 bytes"):
        load_onnx(external(tmp_path, "weights.data", offset=8))


# ---- refusals -------------------------------------------------------------------------------------------------


def test_operators_that_are_refused_name_the_node(tmp_path: Path) -> None:
    net = Net()
    k = net.constant(np.array([2], np.int64))
    net.nodes.append(helper.make_node("TopK", ["x", k], ["y", "i"], "best"))
    with pytest.raises(InputError, match=r"node TopK \(best\): sorting has no kernel"):
        load(net.model({"x": (1, 4)}, ["y"]), tmp_path)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("z", 1, [1])
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [], [info])
    net = Net()
    net.add("If", "c", name="which", out="y", then_branch=branch, else_branch=branch)
    model = net.model({"x": (1,), "c": ()}, ["y"], kinds={"c": TensorProto.BOOL})
    with pytest.raises(InputError, match=r"node If \(which\): control flow"):
        load(model, tmp_path)


def test_training_mode_is_refused(tmp_path: Path) -> None:
    net = Net()
    parameters = [net.constant(np.ones(3, np.float32)) for _ in range(4)]
    net.nodes.append(helper.make_node("BatchNormalization", ["x", *parameters], ["y"], "bn", training_mode=1))
    with pytest.raises(InputError, match=r"BatchNormalization \(bn\): is in training mode"):
        load(net.model({"x": (1, 3, 2, 2)}, ["y"]), tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    content = landmarks().SerializeToString()
    for bad in (content[: len(content) // 2], b"\x08\x08" + b"\xff" * 30):
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"m\.onnx: (damaged|holds no graph)") as caught:
            load_onnx(path)
        assert "\n" not in str(caught.value)
    net = Net()
    net.add("Relu", "nowhere", out="y")
    with pytest.raises(InputError, match="damaged"):
        load(net.model({"x": (1, 2)}, ["y"]), tmp_path)


def test_operators_of_the_standard_are_written_out(tmp_path: Path) -> None:
    net = Net()
    net.add("Celu", "x", out="y", alpha=2.0)
    network = load(net.model({"x": (1, 4)}, ["y"]), tmp_path)
    assert "Celu" not in {node.op_type for node in network.model.graph.node}
    assert "Celu is written out as the standard says" in [note.reason for note in network.notes]


def test_float16_becomes_float32(tmp_path: Path) -> None:
    """Weights, inputs, outputs, constants and casts; the numbers are the same."""
    net = Net()
    x = net.add("Cast", "x", to=TensorProto.FLOAT16)
    half = numpy_helper.from_array(np.array([1.5, -2], np.float16))
    x = net.add("Mul", x, net.add("Constant", value=half))
    net.add("Add", x, net.constant(np.array([0.1, 3], np.float16), "shift"), out="y")
    network = load(net.model({"x": (1, 2)}, ["y"], kinds={"y": TensorProto.FLOAT16}), tmp_path)
    assert next(note.reason for note in network.notes) == "float16 became float32, which holds all of it"
    (y,) = run_model(network.model.SerializeToString(), {"x": np.array([[2, 4]], np.float32)}).values()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[np.float32(3) + np.float32(np.float16(0.1)), -5]])
