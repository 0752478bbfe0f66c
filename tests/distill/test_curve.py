"""The curve of a run: a short one shows points, and nothing lies over the curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from bhpe_compile.distill.curve import draw

NAMES = ("joints", "boxes", "hands", "shape", "skeleton")


def entry(number: int) -> dict[str, float]:
    values = {name: 2.0**k / (number + 1) for k, name in enumerate(NAMES)}
    return {"step": number, "images": 64 * number, "lr": 1e-3 / (number + 1), "loss": 3.0, **values}


def coloured(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Where the picture is neither white, black nor grey."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.int16)
    return np.asarray(np.ptp(pixels, axis=2) > 60)


def test_a_run_of_one_entry_shows_its_points(tmp_path: Path) -> None:
    draw([entry(1)], tmp_path / "curve.png", "one")
    found = coloured(tmp_path / "curve.png")
    left = found[:, : int(0.8 * found.shape[1])]  # the legend stands to the right
    assert left.sum() > 20 * len(NAMES)


def test_the_legend_stands_beside_the_curves(tmp_path: Path) -> None:
    draw([entry(number) for number in range(1, 200)], tmp_path / "curve.png", "many")
    found = coloured(tmp_path / "curve.png")
    lower = found[found.shape[0] // 2 :]
    columns = np.flatnonzero(lower.any(axis=0))
    gaps = np.flatnonzero(np.diff(columns) > 5)
    assert len(gaps) >= 1  # between the ends of the curves and the legend's lines
    assert columns[gaps[-1]] > 0.7 * found.shape[1]
