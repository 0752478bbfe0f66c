"""An ONNX file as a network that trains: its graph step by step as plain torch modules, its weights as parameters.

    file -> frontends.onnx -> onnxsim -> the graph's plain forms -> Structure and state -> torch.fx graph

One binarizer and one training loop serve all networks (`passes/binarize`, `distill`): they rewrite and train torch.fx
graphs, so that is what a file becomes. Its student is a checkpoint like any other, which carries its structure as data
(`networks/structure.py`) and its description, and compiles without the file.

Norms. Files usually have the batch norms folded into their convolutions, and a binary convolution needs one behind it:
sums of signs have another scale than the sums they replace. So every convolution gets one, but for those that compute
an output or a single pixel. It computes nothing at first,

    conv(x, w) + b   =   norm(conv(x, w)),   mean 0, variance 1, gain 1, shift b

and `distill/settle.py` gives it the mean and the variance that the convolution's results have on pictures, with the
gain and the shift that make it compute the same again: what folding took away.

A graph that cannot be trained is refused, in a line that names the node: operators without a gradient, quantized files,
and what moves the first axis, along which the pictures of a batch lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.nodes import array_of, integer, integers, layer_of, only_use, shape_of, text
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.frontends.checkpoint import load_state
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.onnx import load_onnx, with_output_shapes
from bhpe_compile.frontends.simplified import simplified
from bhpe_compile.frontends.structured import structured_network
from bhpe_compile.networks.described import describe_ports
from bhpe_compile.networks.structure import CONSTANTS, NETWORK, Setting, Step, Structure
from bhpe_compile.networks.structure_torch import is_usable
from bhpe_compile.passes.base import PassManager
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.imported import FlatWindows, LinearLayers, NameLayers, PlainForms, SpreadLayers
from bhpe_compile.passes.imported.roles import find_roles

SAME, SMALL = 1e-4, 1e-2
"""What torch computes may differ from ONNX Runtime by this part of the largest value, because sums have another order;
of `SMALL` where all values are below it: ONNX Runtime's sigmoid is an approximation."""

EPSILON = 1e-5
"""Of the norms that are put in."""

UNBOUNDED = 1e30
"""From here on a bound bounds nothing."""

SEED = 0
"""Of the inputs on which the two are compared."""

SEPARATORS = re.compile(r"[/.:]+")
UNUSABLE = re.compile(r"\W", re.ASCII)

PER_AXIS = 13
"""The op set from which on a softmax is along one axis, and not along it and all behind it."""

ONE_TO_ONE = {
    **{"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish"},
}
"""Activations that are modules, without settings."""

FUNCTIONS = {
    **{"Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Neg": "neg", "Abs": "abs", "Erf": "erf"},
}
ELEMENTS = {
    **{"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "maximum", "Min": "minimum"},
    "Sum": "add",
}
REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}
SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")


def load_trainable(
    path: Path, description: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Imported:
    """The network of an ONNX file. description: `--network FILE.toml`; shapes: of inputs that the file leaves open.

    Raises as `load_onnx` and `describe_ports`, and InputError for a graph that cannot be trained.
    """
    file = load_onnx(path, shapes)
    outputs = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in file.model.graph.output
    }
    ports = {name: shape for name, (shape, _) in file.initial.items()}
    interface = describe_ports(file.source, ports, outputs, description, file.metadata)
    described = {one.name: one.shape for one in interface.outputs if one.shape}
    proto = with_output_shapes(file.source, file.model, described)
    for name, (shape, dtype) in file.initial.items():
        if dtype != "float32" or shape[:1] != (1,):
            raise InputError(
                f"{path}: cannot be trained: input {name} is {dtype} {list(shape)}, and pictures lie along a first axis "
                "of 1, in float32"
            )
    graph = simplified(proto)[0]
    _refuse_others(path, graph.graph)
    plain = PassManager([PlainForms(), FlatWindows(), LinearLayers(), SpreadLayers(), NameLayers()])
    graph = ExplicitPadding()(plain.run(graph)).graph
    structure, state = _Writer(str(path), graph).written()
    network = structured_network(path.stem, structure, state, interface, str(path))
    model = network.build(path.stem)
    load_state(model, state, str(path))
    _compare(path, model, proto.SerializeToString(), file.initial)
    return Imported(model, network, path.stem, interface, None, state, NETWORK, str(path))


