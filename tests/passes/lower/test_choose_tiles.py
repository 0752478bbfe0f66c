"""choose-tiles writes the table's tile on nodes of a known shape and leaves the others to the heuristic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.passes.base import Note
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.passes.lower.choose_tiles import ChooseTiles
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.targets.isa import AVX512
from bhpe_compile.targets.tile import Tile, Tuned
from tests.passes.lower.evaluate import evaluate
from tests.passes.lower.graphs import Builder, small_network

KEY = "binary_conv2d_n1_4x6_16to32_k3s1"


def lowered(padding: int = 1) -> ir.Model:
    """One binary convolution, through all passes but the last."""
    b = Builder()
    y = b.binary_conv(b.input("image", (1, 16, 4, 6)), "conv", 16, 32, padding=padding)
    model = b.build(y)
    for one in lower_passes()[:-1]:
        one(model)
    return model


def table(tile: Tile, key: str = KEY) -> dict[str, Tuned]:
    return {key: Tuned(tile, 80, 100)}


def conv(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if g.is_kernel(node, "BinaryConv2d"))


def test_before_and_after() -> None:
    model = lowered()
    before = g.facts_of(conv(model))
    result = ChooseTiles(table(Tile(3, 2, True)), AVX512)(model)
    assert result.modified
    assert result.notes == (Note("choose-tiles", "conv", True, "tile 3x2, channels outside from the table"),)
    written = {"tile_pixels": 3, "tile_vectors": 2, "tile_channels_outside": 1}
    assert g.facts_of(conv(model)) == before | written
    assert describe(conv(model)).tile == Tile(3, 2, True)


def test_other_shapes_are_left_to_the_heuristic() -> None:
    model = lowered(padding=0)  # 2x4 outputs
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    result = ChooseTiles(table(Tile(3, 2)), AVX512)(model)
    assert not result.modified
    reason = "tile 4x2 by the heuristic: binary_conv2d_n1_2x4_16to32_k3s1 is not in the table"
    assert result.notes == (Note("choose-tiles", "conv", False, reason),)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert describe(conv(model)).tile is None


def test_without_a_target_the_note_names_no_tile() -> None:
    (note,) = ChooseTiles()(lowered()).notes
    assert note.reason == f"the heuristic chooses the tile: {KEY} is not in the table"


def test_equivalence() -> None:
    """The same values: a kernel's definition does not know its tile. The code is compared in tests/kernels."""
    model = small_network(height=32, width=32)
    for one in lower_passes()[:-1]:
        one(model)
    image = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = evaluate(model, {"image": image})
    keys = {describe(node).tile_key() for node in model.graph if g.is_kernel(node)} - {None}
    ChooseTiles({key: Tuned(Tile(2, 3), 1, 2) for key in keys})(model)
    assert sum("tile_pixels" in node.attributes for node in model.graph) >= 5
    for got, want in zip(evaluate(model, {"image": image}), expected, strict=True):
        np.testing.assert_array_equal(got, want)


@settings(max_examples=20)
@given(
    tiles=st.lists(
        st.builds(Tile, st.integers(1, 8), st.integers(1, 8), st.sampled_from([None, True, False])),
        min_size=2,
        max_size=2,
    )
)
def test_idempotence_and_change(tiles: list[Tile]) -> None:
    """A second run changes nothing; another table replaces the tile, leaving nothing of the first."""
    model = lowered()
    for tile in tiles:
        ChooseTiles(table(tile))(model)
        assert not ChooseTiles(table(tile))(model).modified
        assert describe(conv(model)).tile == tile


def test_it_runs_last() -> None:
    assert [one.name for one in lower_passes()][-1] == "choose-tiles"
