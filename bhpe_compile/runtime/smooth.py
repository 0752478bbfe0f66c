"""Smoothing what is found from frame to frame: the one-euro filter (Casiez, Roussel, Vogel, CHI 2012).

    x^_t   = x^_{t-1} + a (x_t - x^_{t-1})        a = 1 / (1 + tau / dt),  tau = 1 / (2 pi cutoff)
    cutoff = CUTOFF + SPEED |speed|               speed: of x, itself smoothed at 1 Hz

At rest it takes out trembling and lags by tau; the faster something moves, the less it lags. Joints and boxes are
smoothed in the picture (speeds in heights of the person's box a second), the camera by the place and size it gives the
person, and rotations on the sphere of quaternions (speeds in radians a second).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import UsageError
from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.runtime.camera import Placement, camera_of, place, unplace
from bhpe_compile.runtime.people import axis_angles
from bhpe_compile.runtime.picture import Picture, View
from bhpe_compile.runtime.rotations import angles_between, between, from_axis_angle, to_axis_angle, to_matrix
from bhpe_compile.runtime.simcc import with_points

Array = NDArray[np.float64]
Outputs = Mapping[str, NDArray[Any]]

CUTOFF = 1.5
"""Hertz that pass at rest: lower is smoother and lags more."""

SPEED = 1.0
"""How much a speed of one height, or one radian, a second raises the cutoff: higher lags less."""

SPEED_CUTOFF = 1.0
"""Hertz that pass in measured speeds, as in the paper."""

FORGET = 0.5
"""Seconds without a person after which it begins anew."""


@dataclass(frozen=True)
class Constants:
    """The filter's two; UsageError unless they are positive and not negative."""

    cutoff: float = CUTOFF
    speed: float = SPEED

    def __post_init__(self) -> None:
        if not 0 < self.cutoff < 1e6 or not 0 <= self.speed < 1e6:
            raise UsageError(
                f"smoothing: cutoff {self.cutoff:g} must be above 0, speed {self.speed:g} at least 0"
            )

    @property
    def lag(self) -> float:
        """Seconds at rest."""
        return 1 / (2 * np.pi * self.cutoff)


class OneEuro:
    """The filter of one array of numbers, each by itself."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._value: Array | None = None
        self._speed = np.zeros(1)

    def __call__(self, value: NDArray[Any], dt: float, unit: float = 1.0) -> Array:
        """The next value, `dt` seconds after the last; `unit` is what speeds are counted in."""
        now = np.asarray(value, np.float64)
        if self._value is None:
            self._value, self._speed = now, np.zeros_like(now)
            return now
        speed = (now - self._value) / dt / unit
        self._speed = self._speed + _gain(np.full_like(now, SPEED_CUTOFF), dt) * (speed - self._speed)
        gain = _gain(self._constants.cutoff + self._constants.speed * np.abs(self._speed), dt)
        self._value = self._value + gain * (now - self._value)
        return self._value


class OneEuroRotations:
    """The filter of rotations, quaternions [k, 4]; one speed a rotation."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        self._value: Array | None = None
        self._speed = np.zeros(1)

    def __call__(self, value: Array, dt: float) -> Array:
        if self._value is None:
            self._value, self._speed = value, np.zeros(len(value))
            return value
        speed = angles_between(self._value, value) / dt
        self._speed = self._speed + _gain(np.full_like(speed, SPEED_CUTOFF), dt) * (speed - self._speed)
        gain = _gain(self._constants.cutoff + self._constants.speed * self._speed, dt)
        self._value = between(self._value, value, gain)
        return self._value


def _gain(cutoff: Array, dt: float) -> Array:
    return np.asarray(1 / (1 + 1 / (2 * np.pi * cutoff * dt)))


@dataclass
class _Person:
    """Filters of one person by output, and when it was seen last."""

    time: float
    filters: dict[str, Any] = field(default_factory=dict)


class Smoother:
    """Smooths the outputs of a network, person by person."""

    def __init__(self, interface: Interface, constants: Constants | None = None) -> None:
        self._interface = interface
        self._constants = constants or Constants()
        self._people: dict[int, _Person] = {}

    def __call__(
        self, person: int, time: float, picture: Picture, outputs: Outputs
    ) -> dict[str, NDArray[Any]]:
        """The outputs with what is smoothed in the place of what was found; `time` in seconds."""
        port = self._interface.picture
        assert port is not None  # a frame was run
        view = picture.seen_by(port)
        known = self._people.get(person)
        if known is None or not 0 < time - known.time < FORGET:
            known = self._people[person] = _Person(time)
        dt, known.time = max(time - known.time, 1e-6), time
        self._people = {k: one for k, one in self._people.items() if time - one.time < FORGET}
        return {
            name: self._smoothed(known, dt, view, self._interface.output(name), values)
            for name, values in with_points(self._interface, outputs).items()
        }

    def _smoothed(
        self, person: _Person, dt: float, view: View, output: Output, values: NDArray[Any]
    ) -> NDArray[Any]:
        kind = output.kind
        height = max(view.picture.box[3], 1.0)
        if kind in ("axis-angle", "rotation"):
            vectors = axis_angles(values) if kind == "rotation" else values
            filters = person.filters.setdefault(output.name, OneEuroRotations(self._constants))
            turned = filters(from_axis_angle(vectors), dt)
            smooth = to_matrix(turned) if kind == "rotation" else to_axis_angle(turned)
            return np.asarray(smooth.reshape(values.shape).astype(values.dtype))
        plain: OneEuro = person.filters.setdefault(output.name, OneEuro(self._constants))
        if kind == "keypoints":
            cells = np.array(values)
            points = plain(view.keypoints(output, values), dt, height)
            rows, columns = view.port.size
            across, down = output.grid or (columns, rows)
            cells.reshape(-1, values.shape[-1])[:, :2] = view.to_input(points) * (
                across / columns,
                down / rows,
            )
            return cells
        if kind == "boxes":
            corners = plain(view.box(values), dt, height)
            return view.to_input(corners.reshape(2, 2)).reshape(values.shape).astype(values.dtype)
        if output is camera_of(self._interface):
            found = place(view, output, values)
            if found is None:
                return values
            sizes = person.filters.setdefault(f"{output.name}, size", OneEuro(self._constants))
            (log,) = sizes(np.log([found.scale]), dt).tolist()
            x, y = plain(np.array([found.x, found.y]), dt, height).tolist()
            placement = Placement(float(np.exp(log)), x, y)
            return unplace(view, output, placement).reshape(values.shape)
        if kind == "coefficients":
            return plain(values, dt).astype(values.dtype)
        return values