def _refuse_others(path: Path, graph: ir.Graph) -> None:
    """InputError for the first node that has no form here."""
    for node in graph:
        name = f"node {node.op_type} ({node.name or node.outputs[0].name})"
        if node.op_type in QUANTIZED:
            raise InputError(
                f"{path}: cannot be trained: {name} rounds to levels of its own; distill the file that it was "
                "quantized from"
            )
        if node.domain not in ("", "ai.onnx") or node.op_type not in {*EMITTERS, "Tile", "Dropout"}:
            raise InputError(f"{path}: cannot be trained: {name} has no form here that has a gradient")


def _compare(
    path: Path, model: nn.Module, content: bytes, ports: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    """InputError where torch computes something else than ONNX Runtime."""
    drawn = np.random.default_rng(SEED)
    feeds = {name: drawn.random(shape, np.float32) for name, (shape, _) in ports.items()}
    try:
        want = run_model(content, feeds)
    except Exception as error:  # ONNX Runtime has a dozen kinds, not all of them its own
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{path}: ONNX Runtime does not run it: {line.strip()[:300]}") from None
    with torch.no_grad():
        found = model(*(torch.from_numpy(array) for array in feeds.values()))
    wrong = {}
    for name, array in want.items():
        far = float(np.abs(found[name].numpy() - array).max(initial=0))
        far /= max(SMALL, float(np.abs(array).max(initial=0)))
        if not far <= SAME:
            wrong[name] = far
    if wrong:
        told = ", ".join(f"{name} by {far:.1e}" for name, far in wrong.items())
        raise InputError(
            f"{path}: cannot be trained: computed in torch, its outputs differ from ONNX Runtime's: {told} of the "
            "largest value"
        )


class _Writer:
    """Writes the graph of a file as a structure and a state. InputError names the node that has no form."""

    def __init__(self, source: str, model: ir.Model) -> None:
        self.source, self.graph = source, model.graph
        self.opset = model.opset_imports.get("", PER_AXIS)
        self.steps: list[Step] = []
        self.state: dict[str, Tensor] = {}
        self.names: dict[ir.Value, str] = {}
        self.paths: set[str] = set()
        self.layers: dict[tuple[object, ...], str] = {}
        """Paths of layers by what they are made of: one that is called twice is one."""
        self.roles = find_roles(self.graph)

    def written(self) -> tuple[Structure, dict[str, Tensor]]:
        """Structure and state."""
        for value in self.graph.inputs:
            self.names[value] = value.name or ""
        for node in self.graph:
            EMITTERS[node.op_type](self, node)
        outputs = {value.name or "": self.name_of(value, None) for value in self.graph.outputs}
        inputs = tuple(value.name or "" for value in self.graph.inputs)
        return Structure(inputs, outputs, tuple(self.steps)), self.state

    def refusal(self, node: ir.Node, why: str) -> InputError:
        return InputError(f"{self.source}: cannot be trained: node {node.op_type} ({node.name}): {why}")

    # ---- values -----------------------------------------------------------------------------------------------

    def name_of(self, value: ir.Value | None, node: ir.Node | None) -> str:
        """What a value, or a constant, is called in the structure."""
        if value is not None and value in self.names:
            return self.names[value]
        array = array_of(value)
        if value is None or array is None or array.dtype != np.float32:
            kind = "a constant that is no float32" if array is not None else "what is computed of no input"
            name = "" if node is None else f"node {node.op_type} ({node.name}): "
            raise InputError(f"{self.source}: cannot be trained: {name}reads {kind}")
        self.names[value] = self.constant(array)
        return self.names[value]

    def constant(self, array: NDArray[Any]) -> str:
        """A new constant."""
        path = f"{CONSTANTS}.c{len(self.state)}"
        self.state[path] = _tensor(array)
        return path

    def emit(
        self,
        kind: str,
        inputs: Sequence[str],
        value: ir.Value | None = None,
        path: str = "",
        **settings: Setting,
    ) -> str:
        """One step; its result, which is `value` where that is said."""
        output = f"v{len(self.steps)}"
        self.steps.append(Step(kind, tuple(inputs), output, path, settings))
        if value is not None:
            self.names[value] = output
        return output

    def path(self, name: str) -> str:
        """A new path of a module after the name of a node."""
        words = [UNUSABLE.sub("_", word).lstrip("_") for word in SEPARATORS.split(name)]
        words = [word if is_usable(word) else f"{word}_" for word in words if word] or ["layer"]
        if not words[0][0].isalpha():
            words[0] = f"layer_{words[0]}"
        dotted, count = ".".join(words), 1
        if self._clashes(dotted):
            dotted = "_".join(words)
        path = dotted
        while self._clashes(path):
            count += 1
            path = f"{dotted}_{count}"
        self.paths.add(path)
        return path

    def _clashes(self, path: str) -> bool:
        """Whether a module is called so, or stands inside of another then."""
        return path.split(".")[0] == CONSTANTS or any(
            one == path or one.startswith(f"{path}.") or path.startswith(f"{one}.") for one in self.paths
        )

    def module(self, kind: str, node: ir.Node, **settings: Setting) -> str:
        """A step without weights that is a module."""
        x = self.name_of(node.inputs[0], node)
        return self.emit(kind, [x], node.outputs[0], self.path(node.name or kind), **settings)

    def layer(
        self,
        kind: str,
        node: ir.Node,
        x: str,
        weights: Mapping[str, NDArray[Any]],
        value: ir.Value | None,
        **settings: Setting,
    ) -> str:
        """A step that is a module with these weights; the module that has them already, where there is one."""
        key = (kind, *(value for value in node.inputs[1:]), *settings.items())
        if key not in self.layers:
            path = self.path(layer_of(node) or node.name or kind)
            self.layers[key] = path
            for name, array in weights.items():
                self.state[f"{path}.{name}"] = _tensor(array)
        return self.emit(kind, [x], value, self.layers[key], **settings)

    def weight(self, node: ir.Node, index: int) -> NDArray[Any] | None:
        """A stored weight; None where the node has none there."""
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            return None
        array = array_of(value)
        if array is None or array.dtype != np.float32:
            raise self.refusal(node, "its weights are computed, or no float32")
        return array

    def integers(self, node: ir.Node, index: int, attribute: str = "") -> tuple[int, ...] | None:
        """Whole numbers that an input or an attribute says; None where neither does."""
        if attribute in node.attributes:
            return tuple(node.attributes[attribute].as_ints())
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            return None
        array = array_of(value)
        if array is None:
            raise self.refusal(node, "its sizes are computed at run time")
        return tuple(int(one) for one in array.reshape(-1))

    def axis(self, node: ir.Node, axis: int, rank: int) -> int:
        """An axis counted from the front. InputError where it is the first, along which pictures lie."""
        axis %= rank
        if axis == 0:
            raise self.refusal(node, "works along the first axis, along which the pictures of a batch lie")
        return axis


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


# ---- layers -------------------------------------------------------------------------------------------------------


def _padded(w: _Writer, node: ir.Node, x: str, fill: float) -> tuple[str, tuple[int, int]]:
    """x, and what is left to pad on both sides alike."""
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return x, (top, left)
    return w.emit("pad", [x], pads=(left, right, top, bottom), fill=fill), (0, 0)


def _convolution(w: _Writer, node: ir.Node) -> None:
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    if weight is None or weight.ndim != 4:
        raise w.refusal(node, "its windows have three axes")
    transposed = node.op_type == "ConvTranspose"
    x = w.name_of(node.inputs[0], node)
    if transposed:
        top, left, *others = integers(node, "pads", (0, 0, 0, 0))
        if [top, left] != others:
            raise w.refusal(node, "it is padded on one side")
        padding = (top, left)
    else:
        x, padding = _padded(w, node, x, 0.0)
    norm = _wants_norm(w, node)
    settings: dict[str, Setting] = {
        "stride": integers(node, "strides", (1, 1)),
        "padding": padding,
        "dilation": integers(node, "dilations", (1, 1)),
        "groups": integer(node, "group", 1),
    }
    if transposed:
        settings["output_padding"] = integers(node, "output_padding", (0, 0))
    weights = {"weight": weight} | ({} if bias is None or norm else {"bias": bias})
    value = None if norm else node.outputs[0]
    y = w.layer("conv_transpose" if transposed else "conv", node, x, weights, value, **settings)
    if norm:
        channels = shape_of(node.outputs[0])[1]
        path = w.path(f"{w.steps[-1].path}_norm")
        shift = np.zeros(channels, np.float32) if bias is None else bias
        gain = np.full(channels, math.sqrt(1 + EPSILON))
        _norm(w, path, gain, shift, np.zeros(channels), np.ones(channels))
        w.emit("batch_norm", [y], node.outputs[0], path, epsilon=EPSILON)


def _wants_norm(w: _Writer, node: ir.Node) -> bool:
    """Whether a convolution gets a norm: there is none, and the file's may have been folded into it."""
    follower, shape = only_use(node.outputs[0]), shape_of(node.outputs[0])
    if follower is not None and follower.op_type == "BatchNormalization":
        return False
    called = sum(other.inputs[1] is node.inputs[1] for other in w.graph if len(other.inputs) > 1)
    return w.roles.get(layer_of(node) or "") != "output" and shape[2:] != (1, 1) and called == 1


def _norm(w: _Writer, path: str, gain: Any, shift: Any, mean: Any, variance: Any) -> None:
    numbers = {"weight": gain, "bias": shift, "running_mean": mean, "running_var": variance}
    w.state |= {f"{path}.{name}": _tensor(array) for name, array in numbers.items()}
    w.state[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)


def _batch_norm(w: _Writer, node: ir.Node) -> None:
    arrays = [w.weight(node, index) for index in range(1, 5)]
    if len(shape_of(node.inputs[0])) != 4:
        raise w.refusal(node, "it norms something else than maps")
    path = w.path(node.name or "norm")
    _norm(w, path, *arrays)
    x = w.name_of(node.inputs[0], node)
    w.emit("batch_norm", [x], node.outputs[0], path, epsilon=_number(node, "epsilon", 1e-5))


def _gemm(w: _Writer, node: ir.Node) -> None:
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    if weight is None or integer(node, "transA") or not integer(node, "transB"):
        raise w.refusal(node, "its first factor is transposed")
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias.reshape(-1)})
    w.layer("linear", node, w.name_of(node.inputs[0], node), weights, node.outputs[0])


