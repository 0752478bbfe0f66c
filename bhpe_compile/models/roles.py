"""What part a layer plays, by its path: the one place that knows which layers the paper binarizes."""

from __future__ import annotations

import re
from typing import Literal

Role = Literal["stem", "core", "shortcut", "box", "head"]

_CORE = re.compile(r"(^|\.)layer\d+\.\d+\.conv\d+$")
_SHORTCUT = re.compile(r"(^|\.)downsample\.0$")
_STEM = re.compile(r"(^|\.)conv1$")
_BOX = re.compile(r"(^|\.)box_net\.(deconv\.\d+|\w+_size\.\d+)$")


def layer_role(path: str) -> Role:
    """The role of the layer at `path` (with or without a `module.` prefix)."""
    if _CORE.search(path):
        return "core"
    if _SHORTCUT.search(path):
        return "shortcut"
    if _BOX.search(path):
        return "box"
    return "stem" if _STEM.search(path) else "head"
