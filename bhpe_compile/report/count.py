"""Layers of a network in full precision, and the paper's accounting of its binary forms.

    params (paper) = full-precision parameters + binary weights / 32
    ops (paper)    = full-precision MACs + binary MACs / 64 + element-wise operations       (see `cost`)

The figures a paper prints stand beside ours with their difference: of Hand4Whole, 17.22 M is not explained by any
count we know, and 16.85 G is 1.00 G below the released network.

The weights lie on torch's meta device, so nothing of them is allocated, and no layer is computed: it answers with a
zero that is expanded to the shape of its output. (Running the rest on the meta device as well would import torch's
compiler, a second of it.)
Source of the convention: BinaryHPE, arXiv 2311.14323, its tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from bhpe_compile.errors import UsageError
from bhpe_compile.networks import network as networks
from bhpe_compile.networks.choice import choose
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, trace
from bhpe_compile.passes.binarize.scheme import SCHEMES, get_scheme
from bhpe_compile.report.cost import (
    BINARY,
    CONVOLUTION,
    FLOAT32,
    LINEAR,
    PRODUCT,
    TRANSPOSED,
    Costs,
    Layer,
    counts_as_binary,
    paper_operations,
    paper_parameters,
)
from bhpe_compile.report.places import Places

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: CONVOLUTION,
    nn.ConvTranspose2d: TRANSPOSED,
    nn.Linear: LINEAR,
}


PRODUCTS = {torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__}
"""Functions of torch that multiply two matrices."""


@dataclass(frozen=True)
class Totals:
    """`paper_m` in millions of 32-bit parameters, `paper_g` in units of 1e9 operations."""

    params_total: int
    params_binary: int
    params_paper_m: float
    ops_macs: int
    ops_binary_macs: int
    ops_paper_g: float

    def to_json(self) -> dict[str, dict[str, float]]:
        """Grouped as the report prints them."""
        return {
            "params": {
                "total": self.params_total,
                "binary": self.params_binary,
                "paper_m": self.params_paper_m,
            },
            "ops": {"macs": self.ops_macs, "binary_macs": self.ops_binary_macs, "paper_g": self.ops_paper_g},
        }


@dataclass(frozen=True)
class Published:
    """A row of the paper, and how far it is above our count (negative: below)."""

    paper_m: float
    paper_g: float
    unexplained_m: float
    unexplained_g: float


@dataclass(frozen=True)
class Accounting:
    """A network before and after, as the paper counts; `published` only for the paper's network.

    unused: parameters of layers that the network has and never calls, by layer; `original` counts them.
    """

    original: Totals
    compiled: Totals
    published: Published | None
    unused: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The three by name; what is never called beside the original's parameters."""
        original = self.original.to_json()
        return {
            "original": {**original, "params": {**original["params"], "unused": dict(self.unused)}},
            "compiled": self.compiled.to_json(),
            "published": None if self.published is None else asdict(self.published),
        }


@dataclass(frozen=True)
class Counted:
    """A network in full precision: its layers, and all of its parameters (norms and biases included).

    unused: parameters of layers that are never called, by layer.
    """

    network: networks.Network
    preset: str
    layers: tuple[Layer, ...]
    parameters: int
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def costs(self) -> Costs:
        """The same as a network to report."""
        return Costs(self.layers, "float", self.parameters - sum(layer.weights for layer in self.layers))


class _Counter(nn.Module):
    """Stands for a layer: writes down its cost and answers with zeros of the right shape."""

    def __init__(self, name: str, layer: nn.Module, found: list[Layer]) -> None:
        super().__init__()
        self._name, self._layers, self._found = name, (layer,), found  # a tuple: no submodule
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Zeros that take no memory. Every call is a layer: NAME, NAME#1, ...; the weights are the first one's."""
        layer = self._layers[0]
        weights = layer.get_parameter("weight")
        shape = _output_shape(layer, x)
        spatial = weights.dim() == 4
        pixels = x.shape if isinstance(layer, nn.ConvTranspose2d) else shape
        positions = prod(pixels[:1] + pixels[2:]) if spatial else prod(x.shape[:-1])
        channels = 1 if spatial else -1
        own = 0 if self._calls else weights.numel()
        self._found.append(
            Layer(
                name=f"{self._name}#{self._calls}" if self._calls else self._name,
                kind=KINDS[type(layer)],
                precision=FLOAT32,
                weights=own,
                macs=positions * weights.numel(),
                in_channels=x.shape[channels],
                out_channels=shape[channels],
                kernel=(weights.shape[2], weights.shape[3]) if spatial else (1, 1),
                inputs=x.numel(),
                outputs=prod(shape),
                nbytes=4 * own,
                traffic=4 * (x.numel() + prod(shape)),
            )
        )
        self._calls += 1
        return torch.zeros(()).expand(shape)


