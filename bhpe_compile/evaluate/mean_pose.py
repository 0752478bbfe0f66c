"""The mean pose: what somebody who never looks at the picture would answer.

A network is worth its distance from this row. Of the first 1000 people of the training split (seed 0): every joint's
mean rotation, the root's in camera space included, and the means of shape and expression. The mean of rotations R_i is
the chordal one, the rotation closest to all of them: U diag(1, 1, det(U V^T)) V^T of the singular value decomposition
U S V^T of their sum (Moakher, SIAM J. Matrix Anal. Appl. 24(1), 2002). Nobody is drawn for it; it takes some seconds
once and is kept in the cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bhpe_compile.artifact.manifest import dump_json
from bhpe_compile.cache import cache_folder
from bhpe_compile.evaluate.body import BodyModel, axis_angle_to_matrix
from bhpe_compile.evaluate.subjects import ConstantSubject
from bhpe_compile.evaluate.synth.rotations import axis_angle
from bhpe_compile.evaluate.synth.streams import VERSION
from bhpe_compile.files import sha256, write_atomically
from bhpe_compile.reading import read_json

PEOPLE, SEED = 1000, 0
NAME = "mean pose"

Told = Callable[[int], None]
"""Hears how many people were looked at."""


def mean_pose(body: Path, count: int = PEOPLE, told: Told = lambda _: None) -> ConstantSubject:
    """The mean of `count` people of the training split with this body; from the cache where it is there."""
    path = cache_folder() / f"mean-pose-{VERSION}-{count}-{sha256(body)[:16]}.json"
    try:
        values = read_json(path)
    except (OSError, ValueError):
        values = _compute(body, count, told)
        _keep(path, dump_json(values))
    pose, betas, expression = (np.array(values[name], np.float32) for name in ("pose", "betas", "expression"))
    return ConstantSubject(NAME, pose, betas, expression)


def _compute(body: Path, count: int, told: Told) -> dict[str, Any]:
    from bhpe_compile.evaluate.synth.person import Generator

    generator = Generator(BodyModel.load(body), SEED, "train")
    total = np.zeros((55, 3, 3))
    coefficients = np.zeros((2, 10))
    for index in range(count):
        pose, *shape = generator.parameters(index)
        total += axis_angle_to_matrix(torch.from_numpy(pose)).numpy().astype(np.float64)
        coefficients += shape
        told(index + 1)
    betas, expression = coefficients / count
    found = {"pose": axis_angle(chordal_mean(total)), "betas": betas, "expression": expression}
    return {name: np.round(array, 6).tolist() for name, array in found.items()}


def chordal_mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotations [..., 3, 3] closest to a sum of rotations."""
    u, _, vt = np.linalg.svd(total)
    signs = np.ones((*total.shape[:-2], 3))
    signs[..., 2] = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    return np.asarray((u * signs[..., None, :]) @ vt)


def _keep(path: Path, content: bytes) -> None:
    """Write into the cache; where it cannot be written, the next run computes again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
