"""Random streams: person i of a split depends on (seed, split, i) and on nothing else.

Every aspect of a person (pose, shape, clothes, ...) has a stream of its own, so that a change to one draws the
others as before.
"""

from __future__ import annotations

import zlib
from typing import Literal, get_args

import numpy as np

Split = Literal["train", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)

VERSIONS = (2, 3)
"""Of the generator, one raised whenever the same seed would give other pictures or labels. Versions 2 and 3 show the
same people in the same poses before the same cameras: their labels differ only in what a thing in front hides."""

WITH_BACKGROUNDS = (3,)
"""Those that put photographs behind the people."""

VERSION = 2
"""The one that is used where none is named: the embedded models learned from it and are measured on it."""

WORLD = 2
"""The first word of every stream, shared by all of `VERSIONS`."""


def stream(seed: int, split: Split, index: int, aspect: str) -> np.random.Generator:
    """The random numbers of one aspect of one person."""
    words = (WORLD, seed & 0xFFFFFFFF, seed >> 32, SPLITS.index(split), index, zlib.crc32(aspect.encode()))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))
