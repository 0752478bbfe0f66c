"""Parameters and operations of a network, and the paper's accounting of its binary forms.

    params (paper) = full-precision parameters + binary weights / 32
    ops (paper)    = full-precision MACs + binary MACs / 64 + element-wise operations
    element-wise   = 1 per output element of the trunks' convolutions; in bidrn also of BoxNet's transposed
                     convolutions, and k times for a Fusion Down, whose k convolutions are averaged

The rows of the paper differ in what they count, and so do ours: bnn adds nothing to the weights, reactnet one
threshold per input channel of a binary convolution, bidrn the three numbers per channel of every RPReLU.
BoxNet's small linear layers (0.2 M) are counted in full precision, although the compiler makes them binary.
The printed figures stand beside ours with their difference: 17.22 M is not explained by any count we know, and
16.85 G is 1.00 G below the released network.

MACs are counted for one picture: body, two hand crops, one face. Nothing is allocated or computed: the
network runs on torch's meta device. Source of the convention: BinaryHPE, arXiv 2311.14323, its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bhpe_compile.errors import UsageError
from bhpe_compile.models.hand4whole import Hand4Whole
from bhpe_compile.models.presets import FULL, get_preset
from bhpe_compile.models.roles import layer_role

BINARY_ROLES: dict[str, frozenset[str]] = {
    "float": frozenset(),
    "bnn": frozenset({"core", "shortcut"}),
    "reactnet": frozenset({"core", "shortcut"}),
    "bidrn": frozenset({"core", "box"}),
}
"""Roles that are binary in each scheme (stems and heads never are)."""

PAPER = {"float": (77.84, 16.85), "bnn": (21.61, 2.63), "reactnet": (21.66, 2.63), "bidrn": (17.22, 2.50)}
"""What the paper's tables print for the full network: millions of parameters, 1e9 operations."""


@dataclass(frozen=True)
class LayerCount:
    """One layer with weights: its weights without bias, and MACs of one picture."""

    name: str
    role: str
    kind: str
    weights: int
    macs: int
    in_channels: int
    out_channels: int
    outputs: int
    binary: bool


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
class CostReport:
    """Counts of a preset before and after binarization by a scheme; `published` only for the paper's network."""

    preset: str
    scheme: str
    original: Totals
    compiled: Totals
    published: Published | None
    layers: tuple[LayerCount, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `report --format json`."""
        return {
            "preset": self.preset,
            "scheme": self.scheme,
            "original": self.original.to_json(),
            "compiled": self.compiled.to_json(),
            "published": None if self.published is None else asdict(self.published),
            "layers": [asdict(layer) for layer in self.layers],
        }


def _macs(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(layer, nn.ConvTranspose2d):
        # every input pixel meets every tap; taps that fall outside the output are counted as the field does
        return x.shape[0] * x.shape[2] * x.shape[3] * layer.weight.numel()
    if isinstance(layer, nn.Conv2d):
        return y.shape[0] * y.shape[2] * y.shape[3] * layer.weight.numel()
    return x.shape[0] * layer.weight.numel() if isinstance(layer, nn.Linear) else 0


def _count_layers(model: Hand4Whole) -> tuple[LayerCount, ...]:
    counts: list[LayerCount] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0]
            counts.append(
                LayerCount(
                    name=name,
                    role=layer_role(name),
                    kind=type(layer).__name__,
                    weights=layer.get_parameter("weight").numel(),
                    macs=_macs(layer, x, output),
                    in_channels=x.shape[1],
                    out_channels=output.shape[1],
                    outputs=output.numel(),
                    binary=False,
                )
            )

        return record

    handles = [
        layer.register_forward_hook(hook(name))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    with torch.no_grad():
        model(torch.empty(1, 3, *model.preset.image, device="meta"))
    for handle in handles:
        handle.remove()
    return tuple(counts)


def _is_binary(layer: LayerCount, scheme: str) -> bool:
    return layer.role in BINARY_ROLES[scheme] and layer.kind != "Linear"


def _totals(layers: tuple[LayerCount, ...], parameters: int, scheme: str) -> Totals:
    binary = [layer for layer in layers if layer.binary]
    weights, binary_macs = sum(b.weights for b in binary), sum(b.macs for b in binary)
    macs = sum(layer.macs for layer in layers)
    extra = 0
    if scheme == "reactnet":
        extra = sum(b.in_channels for b in binary)
    elif scheme == "bidrn":
        extra = 3 * sum(b.out_channels for b in binary)
    elementwise = sum(_elementwise(layer, scheme) for layer in layers) if binary else 0
    paper_params = parameters - weights + weights / 32 + extra
    paper_ops = macs - binary_macs + binary_macs / 64 + elementwise
    return Totals(
        parameters + extra,
        weights,
        round(paper_params / 1e6, 4),
        macs,
        binary_macs,
        round(paper_ops / 1e9, 4),
    )


def _elementwise(layer: LayerCount, scheme: str) -> int:
    trunk = layer.role in ("stem", "core", "shortcut")
    if scheme != "bidrn":
        return layer.outputs if trunk else 0
    averaged = layer.in_channels // layer.out_channels if layer.role == "core" else 1
    return layer.outputs * max(averaged, 1) if trunk or layer.kind == "ConvTranspose2d" else 0


def _published(preset: str, scheme: str, ours: Totals) -> Published | None:
    if preset != FULL.name:
        return None
    params, ops = PAPER[scheme]
    return Published(params, ops, round(params - ours.params_paper_m, 4), round(ops - ours.ops_paper_g, 4))


def count(preset: str, scheme: str) -> CostReport:
    """Count `preset` ("full" | "tiny") in full precision and in the binary form of `scheme`.

    Schemes are the keys of BINARY_ROLES; UsageError for another preset or scheme.
    """
    if scheme not in BINARY_ROLES:
        raise UsageError(f"unknown scheme {scheme!r}: known are {', '.join(BINARY_ROLES)}")
    with torch.device("meta"):
        model = Hand4Whole(get_preset(preset)).eval()
    parameters = sum(p.numel() for p in model.parameters())
    original = _count_layers(model)
    layers = tuple(replace(layer, binary=_is_binary(layer, scheme)) for layer in original)
    compiled = _totals(layers, parameters, scheme)
    return CostReport(
        preset,
        scheme,
        original=_totals(original, parameters, "float"),
        compiled=compiled,
        published=_published(preset, scheme, compiled),
        layers=layers,
    )
