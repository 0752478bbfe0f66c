"""A film of two drawn people who pass each other, made once by the real command line, and small made-up films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.command import bhpe
from tests.shared import made_once

FRAMES = 64
"""The two walkers cross at about frame 40 and are apart again at the end."""


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """walk.mp4; walk.txt beside it says where the two are."""
    pytest.importorskip("anny")
    pytest.importorskip("av")

    def make(folder: Path) -> None:
        outcome = bhpe("data", "film", folder / "walk.mp4", "--frames", str(FRAMES), LP_NUM_THREADS="0")
        assert outcome.code == 0, outcome.stderr

    return made_once(tmp_path_factory, "walk", make) / "walk.mp4"


def shade(number: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """Frame `number` of a made-up film: one grey, brighter from frame to frame."""
    return np.full((size[1], size[0], 3), 40 + 5 * number, np.uint8)
