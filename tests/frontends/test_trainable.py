"""ONNX files as networks that train: what torch computes of them, what they carry, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import nn

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.load import load_network
from bhpe_compile.frontends.trainable import load_trainable
from bhpe_compile.networks.structure import Structure
from tests.onnx_graphs import Net, landmarks, mobile, residual_network, save


def many() -> ModelProto:
    """Forms that others have not: unequal steps, joined and cut channels, resizing, attention, norms, pools."""
    net = Net(7)
    x = net.add("LeakyRelu", net.conv("image", 3, 8, strides=[2, 2], auto_pad="SAME_UPPER", name="a/b.0"))
    numbers = [net.constant(np.abs(net.normal(8)) + 0.5) for _ in range(4)]
    x = net.add("BatchNormalization", net.conv(x, 8, 8, pads=[1] * 4, name="a/b"), *numbers)
    first, second = "first", "second"
    sizes = net.constant(np.array([4, 4], np.int64))
    net.nodes.append(helper.make_node("Split", [x, sizes], [first, second], "cut", axis=1))
    y = net.add("Elu", first)
    z = net.add("AveragePool", second, kernel_shape=[2, 2], strides=[2, 2])
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    z = net.add("Resize", z, "", scales, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    x = net.add("Concat", y, z, axis=1)
    x = net.add("HardSigmoid", x, alpha=0.2, beta=0.4)
    whole = [net.constant(np.array(values, np.int64)) for values in ([0], [12], [2], [2])]
    x = net.add("Slice", x, *whole)
    rows = net.add("Reshape", x, net.constant(np.array([1, 8, -1], np.int64)))
    rows = net.add("Transpose", rows, perm=[0, 2, 1])
    length = net.add("ReduceL2", rows, axes=[-1])
    rows = net.add("Div", rows, net.add("Clip", length, net.constant(np.array(1e-5, np.float32))))
    keys = net.add("MatMul", rows, net.constant(net.normal(8, 8, std=0.5), "keys.weight"))
    scores = net.add("Softmax", net.add("MatMul", rows, net.add("Transpose", keys, perm=[0, 2, 1])), axis=-1)
    rows = net.add("MatMul", scores, keys)
    rows = net.add("Pow", rows, net.constant(np.array(2, np.float32)))
    rows = net.add("ReduceSum", rows, net.constant(np.array([1], np.int64)), keepdims=0)
    rows = net.add("Sqrt", net.add("Add", rows, net.constant(np.array(1, np.float32))))
    net.add("Gather", rows, net.constant(np.array([3, 0, 5], np.int64)), axis=1, out="chosen")
    return net.model({"image": (1, 3, 24, 16)}, ["chosen"])


@pytest.mark.parametrize("made", [landmarks, mobile, residual_network, many])
def test_torch_computes_what_onnx_runtime_does(made: object, tmp_path: Path) -> None:
    """Alone and in a batch: every picture is computed by itself."""
    model: ModelProto = made()  # type: ignore[operator]
    loaded = load_trainable(save(model, tmp_path / "net.onnx"))
    (port,) = loaded.interface.inputs
    pictures = np.random.default_rng(3).random((3, *port.shape[1:]), np.float32)
    with torch.no_grad():
        found = loaded.model(torch.from_numpy(pictures))
    content = model.SerializeToString()
    for index in range(3):
        for name, right in run_model(content, {port.name: pictures[index : index + 1]}).items():
            close = np.abs(found[name][index].numpy() - right[0]).max()
            assert close <= 1e-4 * np.abs(right).max(), name


def test_every_inner_convolution_has_a_norm(tmp_path: Path) -> None:
    """Not those that compute an output or one pixel; a norm of the file's own is enough."""
    loaded = load_trainable(save(mobile(), tmp_path / "net.onnx"))
    structure = Structure.from_json(loaded.network.carried["structure"], "")
    normed = {step.inputs[0] for step in structure.steps if step.kind == "batch_norm"}
    without = {step.path for step in structure.steps if step.kind == "conv" and step.output not in normed}
    assert without == {"last", "squeeze"}
    own = load_trainable(save(many(), tmp_path / "many.onnx"))
    assert sum(isinstance(one, nn.BatchNorm2d) for one in own.model.modules()) == 2
    assert {"a.b.0", "a_b"} == {
        path for path, one in own.model.named_modules() if isinstance(one, nn.Conv2d)
    }  # a layer does not stand inside of another


