"""How far a compiled network is from its full-precision one, on the pictures that calibrate it.

Of a checkpoint both run in torch: its network, and the frozen graph with the rounding of the compiled one. Of an ONNX
file both run in ONNX Runtime: the file, and model.onnx. Nothing is emulated, and a few pictures are enough to tell a
network that works from one that lost everything: what moves is compared with itself, so no labels are needed. Each
kind of output has one figure, the mean over pictures and elements.

    joints        distance in pixels of the input
    rotations     angle in degrees
    boxes         distance of the corners in pixels of the input
    camera        distance in the output's unit
    coefficients  mean difference, of order 1
    classes       part of the decisions (largest logit, whole numbers) that change, in percent
    maps, values  root mean square difference, in percent of the values' own
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.runtime.people import axis_angles
from bhpe_compile.runtime.simcc import with_points

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]
Outputs = Mapping[str, Array]
Example = Mapping[str, Array]
Compute = Callable[[Example], Outputs]
"""Inputs of one picture by name, in order, to outputs by name."""

KINDS = ("joints", "rotations", "boxes", "camera", "coefficients", "classes", "maps", "values")
"""In the order in which they are told."""

AT_MOST = 8
"""Pictures that are compared; the full network takes about two seconds for each."""

PIXELS = "pixels of the input"


@dataclass(frozen=True)
class Movement:
    """How far one kind of output moves, on average over so many pictures."""

    value: float
    unit: str
    pictures: int

    def __str__(self) -> str:
        short = {PIXELS: " px", "degrees": " degrees", "percent": " %", "metres": " m"}
        return f"{self.value:.3g}{short.get(self.unit, '')}"


Agreement = Mapping[str, Movement]
"""By kind of output; empty where nothing can be compared."""


MUCH = {"rotations": 10.0, "classes": 20.0, "maps": 30.0, "values": 30.0}
"""Degrees or percent. Networks in 8 bits that work move by a fifth of it; those that do not, by a multiple."""
MUCH_OF_SIDE = {"joints": 0.03, "boxes": 0.06}
"""The same in pixels, as a part of the input's longer side."""


def moved_much(agreement: Agreement, interface: Interface) -> dict[str, Movement]:
    """What moves so far that a network in 8 bits is of little use; nothing is said of cameras and coefficients."""
    port = interface.picture
    side = max(port.size) if port is not None else math.inf
    limits = MUCH | {kind: part * side for kind, part in MUCH_OF_SIDE.items()}
    return {kind: one for kind, one in agreement.items() if one.value > limits.get(kind, math.inf)}


def to_json(agreement: Agreement) -> dict[str, Any]:
    """Plain data for manifest and reports."""
    return {kind: asdict(movement) for kind, movement in agreement.items()}


def from_json(data: object) -> dict[str, Movement]:
    """Inverse of `to_json`; empty for what is none."""
    if not isinstance(data, Mapping):
        return {}
    return {
        str(kind): Movement(float(one["value"]), str(one["unit"]), int(one["pictures"]))
        for kind, one in data.items()
    }


def describe(agreement: Agreement) -> str:
    """'joints by 143 px, rotations by 61 degrees (means of 2 pictures)'."""
    pictures = max((one.pictures for one in agreement.values()), default=0)
    moved = ", ".join(f"{kind} by {movement}" for kind, movement in agreement.items())
    return f"{moved} (means of {pictures} picture{'' if pictures == 1 else 's'})"


def measure_agreement(
    network: nn.Module,
    graph: nn.Module,
    interface: Interface,
    examples: Iterable[Example],
    tick: Callable[[str], None] = lambda _: None,
    *,
    at_most: int = AT_MOST,
) -> dict[str, Movement]:
    """Run both on `at_most` examples (inputs by name, in order) and compare what comes out.

    `network` and `graph` are in eval mode and return dicts of the same outputs.
    """
    return measure_movement(
        computed_by(network), computed_by(graph), interface, islice(examples, at_most), tick
    )


def computed_by(network: nn.Module) -> Compute:
    """What a network in torch computes, which returns a dict of tensors."""

    def compute(example: Example) -> Outputs:
        import torch

        with torch.no_grad():
            outputs = network(*(torch.from_numpy(array) for array in example.values()))
        return {name: value.numpy() for name, value in outputs.items()}

    return compute


