"""A folder of pictures without labels, each with one person who fills it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import UsageError
from bhpe_compile.evaluate.frame import framed
from bhpe_compile.files import find_pictures, sha256
from bhpe_compile.runtime.picture import load_picture


class Folder:
    """The pictures of a folder, by name; each is cut as `bhpe-compile run` cuts it, the whole picture being the box."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        self.name = f"pictures of {path.name}"
        self._paths = find_pictures([path])

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of all pictures."""
        listed = "".join(f"{path.name} {sha256(path)}\n" for path in self._paths)
        return hashlib.sha256(listed.encode()).hexdigest()

    def image(self, index: int) -> NDArray[np.uint8]:
        """uint8 [512, 384, 3]."""
        picture = framed(load_picture(self._paths[index])).tensor[0]
        return np.asarray(picture.transpose(1, 2, 0) * 255 + 0.5, np.uint8)
