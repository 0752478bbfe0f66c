"""Version 2 of the generator: flat light, clothes painted on the skin, backgrounds from formulas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.synth.appearance import sample_appearance
from bhpe_compile.evaluate.synth.backgrounds import sample_background
from bhpe_compile.evaluate.synth.occluders import put_in_front
from bhpe_compile.evaluate.synth.render import Renderer
from bhpe_compile.evaluate.synth.scene import Scene
from bhpe_compile.evaluate.synth.sensor import expose
from bhpe_compile.evaluate.synth.skirt import Skirt
from bhpe_compile.evaluate.synth.streams import Split
from bhpe_compile.evaluate.synth.surface import measure, normals, vertex_parts


class DrawnPainter:
    """Paints the people of one split."""

    def __init__(self, body: BodyModel, split: Split) -> None:
        """Raises ToolchainError where there is no OpenGL."""
        self._split: Split = split
        self._faces = body.faces
        self._skirt = Skirt(body)
        self.measures = measure(body)
        self.renderer = Renderer(body.faces.numpy(), body.v_template.numpy(), vertex_parts(body))

    def paint(self, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Background, person, occluder, camera; and which keypoints the occluder hides."""
        look = sample_appearance(scene.stream("appearance"), self._split, self.measures)
        skirt = None
        if look.skirt is not None:
            skirt = self._skirt(scene.rotations, scene.joints, scene.betas, look.skirt)
        shading = normals(scene.vertices, self._faces)
        drawn = self.renderer.draw(scene.placed, shading, scene.view, look, skirt)
        background = sample_background(scene.stream("background"), self._split)
        rest = np.uint16(255) - drawn[..., 3:]
        image = drawn[..., :3] + ((background * rest + 127) // 255).astype(np.uint8)
        if scene.frame is not None:
            noise = scene.stream(f"frame {scene.frame}")
            return expose(scene.stream("sensor"), image, noise), np.zeros(len(scene.keypoints), bool)
        image, hidden = put_in_front(scene.stream("occluder"), image, scene.keypoints)
        return expose(scene.stream("sensor"), image), hidden
