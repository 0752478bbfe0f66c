"""Convolutions get the register tile that was measured to be fastest for their shape.

A tile is how many pixels and how many vectors of output channels are accumulated at once. It changes the order in
which outputs are computed, not the outputs: every sum is taken over the same words in the same order. (One exception,
within rounding: float layers of a single pixel split a sum over idle registers, of which the tile leaves more or
fewer.) A shape in the target's table gets the tile of the table, written as attributes of its node; for any other the
kernel's heuristic decides when code is generated.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from bhpe_compile.passes.base import Note, Pass, PassResult
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import NO_TILES, Tile, Tiles


class ChooseTiles(Pass[ir.Model]):
    """Table entries become node attributes. Without `isa` notes do not say what the heuristic chooses."""

    name: ClassVar[str] = "choose-tiles"
    summary: ClassVar[str] = "take measured register tiles from the target's table"
    requires: ClassVar[tuple[str, ...]] = ("packed activations",)

    def __init__(self, tiles: Tiles = NO_TILES, isa: VectorIsa | None = None) -> None:
        self.tiles = tiles
        self.isa = isa

    def call(self, graph: ir.Model) -> PassResult[ir.Model]:
        notes: list[Note] = []
        modified = False
        for node in self.visit(graph.graph):
            if not g.is_kernel(node):
                continue
            kernel = describe(node)
            key = kernel.tile_key()
            if key is None:
                continue
            layer = g.text(node, "layer")
            if key in self.tiles:
                tile = self.tiles[key].tile
                modified |= _write(node, tile)
                notes.append(self.applied(layer, f"tile {tile} from the table"))
            else:
                default = kernel.default_tile(self.isa) if self.isa is not None else None
                chosen = f"tile {default} by the heuristic" if default else "the heuristic chooses the tile"
                notes.append(self.refused(layer, f"{chosen}: {key} is not in the table"))
        return PassResult(graph, modified, tuple(notes))


def _write(node: ir.Node, tile: Tile) -> bool:
    """Put a tile on a node; False when it was there already."""
    facts = {"tile_pixels": tile.pixels, "tile_vectors": tile.vectors}
    if tile.channels_outside is not None:
        facts["tile_channels_outside"] = int(tile.channels_outside)
    old = {name: attr.as_int() for name, attr in node.attributes.items() if name.startswith("tile_")}
    if old == facts:
        return False
    for name in old:
        node.attributes.pop(name)
    for attribute in ir.convenience.convert_attributes(facts):
        node.attributes[attribute.name] = attribute
    return True
