"""A `Structure` as a torch.fx graph of plain torch modules, which trains like any other network.

Nothing of a structure is executed as code: every kind of step has one function here, which takes numbers and words and
refuses what it does not know.
"""

from __future__ import annotations

import keyword
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bhpe_compile.errors import InputError
from bhpe_compile.networks.structure import CONSTANTS, PATH, Setting, Step, Structure

Shapes = Mapping[str, tuple[int, ...]]


def build_structure(structure: Structure, shapes: Shapes, source: str) -> fx.GraphModule:
    """The network, in eval mode, with the default values of torch for weights. shapes: of the weights and constants, by
    name.

    It takes the inputs in order and returns a dict of the outputs. InputError where the structure is damaged; `source`
    is the file it is from.
    """
    building = _Building(structure, shapes)
    for step in structure.steps:
        try:
            building.add(step)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{source}: damaged: step {step.kind} ({step.path or step.output}) of its structure: {error}"
            ) from None
    try:
        return building.finish()
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{source}: damaged: its structure: {error}") from None


@dataclass
class _Building:
    structure: Structure
    shapes: Shapes
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, fx.Node] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    """Modules and constants by path."""

    def __post_init__(self) -> None:
        for index, name in enumerate(self.structure.inputs):
            self.values[name] = self.graph.placeholder(f"input_{index}")

    def add(self, step: Step) -> None:
        """One step. KeyError, ValueError or TypeError where it does not fit."""
        if step.kind not in KINDS:
            raise ValueError("is of no kind that is known here")
        if step.output in self.values:
            raise ValueError(f"{step.output} is computed twice")
        if step.path and not all(map(is_usable, step.path.split("."))):
            raise ValueError(f"{step.path} is no name for a layer")
        self.values[step.output] = KINDS[step.kind](self, step)

    def value(self, name: str) -> fx.Node:
        """The node of a value or a constant."""
        if name not in self.values:
            if not name.startswith(f"{CONSTANTS}."):
                raise ValueError(f"{name} is not known before it is read")
            if not PATH.fullmatch(name) or not all(map(is_usable, name.split("."))):
                raise ValueError(f"{name} is no name for a constant")
            self.parts[name] = torch.zeros(self.shapes[name])
            self.values[name] = self.graph.get_attr(name)
        return self.values[name]

    def module(self, step: Step, make: Callable[[], nn.Module]) -> fx.Node:
        """A call of the module at the step's path; a path that was called before is the same module."""
        if not step.path or step.path.startswith(f"{CONSTANTS}."):
            raise ValueError("it has no path")
        if step.path not in self.parts:
            self.parts[step.path] = make()
        return self.graph.call_module(step.path, (self.value(step.inputs[0]),))

    def call(self, function: Any, *args: Any, **options: Any) -> fx.Node:
        return self.graph.call_function(function, args, options)

    def shape(self, step: Step, name: str) -> tuple[int, ...]:
        return tuple(self.shapes[f"{step.path}.{name}"])

    def has(self, step: Step, name: str) -> bool:
        return f"{step.path}.{name}" in self.shapes

    def finish(self) -> fx.GraphModule:
        for path in sorted(self.parts):
            above = path.rpartition(".")[0]
            while above:
                if above in self.parts:
                    raise ValueError(f"{path} stands inside of the layer {above}")
                above = above.rpartition(".")[0]
        self.graph.output({name: self.value(value) for name, value in self.structure.outputs.items()})
        self.graph.lint()
        network = fx.GraphModule(self.parts, self.graph, "Imported")
        return network.eval()


@cache
def _taken() -> frozenset[str]:
    """What a graph module calls its own."""
    return frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))


def is_usable(word: str) -> bool:
    """Whether a module, or a part of its path, can be called so."""
    return not keyword.iskeyword(word) and word not in _taken()


def _whole(settings: Mapping[str, Setting], name: str) -> int:
    value = settings[name]
    if not isinstance(value, int):
        raise TypeError(f"{name} is no whole number")
    return value


