"""Which feature maps are kept as float16: one rule, whatever graph the network is written in.

    1. maps that binary layers and others read: the others (residuals, shortcuts) read them rounded; signs are taken
       before the rounding, while the map is in registers
    2. a full-precision branch that is added to a binary one
    3. a convolution's map that is max-pooled: pooling only selects, so its result is exact in float16 as well

A map whose largest magnitude is beyond `LARGEST`, or not 0 and below `SMALLEST`, stays float32: float16 ends at 65504,
and below 6e-5 its steps no longer shrink with the values.

A graph answers what the rule asks: `passes/fold/half_residuals.py` for ONNX, `passes/binarize/round_storage.py` for
torch.fx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

Kind = Literal["binary", "dense", "norm", "rprelu", "sum", "pool", "half", "other"]
"""An operation: a binary layer, a full-precision convolution, a norm or ReLU (which a convolution's kernel computes as
well), an RPReLU, an addition, max pooling, a rounding to float16, anything else."""

LARGEST = 65504 / 4
"""Magnitude, measured on the pictures of the calibration, up to which a map is kept in float16; there are others."""

SMALLEST = 2.0**-10
"""Below it the steps of float16 (2^-24 near 0) are more than 2^-14 of a map's largest magnitude."""


def does_not_fit(largest: float) -> bool:
    """Whether float16 is no storage for a map of this largest magnitude."""
    return largest > LARGEST or 0 < largest < SMALLEST


V = TypeVar("V")
U = TypeVar("U")


class Maps(Protocol[V, U]):
    """A graph of values V; a U is one use of a value by an operation."""

    def uses(self, value: V) -> tuple[Sequence[U], Sequence[U]]:
        """The uses of a feature map that take its signs, and all others; none where `value` is an output of the
        network or no feature map."""

    def kind(self, use: U) -> Kind:
        """The operation of a use."""

    def beside(self, use: U, value: V) -> Sequence[V]:
        """What the operation of a use reads besides `value`."""

    def origin(self, value: V) -> tuple[Kind, Sequence[V]]:
        """The operation that computes `value`, and the values it reads."""


def rounded_uses(maps: Maps[V, U], value: V) -> tuple[Sequence[U], str]:
    """The uses of `value` that read it as float16, and why; none where it is not kept so, or is already."""
    signs, others = maps.uses(value)
    if any(maps.kind(use) == "half" for use in others):
        return [], ""
    if signs and others:
        return others, "binary layers read its signs, others its values"
    if len(others) != 1 or not _is_dense(maps, value):
        return [], ""
    kind = maps.kind(others[0])
    if kind == "pool":
        return others, "it is max-pooled"
    if kind == "sum" and any(_is_binary(maps, side) for side in maps.beside(others[0], value)):
        return others, "it is the shortcut of a binary layer"
    return [], ""


def _is_dense(maps: Maps[V, U], value: V) -> bool:
    """Whether `value` is a full-precision convolution's, past norms and ReLU."""
    kind, sources = maps.origin(value)
    while kind == "norm":
        kind, sources = maps.origin(sources[0])
    return kind == "dense"


def _is_binary(maps: Maps[V, U], value: V) -> bool:
    """Whether `value` is a binary layer's, past norms, activations and additions to others."""
    kind, sources = maps.origin(value)
    while kind in ("norm", "rprelu"):
        kind, sources = maps.origin(sources[0])
    return kind == "binary" or (kind == "sum" and any(_is_binary(maps, side) for side in sources))
