"""Finding the fastest register tile of each convolution by measuring, on this machine or on a board.

lowered graphs -> distinct shapes -> about ten candidate tiles each -> one module -> times -> a table for the target
"""

from __future__ import annotations

from bhpe_compile.search.tiles.candidates import candidates
from bhpe_compile.search.tiles.shapes import Shape, shapes_of
from bhpe_compile.search.tiles.tune import Measured, tune, winners
from bhpe_compile.search.tiles.workplace import Here, There, Workplace

__all__ = ["Here", "Measured", "Shape", "There", "Workplace", "candidates", "shapes_of", "tune", "winners"]
