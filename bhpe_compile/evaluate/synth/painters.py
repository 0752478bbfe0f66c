"""The painters, by version of the generator.

2   `drawn`: flat light, clothes painted on the skin, backgrounds from formulas
3   `photo`: light and shadows, cloth, hair, lens and sensor of a camera, photographs behind the people
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.synth.scene import Painter
from bhpe_compile.evaluate.synth.streams import Split


def open_painter(version: int, body: BodyModel, split: Split, backgrounds: Sequence[Path] = ()) -> Painter:
    """The painter of a version. Raises ToolchainError where there is no OpenGL."""
    if version == 2:
        from bhpe_compile.evaluate.synth.drawn import DrawnPainter

        return DrawnPainter(body, split)
    from bhpe_compile.evaluate.synth.photo.painter import PhotoPainter

    return PhotoPainter(body, split, backgrounds)
