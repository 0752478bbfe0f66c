"""Keypoints that are vertices: chosen on the left of the mean body, mirrored to the right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.skeleton import INDEX, LANDMARKS

_COCO = {
    **{"L_Big_toe": "left_big_toe", "L_Small_toe": "left_small_toe", "L_Heel": "left_heel"},
    "L_Ear": "left_ear",
}


def keypoint_vertices(
    anny: Anny, weights: NDArray[np.float64], mean: NDArray[np.float64], joints: NDArray[np.float64]
) -> dict[str, int]:
    """Keypoint -> vertex, from skinning weights [V,55], mean body [V,3] and its joints [55,3].

    Toes, heel and ear are the vertices nearest to Anny's own keypoints; an eye is the foremost point of the
    eyeball, the nose that of the head; a finger tip is the point of the last bone that lies furthest along it.
    """
    found = {
        name: int(np.linalg.norm(mean - anny.coco[coco] @ mean, axis=1).argmin())
        for name, coco in _COCO.items()
    }
    eyeball = np.flatnonzero(weights[:, INDEX["left_eye"]] > 0.5)
    found["L_Eye"] = int(eyeball[mean[eyeball, 2].argmax()])
    head = np.flatnonzero(weights[:, INDEX["head"]] > 0.5)
    found["Nose"] = int(head[(mean[head, 2] - np.abs(mean[head, 0])).argmax()])
    for name in LANDMARKS:
        if name.startswith("L_") and name.endswith("_4"):
            last = INDEX[f"left_{name[2:-2].lower()}3"]
            along = joints[last] - joints[last - 1]
            moved = np.flatnonzero(weights[:, last] > 0.5)
            found[name] = int(moved[((mean[moved] - joints[last]) @ along).argmax()])
    left = {name: vertex for name, vertex in found.items() if name.startswith("L_")}
    return found | {f"R_{name[2:]}": int(anny.mirror[vertex]) for name, vertex in left.items()}