def _number(settings: Mapping[str, Setting], name: str) -> float:
    value = settings[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is no number")
    return float(value)


def _list(settings: Mapping[str, Setting], name: str, count: int | None = None) -> tuple[int, ...]:
    value = settings[name]
    if not isinstance(value, tuple) or (count is not None and len(value) != count):
        raise TypeError(f"{name} is no list of {'whole' if count is None else count} numbers")
    return value


def _convolution(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d]) -> Callable[[_Building, Step], fx.Node]:
    transposed = kind is nn.ConvTranspose2d

    def add(b: _Building, step: Step) -> fx.Node:
        said = step.settings

        def make() -> nn.Module:
            first, second, rows, columns = b.shape(step, "weight")
            groups = _whole(said, "groups")
            inner, outer = (first, second * groups) if transposed else (second * groups, first)
            more: dict[str, Any] = {"output_padding": _list(said, "output_padding", 2)} if transposed else {}
            return kind(
                inner,
                outer,
                (rows, columns),
                _list(said, "stride", 2),  # type: ignore[arg-type]
                _list(said, "padding", 2),  # type: ignore[arg-type]
                dilation=_list(said, "dilation", 2),  # type: ignore[arg-type]
                groups=groups,
                bias=b.has(step, "bias"),
                **more,
            )

        return b.module(step, make)

    return add


def _linear(b: _Building, step: Step) -> fx.Node:
    outer, inner = b.shape(step, "weight")
    return b.module(step, lambda: nn.Linear(inner, outer, bias=b.has(step, "bias")))


def _batch_norm(b: _Building, step: Step) -> fx.Node:
    (channels,) = b.shape(step, "weight")
    return b.module(step, lambda: nn.BatchNorm2d(channels, _number(step.settings, "epsilon")))


def _layer_norm(b: _Building, step: Step) -> fx.Node:
    shape = b.shape(step, "weight")
    return b.module(
        step,
        lambda: nn.LayerNorm(shape, _number(step.settings, "epsilon"), bias=b.has(step, "bias")),
    )


def _prelu(b: _Building, step: Step) -> fx.Node:
    (count,) = b.shape(step, "weight")
    return b.module(step, lambda: nn.PReLU(count))


def _module(make: Callable[[Mapping[str, Setting]], nn.Module]) -> Callable[[_Building, Step], fx.Node]:
    return lambda b, step: b.module(step, lambda: make(step.settings))


def _clip(said: Mapping[str, Setting]) -> nn.Module:
    low, high = _number(said, "low"), _number(said, "high")
    return nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(low, high)


def _pool(kind: type[nn.MaxPool2d] | type[nn.AvgPool2d]) -> Callable[[Mapping[str, Setting]], nn.Module]:
    def make(said: Mapping[str, Setting]) -> nn.Module:
        more: dict[str, Any] = (
            {"count_include_pad": bool(_whole(said, "count_padding"))} if kind is nn.AvgPool2d else {}
        )
        kernel, stride, padding = (_list(said, name, 2) for name in ("kernel", "stride", "padding"))
        return kind(kernel, stride, padding, ceil_mode=bool(_whole(said, "ceil")), **more)  # type: ignore[arg-type]

    return make


def _function(function: Callable[..., Tensor], count: int = 1) -> Callable[[_Building, Step], fx.Node]:
    def add(b: _Building, step: Step) -> fx.Node:
        if len(step.inputs) != count:
            raise ValueError(f"takes {count} values")
        return b.call(function, *map(b.value, step.inputs))

    return add


def _clamp(b: _Building, step: Step) -> fx.Node:
    bounds = {name: _number(step.settings, name) for name in ("min", "max") if name in step.settings}
    return b.call(torch.clamp, b.value(step.inputs[0]), **bounds)


def _axes(name: str) -> Callable[[_Building, Step], fx.Node]:
    """A reduction that is a method of this name."""

    def add(b: _Building, step: Step) -> fx.Node:
        axes, keep = list(_list(step.settings, "axes")), bool(_whole(step.settings, "keep"))
        return b.graph.call_method(name, (b.value(step.inputs[0]), axes, keep))

    return add


def _length(b: _Building, step: Step) -> fx.Node:
    """The root of the sum of squares along axes."""
    axes, keep = list(_list(step.settings, "axes")), bool(_whole(step.settings, "keep"))
    return b.call(torch.linalg.vector_norm, b.value(step.inputs[0]), 2, axes, keep)


def _reshape(b: _Building, step: Step) -> fx.Node:
    """To the axes behind the first, which grows with the pictures."""
    rest = _list(step.settings, "rest")
    return b.graph.call_method("reshape", (b.value(step.inputs[0]), -1, *rest))


