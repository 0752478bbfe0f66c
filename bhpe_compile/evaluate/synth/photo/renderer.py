"""Draws clothed bodies with light and shadows, and the shadows they cast on the ground; OpenGL as `synth/render.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.appearance import Appearance
from bhpe_compile.evaluate.synth.camera import View
from bhpe_compile.evaluate.synth.photo import shaders
from bhpe_compile.evaluate.synth.photo.grain import SIDE, grain
from bhpe_compile.evaluate.synth.photo.light import Light
from bhpe_compile.evaluate.synth.render import FAR, NEAR, open_context

if TYPE_CHECKING:
    import moderngl

Array = NDArray[np.float32]

DRAWN = WIDTH * 5 // 4, HEIGHT * 5 // 4
"""The picture is drawn 1.25 times as large and averaged; the sensor softens what is left of the steps."""

SMALL = WIDTH // 2, HEIGHT // 2
"""Shadows on the ground."""

LAYERS = 2
"""Of hair, above the head."""

FADE = 0.12
"""Metres above the ground where what stands there hardly darkens it any more."""


class PhotoRenderer:
    """Draws bodies of one topology at 384x512."""

    def __init__(self, faces: NDArray[np.int64], rest: Array, part: Array) -> None:
        """`faces` [F, 3]; `rest` [V, 3] the T-pose; `part` [V, 3]: how much head, eye, arm a vertex is."""
        import moderngl

        self._gl = moderngl
        self._context = context = open_context()
        context.front_face = "ccw"
        self._main = context.program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.FRAGMENT)
        self._flat = context.program(vertex_shader=shaders.FLAT_VERTEX, fragment_shader=shaders.FLAT_FRAGMENT)
        self._ground = context.program(
            vertex_shader=shaders.GROUND_VERTEX, fragment_shader=shaders.GROUND_FRAGMENT
        )
        self._target = context.framebuffer(
            [context.renderbuffer(DRAWN, 4)], context.depth_renderbuffer(DRAWN)
        )
        self._small = context.framebuffer([context.renderbuffer(SMALL, 4)])
        self._shadow = context.depth_texture((shaders.SHADOWS, shaders.SHADOWS))
        self._shadow.compare_func = "<="
        self._shadow.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._shadow.repeat_x = self._shadow.repeat_y = False
        self._cast = context.framebuffer(depth_attachment=self._shadow)
        self._grain = context.texture3d((SIDE, SIDE, SIDE), 4, grain().astype("f2").tobytes(), dtype="f2")
        self._grain.filter = (moderngl.LINEAR, moderngl.LINEAR)
        head = part[:, 0] > 0.5
        hair = faces[head[faces].all(1) & (part[faces, 1] < 0.5).all(1)]
        self._count = len(rest)
        self._positions = context.buffer(reserve=self._count * 12)
        self._moving = context.buffer(reserve=self._count * 24)
        fixed = context.buffer(np.hstack([rest, part]).astype("f4").tobytes())
        index = context.buffer(faces.astype("i4").tobytes())
        content = [
            (self._positions, "3f", "position"),
            (self._moving, "3f 3f", "normal", "state"),
            (fixed, "3f 3f", "rest", "part"),
        ]
        self._body = context.vertex_array(self._main, content, index)
        self._hair = context.vertex_array(self._main, content, context.buffer(hair.astype("i4").tobytes()))
        self._shape = [
            context.vertex_array(program, [(self._positions, "3f", "position")], index)
            for program in (self._flat, self._ground)
        ]

    def draw(
        self,
        positions: Array,
        normals: Array,
        state: Array,
        view: View,
        look: Appearance,
        light: Light,
        foot: NDArray[np.float64],
        skirt: tuple[Array, NDArray[np.int32]] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The person, uint8 [512, 384, 4] (colours times coverage, and coverage), and the shadows on the ground,
        uint8 [256, 192, 2] (cast, and where something stands).

        `state` [V, 3]: sky that is seen, cloth, squeezed. `foot`: a point of the ground. `skirt` as in version 2.
        """
        gl, context = self._gl, self._context
        self._positions.write(positions.astype("f4").tobytes())
        self._moving.write(np.hstack([normals, state]).astype("f4").tobytes())
        f, (cx, cy) = view.focal, view.principal + 0.5
        camera = (2 * f / WIDTH, 2 * f / HEIGHT, 2 * cx / WIDTH - 1, 2 * cy / HEIGHT - 1)
        everything = positions if skirt is None else np.concatenate([positions, skirt[0][:, :3]])
        to_sun = _sun_matrix(everything, light.sun)
        for program in (self._main, self._ground):
            _set(program, {"camera": camera, "planes": (NEAR, FAR), "up": tuple(light.up)})
        _set(self._flat, {"to_sun": to_sun})
        fixed = {"to_sun": to_sun, "extra": 0, "shell": 0.0, "grain": 0, "shadow": 1}
        _set(self._main, {**look.uniforms, **light.uniforms(), **fixed})
        extra = self._skirt(skirt) if skirt is not None else None

        context.enable_only(gl.DEPTH_TEST)
        self._cast.use()
        self._cast.clear(depth=1.0)
        self._shape[0].render()
        if extra is not None:
            extra[1].render()

        context.enable_only(gl.BLEND)
        context.blend_func = gl.ONE, gl.ONE
        context.blend_equation = gl.MAX
        self._small.use()
        self._small.clear(0.0, 0.0, 0.0, 0.0)
        _set(self._ground, {"foot": tuple(foot)})
        for along, fade, channel in ((light.sun, 0.0, 0), (light.up, FADE, 1)):
            chosen = tuple(float(k == channel) for k in range(4))
            _set(self._ground, {"along": tuple(along), "fade": fade, "channel": chosen})
            self._shape[1].render()
            if extra is not None:
                extra[2].render()
        shadows = np.frombuffer(self._small.read(components=2), np.uint8).reshape(SMALL[1], SMALL[0], 2)

        self._shadow.use(1)
        self._grain.use(0)
        self._target.use()
        self._target.clear(0.0, 0.0, 0.0, 0.0)
        context.enable_only(gl.DEPTH_TEST | gl.CULL_FACE)
        self._body.render()
        if look.uniforms["shells"] > 0:
            for layer in range(1, LAYERS + 1):
                share = layer / LAYERS
                _set(self._main, {"shell": share * look.uniforms["shells"], "shell_share": 0.3 + 0.5 * share})
                self._hair.render()
            _set(self._main, {"shell": 0.0})
        if extra is not None:
            context.enable_only(gl.DEPTH_TEST)
            _set(self._main, {"extra": 1})
            extra[0].render()
            for used in extra:
                used.release()
        large = Image.frombuffer("RGBa", DRAWN, self._target.read(components=4), "raw", "RGBa", 0, -1)
        return np.asarray(large.resize((WIDTH, HEIGHT), Image.Resampling.BOX)), shadows[::-1]

    def _skirt(self, skirt: tuple[Array, NDArray[np.int32]]) -> list[moderngl.VertexArray]:
        """Arrays of a skirt for the three programs."""
        data, triangles = skirt
        fixed = np.tile(np.array([0, 0, 0, 0.9, 1, 0.1], np.float32), (len(data), 1))
        buffer = self._context.buffer(np.hstack([data, fixed]).astype("f4").tobytes())
        places = self._context.buffer(np.ascontiguousarray(data[:, :3]).astype("f4").tobytes())
        index = self._context.buffer(triangles.astype("i4").tobytes())
        whole = [(buffer, "3f 3f 3f 3f 3f", "position", "normal", "rest", "part", "state")]
        return [
            self._context.vertex_array(self._main, whole, index),
            self._context.vertex_array(self._flat, [(places, "3f", "position")], index),
            self._context.vertex_array(self._ground, [(places, "3f", "position")], index),
        ]


def _set(program: moderngl.Program, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in program:  # the compiler drops what no shader uses
            program[name].value = value  # type: ignore[union-attr]


def _sun_matrix(points: Array, sun: NDArray[np.float64]) -> tuple[float, ...]:
    """16 numbers, by columns: camera space to the cube [0, 1] of the shadow map, 0 nearest to the sun."""
    helper = np.array([1.0, 0, 0]) if abs(sun[0]) < 0.9 else np.array([0, 1.0, 0])
    across = np.cross(helper, sun)
    across /= np.linalg.norm(across)
    frame = np.stack([across, np.cross(sun, across), -sun])
    places = points @ frame.T
    low, high = places.min(0) - 0.03, places.max(0) + 0.03
    matrix = np.eye(4)
    matrix[:3, :3] = frame / (high - low)[:, None]
    matrix[:3, 3] = -low / (high - low)
    return tuple(matrix.T.ravel())
