"""Drawing people with OpenGL without a screen (EGL; Mesa's llvmpipe where there is no graphics card).

Pictures are drawn 1.5 times as large and averaged: with llvmpipe that costs less than its four samples a pixel, and
patterns become smooth as well as edges. Needs the package moderngl and the libraries libegl1 and libgl1-mesa-dri.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import ToolchainError
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.appearance import Appearance
from bhpe_compile.evaluate.synth.camera import View
from bhpe_compile.evaluate.synth.shaders import FRAGMENT, VERTEX

if TYPE_CHECKING:
    import moderngl

Size = tuple[int, int]
"""Width, height."""

NEAR, FAR = 0.1, 50.0
"""Metres from the camera between which something is drawn."""

DEPTH = 0.5
"""Metres before and behind a body that are drawn as well."""

HINT = "install moderngl (pip install '.[eval]') and Debian's libegl1 and libgl1-mesa-dri"


def open_context() -> moderngl.Context:
    """An OpenGL context that needs no screen. Raises ToolchainError where there is none to be had."""
    try:
        import moderngl
    except ImportError:
        raise ToolchainError(f"drawing people needs the package moderngl: {HINT}") from None
    try:
        return moderngl.create_standalone_context(backend="egl")  # type: ignore[arg-type]  # its hint is wrong
    except Exception as error:  # moderngl raises plain Exceptions, glcontext others
        raise ToolchainError(f"OpenGL through EGL does not start ({error}): {HINT}") from None


class Renderer:
    """Draws bodies of one topology, at 384x512 where nothing else is said."""

    def __init__(
        self, faces: NDArray[np.int64], rest: NDArray[np.float32], part: NDArray[np.float32]
    ) -> None:
        """`faces` [F, 3]; `rest` [V, 3] the T-pose; `part` [V, 3]: how much head, eye, arm a vertex is."""
        self._context = context = open_context()
        import moderngl

        self._cull = moderngl.CULL_FACE
        context.enable(moderngl.DEPTH_TEST)
        context.front_face = "ccw"
        self._program = context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        self._target = self._framebuffer((WIDTH, HEIGHT))
        count = len(rest)
        fixed = np.hstack([rest, part]).astype("f4")
        self._moving = context.buffer(reserve=count * 24)
        self._body = context.vertex_array(
            self._program,
            [
                (self._moving, "3f 3f", "position", "normal"),
                (context.buffer(fixed.tobytes()), "3f 3f", "rest", "part"),
            ],
            context.buffer(faces.astype("i4").tobytes()),
        )

    @property
    def device(self) -> str:
        """What draws."""
        return str(self._context.info["GL_RENDERER"])

    def draw(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        view: View,
        look: Appearance,
        skirt: tuple[NDArray[np.float32], NDArray[np.int32]] | None = None,
        size: Size | None = None,
    ) -> NDArray[np.uint8]:
        """uint8 [H, W, 4]: colours times coverage, and coverage, of a body in camera space.

        `skirt`: [N, 9] positions, normals and places on the T-pose, and triangles. `size`: (W, H); with one the body
        may be at any depth.
        """
        width, height = size or (WIDTH, HEIGHT)
        program = self._program
        for name, value in look.uniforms.items():
            self._set(name, value)
        f, (cx, cy) = view.focal, view.principal + 0.5  # pixel centres have integer coordinates
        self._set("camera", (2 * f / width, 2 * f / height, 2 * cx / width - 1, 2 * cy / height - 1))
        self._set("planes", (NEAR, FAR) if size is None else _planes(vertices))
        self._set("extra", 0)
        self._moving.write(np.hstack([vertices, normals]).astype("f4"))
        target = self._target_of((width, height))
        target.use()
        target.clear(0.0, 0.0, 0.0, 0.0)
        self._context.enable(self._cull)
        self._body.render()
        if skirt is not None:
            self._context.disable(self._cull)
            self._set("extra", 1)
            data = np.hstack([skirt[0], np.zeros((len(skirt[0]), 3))]).astype("f4")
            buffers = (
                self._context.buffer(data.tobytes()),
                self._context.buffer(skirt[1].astype("i4").tobytes()),
            )
            array = self._context.vertex_array(
                program, [(buffers[0], "3f 3f 3f 3f", "position", "normal", "rest", "part")], buffers[1]
            )
            array.render()
            for used in (array, *buffers):
                used.release()
        pixels = target.read(components=4)
        drawn = _drawn((width, height))
        large = Image.frombuffer(
            "RGBa", drawn, pixels, "raw", "RGBa", 0, -1
        )  # OpenGL's first row is the lowest
        return np.asarray(large.resize((width, height), Image.Resampling.BOX))

    def _target_of(self, size: Size) -> moderngl.Framebuffer:
        """What is drawn into; the one of the last size is kept."""
        if self._target.size != _drawn(size):
            self._target.release()
            self._target = self._framebuffer(size)
        return self._target

    def _framebuffer(self, size: Size) -> moderngl.Framebuffer:
        drawn = _drawn(size)
        return self._context.framebuffer(
            [self._context.renderbuffer(drawn, 4)], self._context.depth_renderbuffer(drawn)
        )

    def _set(self, name: str, value: Any) -> None:
        if name in self._program:  # the compiler drops what no shader uses
            self._program[name].value = value  # type: ignore[union-attr]


def _drawn(size: Size) -> Size:
    """Size that is drawn."""
    return size[0] * 3 // 2, size[1] * 3 // 2


def _planes(vertices: NDArray[np.float32]) -> tuple[float, float]:
    """The depths between which a body is, and some more."""
    depth = vertices[:, 2]
    return max(NEAR, float(depth.min()) - DEPTH), float(depth.max()) + DEPTH


def driver() -> str:
    """Name and version of the OpenGL driver. Raises ToolchainError where there is none."""
    context = open_context()
    try:
        return f"{context.info['GL_RENDERER']}, {context.info['GL_VERSION']}"
    finally:
        context.release()
