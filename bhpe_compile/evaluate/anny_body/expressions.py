"""Expression: random mixes of facial actions -> ten principal directions; the neutral face is the origin,
and a positive coefficient shows more of what faces show on average.

Actions that joints do in SMPL-X (looking, moving the jaw) are left out, and the tongue, which is seldom seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.shapes import principal_directions
from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.anny_body.tpose import TPose

FACES = 300
_ACTIVE = 0.15
"""Part of the actions that one face shows."""

_JOINTS_DO = ("eyeLook", "jaw", "mouthClose", "tongue")


def expression_directions(anny: Anny, tpose: TPose, rng: np.random.Generator) -> NDArray[np.float64]:
    """Directions [V,3,10] in the T-pose, a coefficient's root mean square being 1."""
    used = [name for name in anny.actions if not name.startswith(_JOINTS_DO)]
    shown = rng.uniform(size=(FACES, len(used))) < _ACTIVE
    strengths = rng.uniform(0, 1, (FACES, len(used))) * shown
    actions = np.stack([anny.actions[name] for name in used])
    faces = np.tensordot(strengths, actions, 1)
    directions = principal_directions(faces, faces.mean(0))
    return np.asarray(tpose.turn_of_vertices() @ directions)
