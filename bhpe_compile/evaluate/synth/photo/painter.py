"""Version 3 of the generator, from a posed body to a photograph of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.synth.backgrounds import sample_background
from bhpe_compile.evaluate.synth.occluders import put_in_front
from bhpe_compile.evaluate.synth.photo import lens, sensor
from bhpe_compile.evaluate.synth.photo.garment import Garments
from bhpe_compile.evaluate.synth.photo.ground import foot_of, shaded, upright
from bhpe_compile.evaluate.synth.photo.light import Light, sample_light
from bhpe_compile.evaluate.synth.photo.look import sample_look
from bhpe_compile.evaluate.synth.photo.occlusion import open_sky
from bhpe_compile.evaluate.synth.photo.renderer import PhotoRenderer
from bhpe_compile.evaluate.synth.photo.scenery import sample_scenery
from bhpe_compile.evaluate.synth.scene import Scene
from bhpe_compile.evaluate.synth.skirt import Skirt
from bhpe_compile.evaluate.synth.streams import Split
from bhpe_compile.evaluate.synth.surface import measure, vertex_parts

TINT_OF_PHOTOGRAPHS, TINT_OF_FORMULAS = 0.45, 0.25
"""How much of a background's colour the light takes: formulas are more colourful than anything real."""


class PhotoPainter:
    """Paints the people of one split before photographs, or before the backgrounds of version 2."""

    def __init__(self, body: BodyModel, split: Split, backgrounds: Sequence[Path] = ()) -> None:
        """Raises ToolchainError where there is no OpenGL."""
        self._split: Split = split
        self._backgrounds = tuple(backgrounds)
        self._measures = measure(body)
        self._garments = Garments(body, self._measures)
        self._skirt = Skirt(body)
        self._renderer = PhotoRenderer(body.faces.numpy(), body.v_template.numpy(), vertex_parts(body))

    def paint(self, scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The picture, uint8 [512, 384, 3], and which keypoints a thing in front hides, bool [65]."""
        photograph = sample_scenery(scene.stream("photo background"), self._backgrounds)
        background = (
            sample_background(scene.stream("background"), self._split) if photograph is None else photograph
        )
        tint = TINT_OF_FORMULAS if photograph is None else TINT_OF_PHOTOGRAPHS
        up = upright(scene.rotations[0])
        light = sample_light(scene.stream("photo light"), up, background, tint)
        person, shadows = self._drawn(scene, light, up)
        background = lens.depth_of_field(scene.stream("photo focus"), background)
        background = shaded(scene.stream("photo ground"), background, shadows, light)
        layer = Image.frombytes("RGBA", person.shape[1::-1], person.tobytes())
        front = np.asarray(lens.movement(scene.stream("photo movement"), layer, 0.15))
        rest = np.uint16(255) - front[..., 3:]
        image = front[..., :3] + ((background * rest + 127) // 255).astype(np.uint8)
        hidden = np.zeros(len(scene.keypoints), bool)
        if scene.frame is None:
            image, hidden = put_in_front(scene.stream("occluder"), image, scene.keypoints)
        image = self._taken(scene, image)
        return image, hidden

    def _drawn(
        self, scene: Scene, light: Light, up: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        look = sample_look(scene, self._split, self._measures)
        dressed = self._garments.dress(scene.placed, look.uniforms, up)
        skirt = None
        if look.skirt is not None:
            skirt = self._skirt(scene.rotations, scene.joints, scene.betas, look.skirt)
        sky = open_sky(dressed.positions, dressed.normals, None if skirt is None else skirt[0][:, :3])
        state = np.stack([self._garments.soften(sky), dressed.cloth, dressed.squeezed], 1)
        foot = foot_of(dressed.positions, up)
        return self._renderer.draw(
            dressed.positions, dressed.normals, state, scene.view, look, light, foot, skirt
        )

    @staticmethod
    def _taken(scene: Scene, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Through the lens, on the sensor, into a file."""
        rng = scene.stream("photo lens")
        image = lens.vignette(
            rng, np.asarray(lens.apart(rng, lens.movement(rng, Image.fromarray(image), 0.12)))
        )
        noise = scene.stream("photo noise" if scene.frame is None else f"photo noise {scene.frame}")
        return sensor.expose(scene.stream("photo sensor"), image, noise)
