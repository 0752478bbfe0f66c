"""What the outputs of a network say of the person in a picture: names and units, in pixels of the photograph.

`Interface` says which outputs are keypoints, rotations, boxes, a camera or coefficients; this module knows no network.
What a network does not say is None.

    box        [x, y, width, height]: the box that was used, as `load_picture` takes one
    joints     name -> [x, y]
    scores     name -> how sure the network is, where it says so; joints that it does not see have no place
    rotations  name of the joint -> axis-angle
    camera     a point X of the body (metres) is at principal + focal (X + translation)_xy / (X + translation)_z
    boxes      part (left hand, face) -> [x, y, width, height], with the margin the network adds
What a network gives as entries of a code book stands under the name of that output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError
from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.runtime.camera import WEAK, camera_in_picture
from bhpe_compile.runtime.picture import Picture, View
from bhpe_compile.runtime.simcc import scores_of, seen, with_points

Outputs = Mapping[str, NDArray[Any]]

PIXELS = "pixels of the photograph; [0, 0] is the middle of its first pixel"

UNITS: dict[str, str] = {
    "box": f"x, y, width, height in {PIXELS}",
    "joints": f"x, y in {PIXELS}",
    "rotations": "axis-angle in radians, relative to the joint above",
    "boxes": f"x, y, width, height in {PIXELS}",
    "coefficients": "standard deviations of the body model",
}

ROTATIONS = ("axis-angle", "rotation")

DECIMALS = {"pixels": 2, "plain": 6}
"""Digits behind the point: a hundredth of a pixel, and what is left of float32 for numbers of order 1."""


def describe_person(picture: Picture, outputs: Outputs, interface: Interface) -> dict[str, Any]:
    """What `outputs` say of the person in `picture`, as plain data.

    InputError for a network that takes no picture, and for values that are no finite numbers.
    """
    port = interface.picture
    if port is None:
        raise InputError("this network takes no picture, so nothing can be said in pixels of one")
    _require_finite(outputs)
    outputs = with_points(interface, outputs)
    view = picture.seen_by(port)
    found = [output for output in interface.outputs if output.name in outputs]
    said = {
        "box": _pixels(picture.asked_box),
        "joints": _joints(view, outputs, interface),
        **_scores(outputs, interface),
        "rotations": _rotations(found, outputs),
        "camera": _camera(view, interface, found, outputs),
        "boxes": {
            one.part or one.name: _corners(view, outputs[one.name]) for one in found if one.kind == "boxes"
        },
        "coefficients": {
            one.name: _plain(outputs[one.name].ravel()) for one in found if one.kind == "coefficients"
        },
    }
    codes = {one.name: outputs[one.name].ravel().tolist() for one in found if one.kind == "codes"}
    return {**said, **codes}


def pose_document(people: list[dict[str, Any]], interface: Interface) -> dict[str, Any]:
    """`run`'s JSON: the people, and the units of what is said of them."""
    units: dict[str, Any] = dict(UNITS)
    if interface.simcc is not None:
        units["scores"] = "as the network gives them"
    camera = next((one for one in interface.outputs if one.kind == "camera"), None)
    if camera is not None:
        known = {"focal": "pixels of the photograph", "principal": PIXELS, "translation": camera.unit}
        values = {"values": camera.unit or "as the network gives them"}
        if camera.unit.startswith(WEAK):
            values |= {**known, "translation": "metres"}
        units["camera"] = known if camera.focal else values
    units |= {one.name: one.unit for one in interface.outputs if one.kind == "codes"}
    return {"network": interface.network, "people": people, "units": units}