class _Products(TorchFunctionMode):
    """Writes down the products of two matrices that the network computes, by the module that computes them."""

    def __init__(self, model: nn.Module, found: list[Layer]) -> None:
        super().__init__()
        self._found, self._paths = found, [""]
        self._calls: Counter[str] = Counter()
        for path, module in model.named_modules():
            module.register_forward_pre_hook(lambda *_, path=path: self._paths.append(path))
            module.register_forward_hook(lambda *_: self._paths.pop() and None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in PRODUCTS:
            self._write(args[0], result)
        return result

    def _write(self, x: Tensor, y: Tensor) -> None:
        path = f"{self._paths[-1]}.matmul".removeprefix(".")
        calls = self._calls[path]
        self._calls[path] += 1
        self._found.append(
            Layer(
                name=f"{path}#{calls}" if calls else path,
                kind=PRODUCT,
                precision=FLOAT32,
                weights=0,
                macs=y.numel() * x.shape[-1],
                in_channels=x.shape[-1],
                out_channels=y.shape[-1],
                kernel=(1, 1),
                inputs=x.numel(),
                outputs=y.numel(),
                traffic=4 * (x.numel() + y.numel()),
            )
        )


def _output_shape(layer: nn.Module, x: Tensor) -> tuple[int, ...]:
    if isinstance(layer, nn.Linear):
        return (*x.shape[:-1], layer.out_features)
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)  # KINDS has no others
    sizes = []
    for axis in (0, 1):
        size, stride = x.shape[2 + axis], layer.stride[axis]
        kernel = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        pad = int(layer.padding[axis])
        if isinstance(layer, nn.ConvTranspose2d):
            sizes.append((size - 1) * stride - 2 * pad + kernel)
        else:
            sizes.append((size + 2 * pad - kernel) // stride + 1)
    return x.shape[0], layer.out_channels, *sizes


@cache
def count_network(spec: str) -> Counted:
    """Count the network `spec` (NAME or NAME:PRESET) in full precision; UsageError for an unknown one."""
    choice = choose(spec)
    return count(choice.network, choice.first, choice.interface(choice.first))


def count(network: networks.Network, preset: str, interface: Interface) -> Counted:
    """Count a preset of a network in full precision."""
    with torch.device("meta"):
        model = network.build(preset).eval()
    parameters = sum(p.numel() for p in model.parameters())
    graph = trace(model, roles=network.roles)
    places, unused = Places.of(graph, network), unused_parameters(model, graph)
    layers: list[Layer] = []
    for path, module in list(model.named_modules()):
        for name, child in module.named_children():
            if type(child) in KINDS:
                setattr(module, name, _Counter(f"{path}.{name}" if path else name, child, layers))
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    _fill(model)
    with torch.no_grad(), _Products(model, layers):
        model(*(torch.zeros(port.shape) for port in interface.inputs))
    placed = (replace(one, role=places.role(one.name), stage=places.stage(one.name)) for one in layers)
    return Counted(network, preset, tuple(placed), parameters, unused)


def unused_parameters(model: nn.Module, graph: fx.GraphModule) -> dict[str, int]:
    """Parameters of `model` that its traced `graph` never reads: how many, by the layer that has them."""
    read = {str(node.target) for node in graph.graph.nodes if node.op in ("call_module", "get_attr")}
    unused: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0]
        if name not in read and layer not in read:
            unused[layer] = unused.get(layer, 0) + parameter.numel()
    return unused


def _fill(model: nn.Module) -> None:
    """Zeros that take no memory for what is left on the meta device: the network computes with it on the CPU."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            zeros = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            setattr(module, name, nn.Parameter(zeros, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))


def as_paper(counted: Counted, binary: frozenset[str], scheme: str) -> Accounting:
    """The paper's accounting of a network of which the layers named in `binary` are binary by `scheme`."""
    layers = tuple(
        replace(layer, precision=BINARY) if layer.name in binary else layer for layer in counted.layers
    )
    compiled = _totals(layers, counted.parameters, scheme)
    return Accounting(
        original=_totals(counted.layers, counted.parameters, "float"),
        compiled=compiled,
        published=_published(counted, scheme, compiled),
        unused=counted.unused,
    )


def _totals(layers: tuple[Layer, ...], parameters: int, scheme: str) -> Totals:
    binary = [layer for layer in layers if counts_as_binary(layer)]
    total, paper = paper_parameters(layers, parameters, scheme)
    return Totals(
        total,
        sum(layer.weights for layer in binary),
        round(paper / 1e6, 4),
        sum(layer.macs for layer in layers),
        sum(layer.macs for layer in binary),
        round(paper_operations(layers, scheme) / 1e9, 4),
    )


def _published(counted: Counted, scheme: str, ours: Totals) -> Published | None:
    for row in counted.network.published:
        if (row.preset, row.scheme) == (counted.preset, scheme):
            params, ops = row.parameters, row.operations
            return Published(
                params, ops, round(params - ours.params_paper_m, 4), round(ops - ours.ops_paper_g, 4)
            )
    return None


def account(spec: str, scheme: str) -> Accounting:
    """The paper's accounting of a network by a scheme; UsageError for an unknown one of either."""
    counted = count_network(spec)
    return as_paper(counted, binary_layers(counted, scheme), scheme)


def binary_layers(counted: Counted, scheme: str) -> frozenset[str]:
    """Names of the layers that `scheme` ("int8", "float": none) makes binary.

    UsageError for an unknown scheme. A test compares this with what the compiler does.
    """
    if scheme in ("int8", "float"):
        return frozenset()
    if scheme not in SCHEMES:
        raise UsageError(f"unknown scheme {scheme!r}: known are int8, float, {', '.join(SCHEMES)}")
    return made_binary(counted.network, counted.preset, BinarizeOptions(get_scheme(scheme)))


@cache
def made_binary(network: networks.Network, preset: str, options: BinarizeOptions) -> frozenset[str]:
    """Names of the layers that `options` make binary: the compiler's passes decide, on weights that take no memory."""
    with torch.device("meta"):
        model = network.build(preset).eval()
    graph, _ = binarize(trace(model, roles=network.roles), options)
    return frozenset(name for name, layer in graph.named_modules() if isinstance(layer, BinaryLayer))