def _layer_norm(w: _Writer, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    w.axis(node, integer(node, "axis", -1), rank)
    weight, bias = w.weight(node, 1), w.weight(node, 2)
    assert weight is not None  # the operator has one
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    x, epsilon = w.name_of(node.inputs[0], node), _number(node, "epsilon", 1e-5)
    w.layer("layer_norm", node, x, weights, node.outputs[0], epsilon=epsilon)


def _prelu(w: _Writer, node: ir.Node) -> None:
    slopes, shape = w.weight(node, 1), shape_of(node.inputs[0])
    assert slopes is not None  # the operator has some
    whole = (1,) * (len(shape) - slopes.ndim) + slopes.shape
    if slopes.size != 1 and whole != (1, shape[1], *[1] * (len(shape) - 2)):
        raise w.refusal(node, "its slopes differ from pixel to pixel")
    x = w.name_of(node.inputs[0], node)
    w.layer("prelu", node, x, {"weight": slopes.reshape(-1)}, node.outputs[0])


# ---- what has no weights ------------------------------------------------------------------------------------------


def _clip(w: _Writer, node: ir.Node) -> None:
    bounds: dict[str, float] = {}
    for index, name in ((1, "min"), (2, "max")):
        array = w.weight(node, index)
        bound = _number(node, name, UNBOUNDED) if array is None else float(array.reshape(()))
        if abs(bound) < UNBOUNDED:
            bounds[name] = bound
    if len(bounds) == 2 and bounds["min"] < bounds["max"]:
        w.module("clip", node, low=bounds["min"], high=bounds["max"])
    elif bounds == {"min": 0.0}:
        w.module("relu", node)
    else:
        w.emit("clamp", [w.name_of(node.inputs[0], node)], node.outputs[0], **bounds)


def _hard_sigmoid(w: _Writer, node: ir.Node) -> None:
    slope, shift = (
        w.constant(np.array(_number(node, name, usual), np.float32))
        for name, usual in (("alpha", 0.2), ("beta", 0.5))
    )
    y = w.emit("add", [w.emit("mul", [w.name_of(node.inputs[0], node), slope]), shift])
    w.emit("clamp", [y], node.outputs[0], min=0.0, max=1.0)


def _gelu(w: _Writer, node: ir.Node) -> None:
    if text(node, "approximate", "none") != "none":
        raise w.refusal(node, "it is approximated by Tanh")
    w.module("gelu", node)


def _power(w: _Writer, node: ir.Node) -> None:
    exponent = w.weight(node, 1)
    if exponent is None or exponent.size != 1:
        raise w.refusal(node, "its exponents are several")
    x = w.name_of(node.inputs[0], node)
    w.emit("power", [x], node.outputs[0], exponent=float(exponent.reshape(())))


def _elements(w: _Writer, node: ir.Node) -> None:
    rank, first = len(shape_of(node.outputs[0])), shape_of(node.outputs[0])[:1]
    for value in node.inputs:
        shape = shape_of(value)
        stored = array_of(value) is not None
        fits = len(shape) < rank or shape[:1] == (1,) if stored else shape[:1] == first and len(shape) == rank
        if not fits:
            raise w.refusal(node, "puts values of other numbers of pictures together")
    names = [w.name_of(value, node) for value in node.inputs]
    value, kind = names[0], ELEMENTS[node.op_type]
    for index, other in enumerate(names[1:], 2):
        value = w.emit(kind, [value, other], node.outputs[0] if index == len(names) else None)
    if len(names) == 1:
        w.names[node.outputs[0]] = value


def _reciprocal(w: _Writer, node: ir.Node) -> None:
    one = w.constant(np.array(1, np.float32))
    w.emit("div", [one, w.name_of(node.inputs[0], node)], node.outputs[0])


def _matmul(w: _Writer, node: ir.Node) -> None:
    shapes = [shape_of(value) for value in node.inputs]
    if any(array_of(value) is not None for value in node.inputs):
        stored = [array_of(value) is not None for value in node.inputs]
        rank = max(len(shape) for shape in shapes)
        if not all(len(s) < rank or s[0] == 1 for s, one in zip(shapes, stored, strict=True) if one):
            raise w.refusal(node, "its first axis is that of a stored factor")
        if rank < 3 and stored[0]:
            raise w.refusal(node, "mixes the first axis, along which the pictures of a batch lie")
    elif len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 3 or shapes[0][0] != shapes[1][0]:
        raise w.refusal(node, "mixes the first axis, along which the pictures of a batch lie")
    w.emit("matmul", [w.name_of(value, node) for value in node.inputs], node.outputs[0])


def _softmax(w: _Writer, node: ir.Node) -> None:
    rank, new = len(shape_of(node.inputs[0])), w.opset >= PER_AXIS
    axis = w.axis(node, integer(node, "axis", -1 if new else 1), rank)
    if not new and axis != rank - 1:
        raise w.refusal(node, f"is one of op set {w.opset}, along several axes at once")
    w.emit("softmax", [w.name_of(node.inputs[0], node)], node.outputs[0], axis=axis)


def _global_pool(w: _Writer, node: ir.Node) -> None:
    axes = tuple(range(2, len(shape_of(node.inputs[0]))))
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    w.emit(kind, [w.name_of(node.inputs[0], node)], node.outputs[0], axes=axes, keep=1)


def _reduce(w: _Writer, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    axes = w.integers(node, 1, "axes")
    if axes is None:
        axes = tuple(range(rank))
    counted = tuple(w.axis(node, axis, rank) for axis in axes)
    x, keep = w.name_of(node.inputs[0], node), integer(node, "keepdims", 1)
    w.emit(REDUCTIONS[node.op_type], [x], node.outputs[0], axes=counted, keep=keep)


def _pool(w: _Writer, node: ir.Node) -> None:
    if len(node.outputs) > 1 or any(one != 1 for one in integers(node, "dilations", ())):
        raise w.refusal(node, "it is dilated, or tells where its maxima were")
    most = node.op_type == "MaxPool"
    x = w.name_of(node.inputs[0], node)
    top, left, bottom, right = integers(node, "pads", (0, 0, 0, 0))
    if not most and (top, left) != (bottom, right):
        raise w.refusal(node, "it is padded on one side")
    x, padding = _padded(w, node, x, float(np.finfo(np.float32).min))
    settings: dict[str, Setting] = {
        "kernel": integers(node, "kernel_shape", ()),
        "stride": integers(node, "strides", (1, 1)),
        "padding": padding,
        "ceil": integer(node, "ceil_mode"),
    }
    if not most:
        settings["count_padding"] = integer(node, "count_include_pad")
    path = w.path(node.name or "pool")
    w.emit("max_pool" if most else "average_pool", [x], node.outputs[0], path, **settings)


def _reshape(w: _Writer, node: ir.Node) -> None:
    """Also Flatten, Squeeze and Unsqueeze: what the result's axes are is known."""
    _to_shape(w, node, w.name_of(node.inputs[0], node), shape_of(node.outputs[0]), node.outputs[0])


def _to_shape(w: _Writer, node: ir.Node, x: str, shape: tuple[int, ...], value: ir.Value | None) -> str:
    if not shape or 0 in shape:
        raise w.refusal(node, "leaves no axis for the pictures of a batch")
    return w.emit("reshape", [x], value, rest=shape[1:])


def _transpose(w: _Writer, node: ir.Node) -> None:
    rank = len(shape_of(node.inputs[0]))
    order = integers(node, "perm", tuple(reversed(range(rank))))
    if order[0] != 0:
        raise w.refusal(node, "moves the first axis, along which the pictures of a batch lie")
    w.emit("transpose", [w.name_of(node.inputs[0], node)], node.outputs[0], order=order)


def _concat(w: _Writer, node: ir.Node) -> None:
    axis = w.axis(node, integer(node, "axis"), len(shape_of(node.outputs[0])))
    if any(array_of(value) is not None for value in node.inputs):
        raise w.refusal(node, "puts a constant behind values of every picture")
    w.emit("concat", [w.name_of(value, node) for value in node.inputs], node.outputs[0], axis=axis)


def _slice(w: _Writer, node: ir.Node) -> None:
    shape = shape_of(node.inputs[0])
    starts, ends = w.integers(node, 1, "starts") or (), w.integers(node, 2, "ends") or ()
    axes = w.integers(node, 3, "axes") or tuple(range(len(starts)))
    steps = w.integers(node, 4) or (1,) * len(starts)
    x = w.name_of(node.inputs[0], node)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shape)
        last = None if step < 0 and end < -shape[axis] else end
        entries = range(shape[axis])[slice(start, last, step)]
        if entries == range(shape[axis]):
            continue
        w.axis(node, axis, len(shape))
        if not entries:
            raise w.refusal(node, "nothing is left")
        if step > 0:
            bounds = {"start": entries[0], "end": entries[-1] + 1, "step": step}
            x = w.emit("slice", [x], axis=axis, **bounds)
        else:
            x = w.emit("select", [x], axis=axis, entries=tuple(entries))
    w.names[node.outputs[0]] = x


def _split(w: _Writer, node: ir.Node) -> None:
    shape = shape_of(node.inputs[0])
    axis = w.axis(node, integer(node, "axis"), len(shape))
    x, start = w.name_of(node.inputs[0], node), 0
    for value in node.outputs:
        end = start + shape_of(value)[axis]
        w.emit("slice", [x], value, axis=axis, start=start, end=end, step=1)
        start = end


def _gather(w: _Writer, node: ir.Node) -> None:
    shape, entries = shape_of(node.inputs[0]), w.integers(node, 1)
    axis = w.axis(node, integer(node, "axis"), len(shape))
    counted = tuple(entry % shape[axis] for entry in entries or ())
    y = w.emit("select", [w.name_of(node.inputs[0], node)], axis=axis, entries=counted)
    _to_shape(w, node, y, shape_of(node.outputs[0]), node.outputs[0])


def _pad(w: _Writer, node: ir.Node) -> None:
    if text(node, "mode", "constant") != "constant":
        raise w.refusal(node, "pads with values of the edge")
    rank = len(shape_of(node.inputs[0]))
    amounts, fill = w.integers(node, 1, "pads") or (), w.weight(node, 2)
    axes = w.integers(node, 3) or tuple(range(rank))
    pads = [0] * (2 * rank)
    for axis, front, back in zip(axes, amounts, amounts[len(axes) :], strict=False):
        if front or back:
            place = 2 * (rank - 1 - w.axis(node, axis, rank))
            pads[place : place + 2] = front, back
    number = _number(node, "value", 0.0) if fill is None else float(fill.reshape(()))
    w.emit("pad", [w.name_of(node.inputs[0], node)], node.outputs[0], pads=tuple(pads), fill=number)


def _resize(w: _Writer, node: ir.Node) -> None:
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    mode, where = text(node, "mode", "nearest"), text(node, "coordinate_transformation_mode", "half_pixel")
    if len(after) != 4 or before[:2] != after[:2]:
        raise w.refusal(node, "scales something else than rows and columns of maps")
    factors = {large / small for large, small in zip(after[2:], before[2:], strict=True)}
    x, size = w.name_of(node.inputs[0], node), after[2:]
    rounding = text(node, "nearest_mode", "round_prefer_floor")
    whole = all(factor.is_integer() for factor in factors)
    centred = where in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer")
    if (mode == "nearest" and whole and (centred or (where, rounding) == ("asymmetric", "floor"))) or (
        mode == "nearest" and where == "asymmetric" and factors == {2.0} and rounding == "round_prefer_floor"
    ):
        w.emit("resize", [x], node.outputs[0], size=size, mode="nearest")
    elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = int(where == "align_corners")
        w.emit("resize", [x], node.outputs[0], size=size, mode="bilinear", corners=corners)
    else:
        raise w.refusal(node, f"mode {mode}, {where}, {rounding} has no form in torch")


def _depth_to_space(w: _Writer, node: ir.Node) -> None:
    block, (batch, channels, rows, columns) = integer(node, "blocksize", 1), shape_of(node.inputs[0])
    inner = channels // block**2
    columns_first = text(node, "mode", "DCR") == "CRD"
    parts = (inner, block, block) if columns_first else (block, block, inner)
    order = (0, 1, 4, 2, 5, 3) if columns_first else (0, 3, 4, 1, 5, 2)
    x = _to_shape(w, node, w.name_of(node.inputs[0], node), (batch, *parts, rows, columns), None)
    x = w.emit("transpose", [x], order=order)
    _to_shape(w, node, x, shape_of(node.outputs[0]), node.outputs[0])


def _expand(w: _Writer, node: ir.Node) -> None:
    before, after = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if len(before) != len(after) or before[:1] != after[:1]:
        raise w.refusal(node, "changes the first axis, along which the pictures of a batch lie")
    w.emit("expand", [w.name_of(node.inputs[0], node)], node.outputs[0], rest=after[1:])


def _same(w: _Writer, node: ir.Node) -> None:
    if node.inputs[0] is None or node.outputs[0].dtype != node.inputs[0].dtype:
        raise w.refusal(node, "makes whole numbers, which have no gradient")
    w.names[node.outputs[0]] = w.name_of(node.inputs[0], node)


Emitter = Callable[[_Writer, ir.Node], None]


def _plain(kind: str) -> Emitter:
    return lambda w, node: void(w.module(kind, node))


def _function(kind: str) -> Emitter:
    return lambda w, node: void(w.emit(kind, [w.name_of(node.inputs[0], node)], node.outputs[0]))


def void(_: object) -> None:
    """Nothing, of what a lambda computes."""


EMITTERS: dict[str, Emitter] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "PRelu": _prelu,
    **{kind: _plain(ours) for kind, ours in ONE_TO_ONE.items()},
    **{kind: _function(ours) for kind, ours in FUNCTIONS.items()},
    **dict.fromkeys(ELEMENTS, _elements),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(SHAPES, _reshape),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    "Clip": _clip,
    "LeakyRelu": lambda w, node: void(w.module("leaky_relu", node, slope=_number(node, "alpha", 0.01))),
    "Elu": lambda w, node: void(w.module("elu", node, alpha=_number(node, "alpha", 1.0))),
    "HardSigmoid": _hard_sigmoid,
    "Gelu": _gelu,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Softmax": _softmax,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Identity": _same,
    "Cast": _same,
}
"""What writes each operator."""
