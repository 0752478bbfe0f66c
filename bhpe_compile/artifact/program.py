"""A lowered model: kernels as object code, one arena, and a straight list of calls over a table of tensors.

This is what the lowering hands to the artefact writer, and all the C executor knows at run time.
Offsets and sizes are bytes; every offset is a multiple of 64 because the kernels assume aligned tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bhpe_compile.networks.interface import UNDESCRIBED, Interface

ALIGNMENT = 64

Storage = Literal["arena", "weights"]


@dataclass(frozen=True)
class TensorSlot:
    """One tensor view: where it lies and how kernels see it. Several slots may share an offset."""

    storage: Storage
    offset: int
    nbytes: int
    shape: tuple[int, ...]
    dtype: str  # numpy name: "float32", "float16", "uint8", "int32", "int64", "bool"


MULTIPLIED = ("Int8Conv2d", "Int8ConvTranspose2d", "FixedPointLinear")
"""Kinds of steps that multiply by the target's instruction for 8-bit weights; depthwise ones have another."""


@dataclass(frozen=True)
class Step:
    """One kernel call. `roles[k]` names argument `args[k]` ("x", "weight", "scale", ..., "out", "bits", "levels").

    `kind` is the kernel's class ("binary_conv2d", "dense_conv2d", ..., "glue" for code TVM generated);
    `layer` is the path of the layer it computes, "" for glue. `parallel`: the function takes the int32 scalars
    `part` and `parts` behind `args`, and calls for different parts may run at the same time.
    """

    symbol: str
    kind: str
    layer: str
    args: tuple[int, ...]
    roles: tuple[str, ...]
    parallel: bool = False


@dataclass(frozen=True)
class Port:
    """A named input or output of the model."""

    name: str
    tensor: int


@dataclass(frozen=True)
class Program:
    """Everything a target needs to run the model; `weights` is the image every weight slot points into.

    `interface` says how a picture becomes the inputs, and what the outputs are.
    """

    tensors: tuple[TensorSlot, ...]
    steps: tuple[Step, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena_bytes: int
    workspace_bytes: int
    weights: bytes
    objects: tuple[bytes, ...]
    interface: Interface = UNDESCRIBED
