"""The regressor from vertices to joints: every joint is a weighted sum of vertices near it.

Shapes span few dimensions, so a regressor that is right for the mean body and for each principal direction is right for
all of them. For each joint it is the solution of

    sum_v w_v [1 | mean_v | direction_v ...] = [1 | mean joint | direction of the joint ...]

with the least sum_v (w_v d_v)², d the distance from the joint, over the vertices of every bone that meets at the joint,
however far along it they lie: the ring of skin around a joint does not say at which height in it the joint is. Weights
may be negative. Convex combinations miss the spine by 15 mm: Anny's vertebrae move otherwise than all skin near them.
The mesh is symmetric: left joints are solved, right ones mirrored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.rig import PARENTS
from bhpe_compile.evaluate.anny_body.shapes import People
from bhpe_compile.evaluate.skeleton import INDEX, JOINT_COUNT, JOINT_NAMES

DIRECTIONS = 30
"""Principal directions of shape that are asked for; what they leave out is about 0.1 mm a vertex."""

CANDIDATES = 1000
"""Vertices that one joint is made of, at most."""

_MOVED = 0.05
"""Skinning weight from which on a vertex belongs to a bone."""

_BLUR = 0.01
"""Metres added to distances: vertices nearer than this are alike."""

_ALIKE = 8
"""Decimals of a metre up to which distances are told apart. A vertex and its mirror image are equally far from a joint
in the middle; which of them comes first must not depend on the last bits, which differ between machines."""

_RIDGE = 2e-4
"""Error that is accepted for small weights: the sum of a row's magnitudes stays below 10."""


def joint_regressor(
    people: People, weights: NDArray[np.float64], mirror: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[55,V], the sum of a row 1, from skinning weights [V,55]."""
    vertices, joints = _modes(people)
    regressor = np.zeros((JOINT_COUNT, len(weights)))
    for joint, name in enumerate(JOINT_NAMES):
        if name.startswith("right"):
            regressor[joint] = regressor[INDEX[name.replace("right", "left")], mirror]
            continue
        found = _solve(vertices, joints[:, joint], _candidates(joint, weights, vertices[0], joints[0, joint]))
        regressor[joint] = found if name.startswith("left") else (found + found[mirror]) / 2
    return regressor


def joint_errors(people: People, regressor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance [55] in metres between regressed and true joints."""
    distances = np.linalg.norm(regressor @ people.vertices - people.joints, axis=2)
    return np.asarray(distances.mean(0))


def _modes(people: People) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the principal directions of vertices [K,V,3], and what the joints [K,55,3] do with them."""
    N = len(people.vertices)
    mean, joint_mean = people.vertices.mean(0), people.joints.mean(0)
    flat = (people.vertices - mean).reshape(N, -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    combine = vectors[:, np.argsort(values)[::-1][:DIRECTIONS]].T / np.sqrt(N)
    directions = np.tensordot(combine, people.vertices - mean, 1)
    joint_directions = np.tensordot(combine, people.joints - joint_mean, 1)
    return np.concatenate([mean[None], directions]), np.concatenate([joint_mean[None], joint_directions])


def _candidates(
    joint: int, weights: NDArray[np.float64], mean: NDArray[np.float64], place: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Vertices that the joint or its parent moves, thinned evenly by their distance."""
    bones = [joint, *([PARENTS[joint]] if joint else [])]
    near = np.flatnonzero((weights[:, bones] > _MOVED).any(1))
    distance = np.linalg.norm(mean[near] - place, axis=1).round(_ALIKE)
    near = near[np.argsort(distance, kind="stable")]
    return np.unique(near[np.linspace(0, len(near) - 1, min(CANDIDATES, len(near))).astype(np.int64)])


def _solve(
    vertices: NDArray[np.float64], joint: NDArray[np.float64], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weights [V] of one joint [K,3]: the least-norm solution, by its dual of 3 K + 1 equations."""
    distance = np.linalg.norm(vertices[0, candidates] - joint[0], axis=1)
    free = 1 / (distance + _BLUR) ** 2
    free /= free.mean()
    rows = vertices[:, candidates].transpose(0, 2, 1).reshape(-1, len(candidates))
    system = np.vstack([rows, np.ones(len(candidates))])
    wanted = np.append(joint.reshape(-1), 1.0)
    gram = (system * free) @ system.T + _RIDGE * np.eye(len(wanted))
    found = free * (system.T @ np.linalg.solve(gram, wanted))
    weights = np.zeros(vertices.shape[1])
    weights[candidates] = found / found.sum()
    return weights
