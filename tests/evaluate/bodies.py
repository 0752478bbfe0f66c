"""Small made-up bodies in the SMPL-X npz layout; every array random, so that no term of the algebra is zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.rig import PARENTS
from bhpe_compile.evaluate.body_file import KEYPOINT_DTYPE
from bhpe_compile.evaluate.skeleton import LANDMARKS

Fields = dict[str, NDArray[Any]]


def random_fields(seed: int = 0, vertices: int = 90, coefficients: int = 20) -> Fields:
    """All fields a body needs. Sizes are those of a person: metres, directions of centimetres."""
    rng = np.random.default_rng(seed)
    regressor = rng.random((55, vertices)) ** 8
    weights = rng.random((vertices, 55)) ** 8
    return {
        "v_template": rng.normal(size=(vertices, 3)) * 0.4,
        "f": rng.integers(0, vertices, (2 * vertices, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(vertices, 3, coefficients)) * 0.01,
        "posedirs": rng.normal(size=(vertices, 3, 486)) * 0.002,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(55)], np.uint32),
        "hands_componentsl": np.eye(45),
        "hands_componentsr": np.eye(45),
        "hands_meanl": rng.normal(size=45) * 0.2,
        "hands_meanr": rng.normal(size=45) * 0.2,
        "lmk_faces_idx": rng.integers(0, vertices, 51),
        "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": rng.integers(0, vertices, (79, 17)),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
    }


def keypoint_field(vertices: int = 90) -> NDArray[Any]:
    """Some vertex for every landmark."""
    return np.array([(name, (7 * i) % vertices) for i, name in enumerate(LANDMARKS)], KEYPOINT_DTYPE)


def write(path: Path, fields: Fields) -> Path:
    """The npz."""
    np.savez(path, **fields)  # type: ignore[arg-type]
    return path
