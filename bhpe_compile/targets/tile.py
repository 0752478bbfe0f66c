"""Register tiles as data: which one a kernel uses, by its shape, and the tables in which measured ones are kept.

A table is a JSON file: `targets/tiles/<target>.json` in this package, or one of the user's own that `bhpe-compile tune`
wrote. A shape that is in no table gets the tile the kernel's heuristic chooses. Integers never depend on
the tile, floats at most in their rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MOST_BYTES, parse_json, read_regular

LARGEST = 32
"""Most pixels or vectors a table may ask for; more than that only makes code that takes minutes to compile."""


@dataclass(frozen=True)
class Tile:
    """`pixels` x `vectors` of output channels are accumulated at once. `channels_outside`: whether the loop over
    tiles of channels stands outside the one over pixels; None: as the size of the weights suggests."""

    pixels: int
    vectors: int
    channels_outside: bool | None = None

    def __str__(self) -> str:
        order = {None: "", True: ", channels outside", False: ", pixels outside"}[self.channels_outside]
        return f"{self.pixels}x{self.vectors}{order}"


@dataclass(frozen=True)
class Tuned:
    """A measured tile: nanoseconds a call of the kernel took with it and with the heuristic's."""

    tile: Tile
    ns: float
    default_ns: float


Tiles = Mapping[str, Tuned]
"""`Kernel.tile_key()` -> the tile to use."""

NO_TILES: Tiles = MappingProxyType({})


@cache
def packaged_tiles(table: str) -> Tiles:
    """The table of this package for a target; empty where none was measured."""
    file = files("bhpe_compile.targets") / "tiles" / f"{table}.json"
    return _parse(file.read_text(encoding="utf-8"), f"tiles/{table}.json") if file.is_file() else NO_TILES


def read_tiles(path: Path, isa: str) -> Tiles:
    """A table that `tune` wrote. UsageError: no such file, or measured for another instruction set; InputError:
    damaged."""
    try:
        content = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return _parse(content, str(path), isa)


def write_tiles(tiles: Tiles, target: str, isa: str, cpu: str) -> str:
    """The text of a table; the same tiles give the same bytes."""
    rows = {
        key: {
            "pixels": one.tile.pixels,
            "vectors": one.tile.vectors,
            "channels_outside": one.tile.channels_outside,
            "ns": round(one.ns),
            "default_ns": round(one.default_ns),
        }
        for key, one in sorted(tiles.items())
    }
    return json.dumps({"target": target, "isa": isa, "cpu": cpu, "tiles": rows}, indent=1) + "\n"


def _parse(text: str | bytes, name: str, isa: str | None = None) -> Tiles:
    try:
        document = parse_json(text)
        rows = {key: _row(row) for key, row in document["tiles"].items()}
        found = document["isa"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{name}: is no table of tiles, see `bhpe-compile tune --help`") from None
    if isa is not None and found != isa:
        raise UsageError(f"{name}: was measured for {found}, the target has {isa}; tune for this target")
    return MappingProxyType(rows)


def _row(row: Mapping[str, Any]) -> Tuned:
    pixels, vectors, outside = row["pixels"], row["vectors"], row["channels_outside"]
    if not all(type(size) is int and 1 <= size <= LARGEST for size in (pixels, vectors)):
        raise ValueError(row)
    if outside is not None and type(outside) is not bool:
        raise ValueError(row)
    return Tuned(Tile(pixels, vectors, outside), float(row["ns"]), float(row["default_ns"]))
