"""Labels in the units of the network: cells of its heat maps, rotation matrices, boxes to crop.

    body joint   x, y: pixels * cells / size of picture - offset     z: (metres from the pelvis / 1 m + 1) / 2 * depth
    hand joint   x, y: part of the crop * cells - offset             z: (metres from the wrist / 0.15 m + 1) / 2 * depth
    left hand    mirrored: x -> cells - 1 - x, rotations M R M with M = diag(-1, 1, 1)

The depths and the mirror are Hand4Whole's (arXiv 2011.11534).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.networks.hand4whole.presets import ENLARGE, Preset

BODY_DEPTH, HAND_DEPTH = 1.0, 0.15
"""Half of the depth in metres that a heat map spans."""

WRISTS = (12, 13)
"""The wrists among the 25 body keypoints."""

ROTATIONS = (*range(22), *range(25, 55), 22)
"""Joints of the body model in the order of the network's rotations: root, body, left hand, right hand, jaw."""

LEFT_HAND = slice(22, 37)
"""The left hand's among `ROTATIONS`."""

MIRROR = np.array([1.0, -1.0, -1.0], np.float32)
"""What mirroring in x does to an axis-angle vector."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class BoxJitter:
    """How far crops stray from the true boxes in training: shift in parts of the box, log of the scale."""

    shift: float = 0.05
    scale: float = 0.1


def tight_to_cells(boxes: Array, preset: Preset) -> tuple[Array, Array]:
    """Boxes [3, 4] in pixels of the picture -> centres and sizes [3, 2] in cells of the body's heat map."""
    factor = np.array([c / i for c, i in zip(preset.body_cells[::-1], preset.image[::-1], strict=True)])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * factor
    return centres.astype(np.float32), ((boxes[:, 2:] - boxes[:, :2]) * factor).astype(np.float32)


def crop_boxes(boxes: Array, preset: Preset, jitter: BoxJitter | None, rng: np.random.Generator) -> Array:
    """Tight boxes [3, 4] -> boxes to crop: to the crop's aspect, enlarged as the network does, moved a little."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    aspects = np.array([width / height for height, width in (preset.hand, preset.hand, preset.face)])
    width = np.maximum(size[:, 0], size[:, 1] * aspects)
    half = np.stack((width, width / aspects), 1) * (np.array(ENLARGE) / 2)[:, None]
    return stray(np.concatenate((centre - half, centre + half), 1), jitter, rng)


def stray(boxes: Array, jitter: BoxJitter | None, rng: np.random.Generator) -> Array:
    """Boxes [3, 4] to crop, moved and scaled at random."""
    if jitter is None:
        return boxes.astype(np.float32)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    centre = centre + rng.normal(0, jitter.shift, centre.shape) * size
    size = size * np.exp(rng.normal(0, jitter.scale, (len(boxes), 1)))
    return np.concatenate((centre - size / 2, centre + size / 2), 1).astype(np.float32)


def make_targets(labels: Labels, crops: Array, preset: Preset) -> dict[str, Array]:
    """What the network should find in a picture whose hands are cropped at `crops` [3, 4].

    rotations [53, 3] axis-angle in the order of `ROTATIONS`; the others as `Hand4Whole.predict` names them;
    `*_seen` are 1 where a joint or box is in the picture, else 0. `pixels` [65, 2] in cells, for projections.
    """
    size = np.array(preset.image[::-1], np.float32)
    cells = np.array(preset.body_cells[::-1], np.float32)
    depth = preset.heatmap_depth
    points, seen = labels.keypoints, labels.visible.astype(np.float32)
    place = points[:, :2] / size * cells
    z = (points[:, 2:] / BODY_DEPTH + 1) / 2 * depth
    centres, sizes = tight_to_cells(labels.boxes, preset)
    inside = np.asarray(((centres >= 0) & (centres < cells)).all(1), np.float32)
    rotations = labels.pose[list(ROTATIONS)].copy()
    rotations[LEFT_HAND] *= MIRROR
    return {
        "rotations": rotations.astype(np.float32),
        "shape": labels.betas,
        "expression": labels.expression,
        "joints": np.concatenate((place[:25] - preset.joint_offset, z[:25]), 1),
        "joints_seen": seen[:25],
        "hand_joints": _hand_joints(points, crops, preset),
        "hand_joints_seen": _in_crop(points, crops) * seen[25:].reshape(2, 20),
        "centres": centres,
        "sizes": sizes,
        "boxes_seen": inside,
        "pixels": place,
        "pixels_seen": seen,
    }


def _in_crop(points: Array, crops: Array) -> Array:
    hands = points[25:, :2].reshape(2, 20, 2)
    low, high = crops[:2, None, :2], crops[:2, None, 2:]
    return np.asarray(((hands >= low) & (hands < high)).all(2), np.float32)


def _hand_joints(points: Array, crops: Array, preset: Preset) -> Array:
    """[2, 20, 3] in cells of the crops, the left hand mirrored."""
    hands = points[25:].reshape(2, 20, 3)
    cells = np.array(preset.hand_cells[::-1], np.float32)
    low, size = crops[:2, None, :2], crops[:2, None, 2:] - crops[:2, None, :2]
    place = (hands[:, :, :2] - low) / np.maximum(size, 1e-3) * cells - preset.joint_offset
    place[0, :, 0] = cells[0] - 1 - place[0, :, 0]
    wrist = points[list(WRISTS), 2][:, None, None]
    z = ((hands[:, :, 2:] - wrist) / HAND_DEPTH + 1) / 2 * preset.heatmap_depth
    return np.concatenate((place, z), 2).astype(np.float32)