def axis_angles(matrices: NDArray[Any]) -> NDArray[np.float64]:
    """Rotation matrices [k, 3, 3] -> axis-angle [k, 3], angles up to pi.

    The quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, Journal of Guidance
    23, 2000), which gives the nearest rotation for matrices that are not quite orthogonal.
    """
    m = np.asarray(matrices, np.float64).reshape(-1, 3, 3)
    trace = np.trace(m, axis1=1, axis2=2)
    k = np.empty((len(m), 4, 4))
    k[:, :3, :3] = m + m.transpose(0, 2, 1) - trace[:, None, None] * np.eye(3)
    skew = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], 1)
    k[:, :3, 3] = k[:, 3, :3] = skew
    k[:, 3, 3] = trace
    quaternion = np.linalg.eigh(k)[1][:, :, -1]
    quaternion *= np.where(quaternion[:, 3:] < 0, -1, 1)
    vector, real = quaternion[:, :3], quaternion[:, 3]
    length = np.linalg.norm(vector, axis=1)
    angle = 2 * np.arctan2(length, real)
    scale = np.where(length > 1e-12, angle / np.maximum(length, 1e-12), 2.0)
    return np.asarray(vector * scale[:, None])


def _joints(view: View, outputs: Outputs, interface: Interface) -> dict[str, list[float]] | None:
    output = interface.keypoints
    if output is None or output.name not in outputs:
        return None
    points = view.keypoints(output, outputs[output.name])
    there = seen(interface, outputs, len(points))
    return {_name(output, index): _pixels(point) for index, point in enumerate(points) if there[index]}


def _scores(outputs: Outputs, interface: Interface) -> dict[str, dict[str, float]]:
    output, scores = interface.keypoints, scores_of(interface, outputs)
    if output is None or scores is None:
        return {}
    return {"scores": {_name(output, index): _plain([score])[0] for index, score in enumerate(scores)}}


def _rotations(found: list[Output], outputs: Outputs) -> dict[str, list[float]] | None:
    rotations: dict[str, list[float]] = {}
    for one in found:
        if one.kind not in ROTATIONS:
            continue
        values = outputs[one.name]
        vectors = axis_angles(values) if one.kind == "rotation" else values.reshape(-1, 3)
        for index, vector in enumerate(vectors):
            name = one.names[index] if index < len(one.names) else f"{one.name}{index}"
            rotations[name] = _plain(vector)
    return rotations or None


def _camera(view: View, interface: Interface, found: list[Output], outputs: Outputs) -> dict[str, Any] | None:
    """A camera with a focal length of its own; or its values, and of weak perspective where they put the person before
    the picture's camera, unless they put it nowhere."""
    camera = next((one for one in found if one.kind == "camera"), None)
    if camera is None:
        return None
    values = outputs[camera.name].ravel()
    if camera.focal is None:
        placed = camera_in_picture(view, interface, camera, values) if camera.unit.startswith(WEAK) else None
        told: dict[str, Any] = {"values": _plain(values)}
        if placed is not None:
            told["translation"] = _plain(placed.translation)
            told["focal"] = round(placed.focal, DECIMALS["pixels"])
            told["principal"] = _pixels(placed.principal)
        return told
    rows, columns = view.port.size
    return {
        "translation": _plain(values),
        "focal": round(camera.focal * view.scale, DECIMALS["pixels"]),
        "principal": _pixels(view.to_picture(np.array([columns / 2, rows / 2]))),
    }


def _corners(view: View, values: NDArray[Any]) -> list[float]:
    left, top, right, bottom = view.box(values)
    return _pixels((left, top, right - left, bottom - top))


def _name(output: Output, index: int) -> str:
    return output.names[index] if index < len(output.names) else str(index)


def _pixels(values: Any) -> list[float]:
    return _rounded(values, DECIMALS["pixels"])


def _plain(values: Any) -> list[float]:
    return _rounded(values, DECIMALS["plain"])


def _rounded(values: Any, decimals: int) -> list[float]:
    return [round(float(value), decimals) + 0.0 for value in values]  # + 0.0: no -0.0


def _require_finite(outputs: Outputs) -> None:
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"the network returned {name} with values that are no numbers: its weights are broken"
            )