def measure_movement(
    first: Compute,
    second: Compute,
    interface: Interface,
    examples: Iterable[Example],
    tick: Callable[[str], None] = lambda _: None,
) -> dict[str, Movement]:
    """Run both on every example and compare what comes out: how far the outputs of `second` are from those of `first`.

    Points that two classifications tell (SimCC) are joints; the classifications themselves are not counted beside.
    """
    found: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for number, example in enumerate(examples):
        tick(f"agreement, picture {number + 1}")
        one, other = (with_points(interface, compute(example)) for compute in (first, second))
        gaps: dict[str, list[Array]] = {}
        for output in _told_by(interface):
            ours, theirs = one.get(output.name), other.get(output.name)
            if ours is None or theirs is None or ours.shape != theirs.shape:
                continue
            kind, unit, gap = _moved(interface, output, ours, theirs)
            gaps.setdefault(kind, []).append(gap.ravel())
            units[kind] = unit
        for kind, parts in gaps.items():
            found.setdefault(kind, []).append(float(np.concatenate(parts).mean()))
    return {
        kind: Movement(float(f"{np.mean(found[kind]):.4g}"), units[kind], len(found[kind]))
        for kind in KINDS
        if kind in found
    }


def _told_by(interface: Interface) -> list[Output]:
    """The outputs that are compared."""
    said = interface.simcc
    if said is None or interface.keypoints is None:
        return list(interface.outputs)
    return [
        *(one for one in interface.outputs if one.name not in (said.x, said.y)),
        interface.keypoints,
    ]


def _moved(interface: Interface, output: Output, first: Array, second: Array) -> tuple[str, str, Array]:
    """Kind, unit, and the distance of every element of an output."""
    if output.kind == "keypoints":
        scale = _cell(interface, output)
        gap = (second[..., :2] - first[..., :2]) * scale
        return "joints", PIXELS, np.linalg.norm(gap, axis=-1)
    if output.kind == "axis-angle":
        return "rotations", "degrees", np.degrees(_angles(first, second))
    if output.kind == "rotation":
        between = np.swapaxes(first, -1, -2).reshape(-1, 3, 3) @ second.reshape(-1, 3, 3)
        return "rotations", "degrees", np.degrees(np.linalg.norm(axis_angles(between), axis=-1))
    if output.kind == "boxes":
        corners = (second - first).reshape(-1, 2)
        return "boxes", PIXELS, np.linalg.norm(corners, axis=-1)
    if output.kind == "camera":
        return "camera", output.unit, np.linalg.norm(second - first, axis=-1)
    if output.kind == "coefficients":
        return "coefficients", output.unit or "of order 1", np.abs(second - first)
    if output.kind in ("logits", "simcc"):
        changed = first.argmax(-1) != second.argmax(-1)
        return "classes", "percent", 100.0 * changed
    if first.dtype.kind != "f":
        return "classes", "percent", 100.0 * (first != second)
    size = float(np.sqrt(np.square(first, dtype=np.float64).mean())) or 1.0
    gap = np.sqrt(np.square(second - first, dtype=np.float64).mean()) / size
    return "maps" if output.kind == "heat-map" else "values", "percent", np.array([100.0 * gap])


def _cell(interface: Interface, output: Output) -> Array:
    """Pixels of the input in a cell of the keypoints' grid, across and down."""
    port = interface.picture
    if port is None or output.grid is None:
        return np.ones(2)
    rows, columns = port.size
    return np.array([columns / output.grid[0], rows / output.grid[1]])


def _angles(first: Array, second: Array) -> Array:
    """Radians between rotations given as axis-angle, [..., 3 k] each."""
    one, two = (_quaternions(array.reshape(-1, 3)) for array in (first, second))
    return np.asarray(2 * np.arccos(np.clip(np.abs((one * two).sum(1)), 0, 1)))


def _quaternions(vectors: Array) -> Array:
    """Axis-angle [k, 3] -> unit quaternions [k, 4], the real part last."""
    vectors = vectors.astype(np.float64)
    angle = np.linalg.norm(vectors, axis=1, keepdims=True)
    axis = vectors / np.where(angle > 0, angle, 1)
    return np.concatenate([axis * np.sin(angle / 2), np.cos(angle / 2)], 1)
