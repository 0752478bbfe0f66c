"""Where a network's camera puts a person in the picture: the two kinds of cameras as one.

    a translation       with its focal length in pixels of the input
    weak perspective    scale s and shifts x, y of the input, whose half height is 1

Either way a metre of the person is so many pixels of the picture, and its root is at one point of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.runtime.picture import View

WEAK = "weak perspective"
"""How the unit of such a camera begins."""

FAR = 5000.0
"""Focal length, in pixels of the input, that stands for a camera without perspective."""


@dataclass(frozen=True)
class Placement:
    """Pixels of the picture in a metre, and the point of the picture at which the origin of the body is."""

    scale: float
    x: float
    y: float


@dataclass(frozen=True)
class Camera:
    """A point X (metres) of a body is at principal + focal (X + translation)_xy / (X + translation)_z, in pixels."""

    translation: NDArray[np.float64]
    focal: float
    principal: tuple[float, float]


def camera_of(interface: Interface) -> Output | None:
    """The output that is a camera of one of the kinds above, or None."""
    return next(
        (
            one
            for one in interface.outputs
            if one.kind == "camera" and (one.focal is not None or one.unit.startswith(WEAK))
        ),
        None,
    )


def place(view: View, output: Output, values: NDArray[Any]) -> Placement | None:
    """Where a camera's values put the person; None for values that no person has."""
    x, y = _middle(view)
    first, second, third = np.asarray(values, np.float64).ravel().tolist()
    if output.focal is not None:
        scale = output.focal * view.scale / third if third > 0 else 0.0
        across, down = first, second
    else:
        scale, across, down = first * _half(view), second, third
    if not math.isfinite(scale) or scale <= 0:
        return None
    return Placement(scale, x + scale * across, y + scale * down)


def unplace(view: View, output: Output, placement: Placement) -> NDArray[np.float32]:
    """The camera's values for a placement: the inverse of `place`."""
    x, y = _middle(view)
    across, down = (placement.x - x) / placement.scale, (placement.y - y) / placement.scale
    if output.focal is not None:
        values = [across, down, output.focal * view.scale / placement.scale]
    else:
        values = [placement.scale / _half(view), across, down]
    return np.array(values, np.float32)


def camera_in_picture(
    view: View, interface: Interface, output: Output, values: NDArray[Any]
) -> Camera | None:
    """The camera in the picture.

    A network that is told where its box was speaks of the whole picture's camera, in the middle, with the picture's
    focal length. Another one speaks of its input's: from its middle, from far away where it has no perspective.
    """
    placement = place(view, output, values)
    if placement is None:
        return None
    height, width = view.picture.rgb.shape[:2]
    principal = _middle(view)
    if output.focal is not None:
        focal = output.focal * view.scale
    elif any(port.kind == "box" for port in interface.inputs):
        focal, principal = view.picture.focal_length, (width / 2, height / 2)
    else:
        focal = FAR * view.scale
    across, down = (placement.x - principal[0]), (placement.y - principal[1])
    translation = np.array([across, down, focal]) / placement.scale
    return Camera(translation, focal, principal)


def _middle(view: View) -> tuple[float, float]:
    """The middle of the input in pixels of the picture."""
    rows, columns = view.port.size
    x, y = view.to_picture(np.array([columns / 2, rows / 2])).tolist()
    return x, y


def _half(view: View) -> float:
    """Half of the input's height in pixels of the picture."""
    return view.port.size[0] * view.scale / 2
