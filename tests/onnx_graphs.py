"""Small ONNX files, written by `onnx.helper`, for the tests of the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


class Net:
    """Collects nodes and constants; every `add` returns the name of the output."""

    def __init__(self, seed: int = 0) -> None:
        self.drawn = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, array: NDArray[Any], name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def normal(self, *shape: int, std: float = 1.0) -> NDArray[np.float32]:
        return (std * self.drawn.standard_normal(shape)).astype(np.float32)

    def add(self, kind: str, *inputs: str, name: str = "", out: str = "", **attributes: Any) -> str:
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name, **attributes))
        return out

    def conv(self, x: str, inner: int, outer: int, kernel: int = 3, *, group: int = 1, **facts: Any) -> str:
        size = inner // group
        weight = self.normal(outer, size, kernel, kernel, std=(size * kernel * kernel) ** -0.5)
        name = facts.pop("name", f"conv{len(self.nodes)}")
        inputs = [
            x,
            self.constant(weight, f"{name}.weight"),
            self.constant(self.normal(outer), f"{name}.bias"),
        ]
        return self.add("Conv", *inputs, name=name, group=group, **facts)

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Sequence[str],
        *,
        opset: int = 17,
        kinds: Mapping[str, int] | None = None,
    ) -> ModelProto:
        """Inputs are float32 unless `kinds` says otherwise; what outputs are is inferred."""
        kinds = kinds or {}
        values = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ]
        results = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs
        ]
        graph = helper.make_graph(self.nodes, "net", values, results, self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def landmarks(seed: int = 0) -> ModelProto:
    """Like networks of face and hand landmarks: one-sided padding, depthwise layers, PReLU, a residual, pools."""
    net = Net(seed)
    x = net.conv("image", 3, 16, strides=[2, 2], pads=[0, 0, 1, 1], name="stem")
    x = net.add("PRelu", x, net.constant(np.abs(net.normal(16, 1, 1)) / 4))
    y = net.conv(x, 16, 16, group=16, pads=[1] * 4, name="deep")
    y = net.conv(y, 16, 16, 1, name="point")
    x = net.add("Add", x, y)
    x = net.add("Clip", x, net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32)))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv(x, 16, 24, 5, group=8, pads=[2] * 4, name="groups")
    x = net.add("HardSwish", x)
    x = net.add("GlobalAveragePool", x)
    x = net.add("Flatten", x)
    x = net.add("MatMul", x, net.constant(net.normal(24, 10, std=0.2), "head.weight"))
    net.add("Add", x, net.constant(net.normal(10)), out="points")
    return net.model({"image": (1, 3, 32, 24)}, ["points"])


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def mobile(seed: int = 0) -> ModelProto:
    """Like mobile networks: SiLU, HardSwish, Clip, Tanh, factors of channels, a sum, joined maps, depthwise layers."""
    net = Net(seed)

    def silu(x: str) -> str:
        return net.add("Mul", x, net.add("Sigmoid", x))

    def clip(x: str) -> str:
        ends = (net.constant(np.array(end, np.float32)) for end in (0, 6))
        return net.add("Clip", x, *ends)

    x = silu(net.conv("image", 3, 16, strides=[2, 2], pads=[1] * 4, name="stem"))
    y = net.add("HardSwish", net.conv(x, 16, 16, 1, name="in"))
    y = net.add("Relu", net.conv(y, 16, 16, 5, group=16, pads=[2] * 4, name="deep"))
    x = net.add("Add", silu(net.conv(y, 16, 16, 1, name="out")), x)
    y = clip(net.conv(x, 16, 72, 1, name="widen"))
    y = clip(net.conv(y, 72, 72, group=72, strides=[2, 2], pads=[1] * 4, name="spread"))
    factors = net.add("Sigmoid", net.conv(net.add("GlobalAveragePool", y), 72, 72, 1, name="squeeze"))
    y = net.add("Tanh", net.conv(net.add("Mul", y, factors), 72, 24, 1, name="narrow"))
    z = silu(net.conv(y, 24, 24, pads=[1] * 4, name="side"))
    net.conv(net.add("Concat", y, z, axis=1), 48, 8, 1, name="last")
    net.nodes[-1].output[0] = "maps"
    return net.model({"image": (1, 3, 32, 24)}, ["maps"])


def residual_network(seed: int = 0) -> ModelProto:
    """Convolutions of three kinds, a residual, a pool and a linear layer, as quantizers like them."""
    net = Net(seed)
    x = net.add("Relu", net.conv("image", 3, 16, strides=[2, 2], pads=[1] * 4, name="stem"))
    y = net.add("Relu", net.conv(x, 16, 16, group=16, pads=[1] * 4, name="deep"))
    y = net.conv(y, 16, 16, 1, name="point")
    x = net.add("MaxPool", net.add("Add", x, y), kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv(x, 16, 24, pads=[1] * 4, name="last")
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("MatMul", x, net.constant(net.normal(24, 10, std=0.2), "head.weight"), name="head")
    net.add("Add", x, net.constant(net.normal(10)), out="points")
    return net.model({"image": (1, 3, 32, 24)}, ["points"])
