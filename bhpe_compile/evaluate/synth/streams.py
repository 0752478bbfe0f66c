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

VERSION = 2
"""Of the generator: raised whenever the same seed would give other pictures or labels."""


def stream(seed: int, split: Split, index: int, aspect: str) -> np.random.Generator:
    """The random numbers of one aspect of one person."""
    words = (VERSION, seed & 0xFFFFFFFF, seed >> 32, SPLITS.index(split), index, zlib.crc32(aspect.encode()))
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))
