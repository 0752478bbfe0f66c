"""A folder of pictures without labels, each with one person who fills it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import UsageError
from bhpe_compile.runtime.picture import load_picture

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


class Folder:
    """The pictures of a folder, by name; each is cut as `bhpe-compile run` cuts it, the whole picture being the box."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        self.name = f"pictures of {path.name}"
        self._paths = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not self._paths:
            raise UsageError(f"{path}: holds no picture ({', '.join(sorted(SUFFIXES))})")

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [512, 384, 3]."""
        picture = load_picture(self._paths[index]).network_input[0]
        return (picture.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8)
