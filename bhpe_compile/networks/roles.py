"""What part a layer plays, by its path: the one place that knows which layers the paper binarizes."""

from __future__ import annotations

import re
from typing import Literal

Role = Literal["stem", "core", "shortcut", "box", "head"]

_CORE = re.compile(r"(^|\.)layer\d+\.\d+\.conv\d+$")
_SHORTCUT = re.compile(r"(^|\.)downsample\.0$")
_STEM = re.compile(r"(^|\.)conv1$")
_BOX = re.compile(r"(^|\.)box_net\.(deconv\.\d+|\w+_size\.\d+)$")
_OUTPUT = re.compile(r"(^|\.)(\w+_out\.\d+|\w+_position_net\.conv\.0|bbox_center\.0|\w+_size\.2)$")


def layer_role(path: str) -> Role:
    """The role of the layer at `path` (with or without a `module.` prefix)."""
    if _CORE.search(path):
        return "core"
    if _SHORTCUT.search(path):
        return "shortcut"
    if _BOX.search(path):
        return "box"
    return "stem" if _STEM.search(path) else "head"


def is_output(path: str) -> bool:
    """Whether the layer at `path` computes an output of the network (joints, rotations, boxes) by itself."""
    return bool(_OUTPUT.search(path))
