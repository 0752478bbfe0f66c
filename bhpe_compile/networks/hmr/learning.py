"""What labels of drawn people mean for networks with SMPL's outputs (SPIN, CLIFF), and where a new one begins.

rotations  of the 22 joints that SMPL and SMPL-X share; SMPL's two hand joints stand still
betas      those of the labelled body, which are not SMPL's
camera     weak perspective of the crop about the body's origin at depth Z: with a crop of b pixels of height about
           (cx, cy), scale = 2 f / (Z b),  shift = translation + (principal point - centre) Z / f
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.networks.layers.regressor import IterativeRegressor
from bhpe_compile.networks.smpl import BETAS, JOINTS
from bhpe_compile.runtime.picture import View

SHARED = 22
"""Joints of SMPL-X that SMPL has in the same order, from the pelvis on."""

COLOURS = 3
"""What a stem reads."""

FIRST_SPREAD = 0.1
"""The last layers start with their weights scaled by this, around the mean."""


def targets(labels: Labels, view: View) -> dict[str, NDArray[np.float32]]:
    """rotations [24, 3, 3], betas [10], camera [3], for a person in `view`."""
    rotations = np.tile(np.eye(3, dtype=np.float32), (len(JOINTS), 1, 1))
    rotations[:SHARED] = _matrices(labels.pose[:SHARED])
    height = view.scale * view.port.size[0]
    x, y, w, h = view.picture.box
    depth = labels.translation[2]
    aside = (labels.principal - (x + w / 2, y + h / 2)) * depth / labels.focal
    scale = 2 * labels.focal[1] / (depth * height)
    camera = np.array([scale, *(labels.translation[:2] + aside)], np.float32)
    return {"rotations": rotations, "betas": labels.betas[:BETAS], "camera": camera}


def begin(model: nn.Module, people: Mapping[str, NDArray[Any]]) -> None:
    """Let a new regressor start at the mean of `people` (arrays [n, ...] by output), nearly whatever it sees.

    Convolutions get He initialisation (arXiv 1502.01852), those behind a ReLU with every filter's mean removed: there
    all inputs are positive, and their common part would drown the differences between pictures. torch's random numbers
    are drawn.
    """
    assert isinstance(model, IterativeRegressor)  # what the descriptions build
    mean = torch.from_numpy(people["rotations"].mean(0))  # nearly rotations
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                weight = module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()))
                if module.in_channels != COLOURS:
                    weight.sub_(weight.mean((1, 2, 3), keepdim=True))
        model.init_pose.copy_(mean[:, :, :2].reshape(1, -1))
        model.init_shape.copy_(torch.from_numpy(people["betas"].mean(0)))
        model.init_cam.copy_(torch.from_numpy(people["camera"].mean(0)))
        for layer in (model.decpose, model.decshape, model.deccam):
            layer.weight.mul_(FIRST_SPREAD)
            layer.bias.zero_()


def _matrices(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Axis-angle [n, 3] in radians -> [n, 3, 3] (Rodrigues), for one person many times faster than in torch."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / np.maximum(angle[:, 0], 1e-12)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    turned: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned.astype(np.float32)
