"""What compiling would make of a preset or a checkpoint: counted and predicted, nothing is compiled.

Exact: which layers are binary, weights, MACs, the bytes of packed weights (tests compare with a compiled model).
Predicted: the small constants beside them (several layers may share equal ones), and the activations that a layer
reads and writes:

    binary   packed bits in; float16 out, its local residual in (bidrn), packed bits out
    8-bit    a byte a value in, float16 out
    float    4 bytes a value
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bhpe_compile.report.cost import BINARY, FLOAT16, INT8, LINEAR, Costs, Layer
from bhpe_compile.report.count import Counted, binary_layers, made_binary
from bhpe_compile.report.layout import packing, per_channel_bytes
from bhpe_compile.targets import Target

HALF, FULL = 2, 4
"""Bytes of a float16 and of a float32 value."""


def predict(
    counted: Counted, scheme: str, target: Target, dense: str, binary: frozenset[str] | None = None
) -> Costs:
    """`counted` as `scheme` and `dense` ("int8" | "fp32") would compile it for `target`.

    binary: the layers that are made binary, where a checkpoint says so itself.
    """
    chosen = binary_layers(counted, scheme) if binary is None else binary
    layers = tuple(_compiled(layer, layer.name in chosen, scheme, target, dense) for layer in counted.layers)
    return Costs(layers, scheme)


def _compiled(layer: Layer, binary: bool, scheme: str, target: Target, dense: str) -> Layer:
    precision = BINARY if binary else INT8 if dense == "int8" else FLOAT16
    made = replace(layer, precision=precision, traffic=_traffic(layer, precision, scheme))
    nbytes = packing(made, target.isa).nbytes + per_channel_bytes(made, target.isa, scheme)
    return replace(made, nbytes=nbytes)


def _traffic(layer: Layer, precision: str, scheme: str) -> int:
    if precision == BINARY:
        residual = HALF if scheme == "bidrn" and layer.role == "core" else 0
        return layer.inputs // 8 + layer.outputs * (HALF + residual) + layer.outputs // 8
    if precision == INT8 and layer.kind != LINEAR:
        return layer.inputs + HALF * layer.outputs
    return FULL * (layer.inputs + layer.outputs)


def trained_binary(counted: Counted, binarization: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """(scheme, binary layers) of a checkpoint that says how it was binarized.

    InputError where its options are damaged.
    """
    from bhpe_compile.passes.binarize.options import BinarizeOptions

    options = BinarizeOptions.from_dict(binarization)
    return options.scheme.name, made_binary(counted.network, counted.preset, options)
