"""Small graphs to fold, built by hand with shapes everywhere, and running them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from bhpe_compile.exchange.functions import attach_bodies
from bhpe_compile.exchange.nodes import array_of, constant, set_layer

Array = NDArray[Any]


class Builder:
    """Grows one graph; every operation returns its output value."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": 18, "bhpe": 1}, name="small")

    def normal(self, *shape: int, std: float = 1.0) -> NDArray[np.float32]:
        return (std * self.rng.standard_normal(shape)).astype(np.float32)

    def input(self, name: str, shape: Sequence[int]) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        self.graph.inputs.append(value)
        return value

    def constant(self, name: str, array: Array) -> ir.Value:
        return constant(self.graph, name, array)

    def add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        shape: Sequence[int],
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        out = ir.Value(name=f"{name}.y", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))
        facts = ir.convenience.convert_attributes(attributes)
        self.graph.append(ir.Node(domain, op, list(inputs), facts, outputs=[out], name=name))
        return out

    def layer(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        shape: Sequence[int],
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """As `add`, of a node that computes the layer `name`."""
        value = self.add(op, inputs, name, shape, domain, **attributes)
        set_layer(self.graph[-1], name)
        return value

    def binary(
        self,
        kind: str,
        x: ir.Value,
        name: str,
        out: int,
        *,
        threshold: Array | None = None,
        scale: Array | None = None,
        bias: Array | None = None,
        kernel: int = 3,
    ) -> ir.Value:
        """A float-weight binary node of `kind`: convolutions keep the size, transposed ones double it."""
        n, channels, *size = (int(d) for d in x.shape or ())  # type: ignore[arg-type]
        attributes: dict[str, Any] = {}
        weight_shape: tuple[int, ...] = (out, channels)
        if kind == "BinaryConv2d":
            weight_shape = (out, channels, kernel, kernel)
            attributes = {"strides": [1, 1], "pads": [kernel // 2] * 4}
        if kind == "BinaryConvTranspose2d":
            weight_shape = (channels, out, 4, 4)
            attributes = {"strides": [2, 2], "pads": [1] * 4}
            size = [2 * s for s in size]
        arrays = {
            "threshold": self.normal(channels, std=0.2) if threshold is None else threshold,
            "weight": self.normal(*weight_shape),
            "scale": self.normal(out, std=0.1) if scale is None else scale,
            "bias": self.normal(out) if bias is None else bias,
        }
        inputs = [x, *(self.constant(f"{name}.{role}", array) for role, array in arrays.items())]
        return self.layer(kind, inputs, name, (n, out, *size), "bhpe", **attributes)

    def dense(
        self, x: ir.Value, name: str, out: int, *, transposed: bool = False, bias: bool = False
    ) -> ir.Value:
        """Conv 3x3 of the same size, or ConvTranspose 4x4 that doubles it; weights hold float16 numbers."""
        n, channels, *size = (int(d) for d in x.shape or ())  # type: ignore[arg-type]
        kernel = 4 if transposed else 3
        shape = (channels, out, kernel, kernel) if transposed else (out, channels, kernel, kernel)
        weight = self.normal(*shape, std=0.2).astype(np.float16).astype(np.float32)
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias:
            inputs.append(self.constant(f"{name}.bias", self.normal(out)))
        if transposed:
            doubled = (n, out, *(2 * s for s in size))
            return self.layer("ConvTranspose", inputs, name, doubled, strides=[2, 2], pads=[1] * 4)
        return self.layer("Conv", inputs, name, (n, out, *size), pads=[1] * 4)

    def batch_norm(self, x: ir.Value, name: str, epsilon: float = 1e-5) -> ir.Value:
        """A batch norm with factors of both signs."""
        shape = [int(d) for d in x.shape or ()]  # type: ignore[arg-type]
        c = shape[1]
        arrays = {
            "gamma": self.normal(c),
            "beta": self.normal(c),
            "mean": self.normal(c),
            "var": self.rng.uniform(0.5, 2, c).astype(np.float32),
        }
        inputs = [x, *(self.constant(f"{name}.{role}", array) for role, array in arrays.items())]
        return self.add("BatchNormalization", inputs, name, shape, epsilon=epsilon)

    def rprelu(self, x: ir.Value, name: str, beta: Array | None = None) -> ir.Value:
        shape = [int(d) for d in x.shape or ()]  # type: ignore[arg-type]
        column = (shape[1], *[1] * (len(shape) - 2))
        slope = np.abs(self.normal(*column, std=0.3)) if beta is None else beta.reshape(column)
        arrays = {
            "gamma": self.normal(*column, std=0.3),
            "beta": slope,
            "zeta": self.normal(*column, std=0.3),
        }
        inputs = [x, *(self.constant(f"{name}.{role}", array) for role, array in arrays.items())]
        return self.add("RPReLU", inputs, name, shape, "bhpe")

    def clip(self, x: ir.Value, name: str, low: float = -1, high: float = 1) -> ir.Value:
        bounds = [
            self.constant(f"{name}.{k}", np.array(v, np.float32)) for k, v in (("low", low), ("high", high))
        ]
        return self.add("Clip", [x, *bounds], name, [int(d) for d in x.shape or ()])  # type: ignore[arg-type]

    def build(self, *outputs: ir.Value) -> ir.Model:
        self.graph.outputs.extend(outputs)
        model = ir.Model(self.graph, ir_version=10)
        attach_bodies(model)
        return model


def run(model: ir.Model, *inputs: Array) -> list[Array]:
    """The outputs ONNX Runtime computes. Runs on what a file would hold."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    feeds = dict(zip([i.name for i in session.get_inputs()], inputs, strict=True))
    return list(session.run(None, feeds))


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def node_named(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == name)


def array(value: ir.Value | None) -> Array:
    found = array_of(value)
    if found is None:
        raise AssertionError(f"{value} is not constant")
    return found


def text(model: ir.Model) -> bytes:
    """The model as bytes: equal graphs, equal bytes."""
    return ir.to_proto(model).SerializeToString(deterministic=True)  # type: ignore[no-any-return]
