"""A small body in the SMPL-X layout and people made up from a seed: no file of anybody's, no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.rig import PARENTS
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.synth import store
from bhpe_compile.evaluate.synth.sensor import jpeg
from bhpe_compile.files import sha256
from tests.evaluate.bodies import keypoint_field, random_fields, write

VERTICES_PER_JOINT = 4
V = 55 * VERTICES_PER_JOINT


def write_body(path: Path, seed: int = 0, hands_mean: float = 0.0) -> Path:
    """A body of 220 vertices: four around each joint, moved by it (mostly)."""
    rng = np.random.default_rng(seed)
    joints = np.zeros((55, 3))
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            joints[joint] = joints[parent] + rng.normal(0, 0.1, 3)
    own = np.repeat(np.arange(55), VERTICES_PER_JOINT)
    weights = np.full((V, 55), 0.002)
    weights[np.arange(V), own] += 1 - 55 * 0.002
    regressor = np.zeros((55, V))
    regressor[own, np.arange(V)] = 1 / VERTICES_PER_JOINT
    fields = random_fields(seed, V) | {
        "v_template": joints[own] + rng.normal(0, 0.03, (V, 3)),
        "posedirs": np.zeros((V, 3, 486)),
        "J_regressor": regressor,
        "weights": weights,
        "hands_meanl": np.full(45, hands_mean),
        "hands_meanr": np.full(45, hands_mean),
        "keypoint_vertices": keypoint_field(V),
    }
    return write(path, fields)


def make_labels(seed: int) -> Labels:
    """A random person; boxes anywhere."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (3, 2))

    def floats(array: Any) -> NDArray[np.float32]:
        return np.asarray(array, np.float32)

    return Labels(
        pose=floats(rng.normal(0, 0.3, (55, 3))),
        betas=floats(rng.normal(0, 1, 10)),
        expression=floats(rng.normal(0, 1, 10)),
        translation=floats([0, 0, 3]),
        focal=floats([800, 800]),
        principal=floats([192, 256]),
        keypoints=floats(rng.uniform(0, 300, (65, 3))),
        visible=np.ones(65, bool),
        boxes=floats(np.concatenate([corner, corner + rng.uniform(20, 60, (3, 2))], 1)),
    )


def write_set(folder: Path, body: Path, count: int = 3, seed: int = 0, film: int = 1) -> Path:
    """A folder as `data synth` writes them, with made-up people."""
    config = store.Config(count, seed, "test", sha256(body), 1, {}, film=film)
    people = MadeUpSet(count, seed)
    store.prepare(folder, config)
    labels = ({name: np.asarray(v) for name, v in vars(people.labels(i)).items()} for i in range(count))
    store.write_shard(folder, 0, ((jpeg(people.image(i)), one) for i, one in enumerate(labels)), 0)
    store.finish(folder, config)
    return folder


@dataclass
class MadeUpSet:
    """People 0 .. count - 1 of a seed, with clouds for pictures."""

    count: int = 5
    seed: int = 0
    name: str = "made up"
    body: Path | None = None

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> NDArray[np.uint8]:
        """Blocks of 32 pixels in random colours."""
        blocks = np.random.default_rng([self.seed, index]).integers(0, 256, (16, 12, 3), np.uint8)
        return np.ascontiguousarray(blocks.repeat(32, 0).repeat(32, 1))

    def labels(self, index: int) -> Labels:
        """A random person."""
        return make_labels(1000 * self.seed + index)

    def vertices(self, index: int) -> None:
        """Pose and shape are known."""