def test_weights_that_are_used_twice_are_one_layer(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Relu", net.conv("image", 3, 8, pads=[1] * 4, name="stem"))
    shared = [net.constant(net.normal(8, 8, 3, 3, std=0.1), "shared"), net.constant(net.normal(8))]
    for _ in range(2):
        x = net.add("Relu", net.add("Conv", x, *shared, pads=[1] * 4))
    net.add("ReduceMean", x, axes=[2, 3], out="mean")
    loaded = load_trainable(save(net.model({"image": (1, 3, 8, 8)}, ["mean"]), tmp_path / "net.onnx"))
    assert sum(isinstance(one, nn.Conv2d) for one in loaded.model.modules()) == 2


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_carries_structure_and_description(suffix: str, tmp_path: Path) -> None:
    """Read without the file, it is the same network, bit for bit."""
    description = tmp_path / "net.toml"
    description.write_text(
        '[inputs.image]\nkind = "picture"\ncrop = {}\n[outputs.points]\nkind = "coefficients"\n'
    )
    loaded = load_trainable(save(landmarks(), tmp_path / "net.onnx"), str(description))
    path = tmp_path / f"net{suffix}"
    save_model(path, loaded.model, loaded.spec, carried=loaded.network.carried)
    again = load_model(path)
    assert again.interface == loaded.interface
    assert again.spec == "onnx:net"
    x = torch.rand(2, 3, 32, 24)
    with torch.no_grad():
        assert torch.equal(again.model(x)["points"], loaded.model(x)["points"])


def _saved(tmp_path: Path, change: object) -> Path:
    loaded = load_trainable(save(landmarks(), tmp_path / "net.onnx"))
    carried = dict(loaded.network.carried)
    change(carried)  # type: ignore[operator]
    save_model(tmp_path / "net.pt", loaded.model, loaded.spec, carried=carried)
    return tmp_path / "net.pt"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"kind":"prelu"', '"kind":"system"', "no kind that is known"),
        ('"path":"stem"', '"path":"forward"', "no name for a layer"),
        ('"path":"stem"', '"path":"class"', "no name for a layer"),
        ('"path":"stem"', '"path":"x(1)"', "no path of a layer"),
        ('"path":"stem"', '"path":"gone"', "gone.weight"),
        ('"groups":16', '"groups":"many"', "no whole number"),
        ('"steps":[', '"step":[', "structure"),
    ],
)
def test_damaged_structures_are_named(old: str, new: str, says: str, tmp_path: Path) -> None:
    def change(carried: dict[str, object]) -> None:
        text = str(carried["structure"])
        assert old in text
        carried["structure"] = text.replace(old, new)

    with pytest.raises(InputError, match=r"damaged|checkpoint of this network") as error:
        load_model(_saved(tmp_path, change))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged: the description"):
        load_model(_saved(tmp_path, lambda carried: carried.update(interface={"inputs": 3})))


def _moves(net: Net) -> None:
    net.add("Transpose", net.conv("image", 3, 8, name="stem"), perm=[1, 0, 2, 3], name="turn", out="y")


def _counts(net: Net) -> None:
    net.add("ArgMax", net.conv("image", 3, 8, name="stem"), axis=1, name="best", out="y")


def _rounds(net: Net) -> None:
    step, zero = net.constant(np.array(0.1, np.float32)), net.constant(np.array(0, np.uint8))
    levels = net.add("QuantizeLinear", "image", step, zero, name="levels")
    net.add("DequantizeLinear", levels, step, zero, out="y")


def _sums(net: Net) -> None:
    net.add("CumSum", "image", net.constant(np.array(1, np.int64)), name="sum", out="y")


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (_moves, r"node Transpose \(turn\): moves the first axis"),
        (_counts, r"node ArgMax \(best\) has no form here that has a gradient"),
        (_rounds, r"node QuantizeLinear \(levels\) rounds to levels of its own"),
        (_sums, r"node CumSum \(sum\) has no form here that has a gradient"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_node(build: object, says: str, tmp_path: Path) -> None:
    net = Net()
    build(net)  # type: ignore[operator]
    kinds = {"y": TensorProto.INT64} if build is _counts else {}
    model = net.model({"image": (1, 3, 8, 8)}, ["y"], kinds=kinds)
    with pytest.raises(InputError, match=rf"net\.onnx: cannot be trained: {says}"):
        load_trainable(save(model, tmp_path / "net.onnx"))


def test_inputs_without_a_batch_are_refused(tmp_path: Path) -> None:
    net = Net()
    net.add("Relu", "rows", out="y")
    with pytest.raises(InputError, match=r"input rows is float32 \[4, 3\]"):
        load_trainable(save(net.model({"rows": (4, 3)}, ["y"]), tmp_path / "net.onnx"))


def test_the_content_tells_which_door(tmp_path: Path) -> None:
    loaded: Imported = load_network(save(landmarks(), tmp_path / "net.bin"))
    assert loaded.layout == "onnx"
    save_model(tmp_path / "net.pt", loaded.model, loaded.spec, carried=loaded.network.carried)
    with pytest.raises(UsageError, match="--shape is for ONNX files"):
        load_network(tmp_path / "net.pt", shapes={"image": (1, 3, 32, 24)})