def _transpose(b: _Building, step: Step) -> fx.Node:
    return b.graph.call_method("permute", (b.value(step.inputs[0]), *_list(step.settings, "order")))


def _concat(b: _Building, step: Step) -> fx.Node:
    return b.call(torch.cat, [b.value(name) for name in step.inputs], _whole(step.settings, "axis"))


def _part(x: fx.Node, axis: int, part: slice) -> tuple[fx.Node, tuple[slice, ...]]:
    return x, (*[slice(None)] * axis, part)


def _slice(b: _Building, step: Step) -> fx.Node:
    """Every step-th entry from `start` to before `end` along an axis."""
    axis, *bounds = (_whole(step.settings, name) for name in ("axis", "start", "end", "step"))
    return b.call(operator.getitem, *_part(b.value(step.inputs[0]), axis, slice(*bounds)))


def _select(b: _Building, step: Step) -> fx.Node:
    """Entries along an axis by their numbers."""
    axis, x = _whole(step.settings, "axis"), b.value(step.inputs[0])
    entries = (slice(entry, entry + 1) for entry in _list(step.settings, "entries"))
    return b.call(torch.cat, [b.call(operator.getitem, *_part(x, axis, one)) for one in entries], axis)


def _pad(b: _Building, step: Step) -> fx.Node:
    """Pads from the last axis on, front and back of each, as torch has them."""
    return b.call(
        functional.pad,
        b.value(step.inputs[0]),
        _list(step.settings, "pads"),
        "constant",
        _number(step.settings, "fill"),
    )


def _resize(b: _Building, step: Step) -> fx.Node:
    size, mode = _list(step.settings, "size", 2), step.settings["mode"]
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f"mode {mode!r} is not known")
    more = {} if mode == "nearest" else {"align_corners": bool(_whole(step.settings, "corners"))}
    return b.call(functional.interpolate, b.value(step.inputs[0]), size=size, mode=mode, **more)


def _expand(b: _Building, step: Step) -> fx.Node:
    return b.graph.call_method("expand", (b.value(step.inputs[0]), -1, *_list(step.settings, "rest")))


def _softmax(b: _Building, step: Step) -> fx.Node:
    return b.call(torch.softmax, b.value(step.inputs[0]), _whole(step.settings, "axis"))


def _power(b: _Building, step: Step) -> fx.Node:
    return b.call(torch.pow, b.value(step.inputs[0]), _number(step.settings, "exponent"))


KINDS: Mapping[str, Callable[[_Building, Step], fx.Node]] = {
    "conv": _convolution(nn.Conv2d),
    "conv_transpose": _convolution(nn.ConvTranspose2d),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "prelu": _prelu,
    "relu": _module(lambda _: nn.ReLU()),
    "clip": _module(_clip),
    "leaky_relu": _module(lambda said: nn.LeakyReLU(_number(said, "slope"))),
    "sigmoid": _module(lambda _: nn.Sigmoid()),
    "tanh": _module(lambda _: nn.Tanh()),
    "hard_swish": _module(lambda _: nn.Hardswish()),
    "elu": _module(lambda said: nn.ELU(_number(said, "alpha"))),
    "gelu": _module(lambda _: nn.GELU()),
    "max_pool": _module(_pool(nn.MaxPool2d)),
    "average_pool": _module(_pool(nn.AvgPool2d)),
    "softmax": _softmax,
    "clamp": _clamp,
    "power": _power,
    "abs": _function(torch.abs),
    "exp": _function(torch.exp),
    "log": _function(torch.log),
    "sqrt": _function(torch.sqrt),
    "neg": _function(torch.neg),
    "erf": _function(torch.erf),
    "add": _function(operator.add, 2),
    "sub": _function(operator.sub, 2),
    "mul": _function(operator.mul, 2),
    "div": _function(operator.truediv, 2),
    "matmul": _function(torch.matmul, 2),
    "maximum": _function(torch.maximum, 2),
    "minimum": _function(torch.minimum, 2),
    "mean": _axes("mean"),
    "sum": _axes("sum"),
    "max": _axes("amax"),
    "min": _axes("amin"),
    "length": _length,
    "reshape": _reshape,
    "transpose": _transpose,
    "concat": _concat,
    "slice": _slice,
    "select": _select,
    "pad": _pad,
    "resize": _resize,
    "expand": _expand,
}
"""What adds each kind of step to a graph."""


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes in a state."""
    return {name: tuple(value.shape) for name, value in state.items()}
