"""Layers of a preset in full precision, and the paper's accounting of its binary forms.

    params (paper) = full-precision parameters + binary weights / 32
    ops (paper)    = full-precision MACs + binary MACs / 64 + element-wise operations       (see `cost`)

The printed figures stand beside ours with their difference: 17.22 M is not explained by any count we know, and
16.85 G is 1.00 G below the released network.

Nothing is allocated or computed: the network runs on torch's meta device.
Source of the convention: BinaryHPE, arXiv 2311.14323, its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bhpe_compile.errors import UsageError
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.models.presets import FULL, get_preset
from bhpe_compile.passes.binarize.scheme import SCHEMES, get_scheme
from bhpe_compile.report.cost import (
    BINARY,
    CONVOLUTION,
    FLOAT32,
    LINEAR,
    TRANSPOSED,
    Costs,
    Layer,
    counts_as_binary,
    paper_operations,
    paper_parameters,
)

PAPER = {"float": (77.84, 16.85), "bnn": (21.61, 2.63), "reactnet": (21.66, 2.63), "bidrn": (17.22, 2.50)}
"""What the paper's tables print for the full network: millions of parameters, 1e9 operations."""

KINDS = {nn.Conv2d: CONVOLUTION, nn.ConvTranspose2d: TRANSPOSED, nn.Linear: LINEAR}


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
    """A network before and after, as the paper counts; `published` only for the paper's network."""

    original: Totals
    compiled: Totals
    published: Published | None

    def to_json(self) -> dict[str, Any]:
        """The three by name."""
        return {
            "original": self.original.to_json(),
            "compiled": self.compiled.to_json(),
            "published": None if self.published is None else asdict(self.published),
        }


@dataclass(frozen=True)
class Counted:
    """A preset in full precision: its layers, and all of its parameters (norms and biases included)."""

    preset: str
    layers: tuple[Layer, ...]
    parameters: int

    @property
    def costs(self) -> Costs:
        """The same as a network to report."""
        return Costs(self.layers, "float", self.parameters - sum(layer.weights for layer in self.layers))


def _macs(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    weights = layer.get_parameter("weight").numel()
    if isinstance(layer, nn.Linear):
        return x.shape[0] * weights
    pixels = x if isinstance(layer, nn.ConvTranspose2d) else y
    return pixels.shape[0] * pixels.shape[2] * pixels.shape[3] * weights


def _kernel(layer: nn.Module) -> tuple[int, int]:
    shape = layer.get_parameter("weight").shape[2:]
    return (int(shape[0]), int(shape[1])) if len(shape) == 2 else (1, 1)


@cache
def count_preset(preset: str) -> Counted:
    """Count `preset` ("full" | "tiny") in full precision; UsageError for another name."""
    with torch.device("meta"):
        model = Hand4Whole(get_preset(preset)).eval()
    layers: list[Layer] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0]
            weights = layer.get_parameter("weight").numel()
            layers.append(
                Layer(
                    name=name,
                    kind=KINDS[type(layer)],
                    precision=FLOAT32,
                    weights=weights,
                    macs=_macs(layer, x, output),
                    in_channels=x.shape[1],
                    out_channels=output.shape[1],
                    kernel=_kernel(layer),
                    inputs=x.numel(),
                    outputs=output.numel(),
                    nbytes=4 * weights,
                    traffic=4 * (x.numel() + output.numel()),
                )
            )

        return record

    handles = [
        layer.register_forward_hook(hook(name))
        for name, layer in model.named_modules()
        if type(layer) in KINDS
    ]
    with torch.no_grad():
        model(torch.empty(1, 3, *model.preset.image, device="meta"))
    for handle in handles:
        handle.remove()
    return Counted(preset, tuple(layers), sum(p.numel() for p in model.parameters()))


def as_paper(counted: Counted, binary: frozenset[str], scheme: str) -> Accounting:
    """The paper's accounting of a preset of which the layers named in `binary` are binary by `scheme`."""
    layers = tuple(
        replace(layer, precision=BINARY) if layer.name in binary else layer for layer in counted.layers
    )
    compiled = _totals(layers, counted.parameters, scheme)
    return Accounting(
        original=_totals(counted.layers, counted.parameters, "float"),
        compiled=compiled,
        published=_published(counted.preset, scheme, compiled),
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


def _published(preset: str, scheme: str, ours: Totals) -> Published | None:
    if preset != FULL.name or scheme not in PAPER:
        return None
    params, ops = PAPER[scheme]
    return Published(params, ops, round(params - ours.params_paper_m, 4), round(ops - ours.ops_paper_g, 4))


def binary_layers(counted: Counted, scheme: str) -> frozenset[str]:
    """Names of the layers that `scheme` ("float": none) makes binary.

    UsageError for an unknown scheme. A test compares this with what the compiler does.
    """
    if scheme == "float":
        return frozenset()
    if scheme not in SCHEMES:
        raise UsageError(f"unknown scheme {scheme!r}: known are float, {', '.join(SCHEMES)}")
    roles = get_scheme(scheme).binary_roles
    return frozenset(layer.name for layer in counted.layers if layer.role in roles)
