"""Whatever tile a kernel is given, it computes the same: the tile only orders the work."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import BinaryConv2d, BinaryConvTranspose2d, DenseConv2d
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.targets.isa import AVX512, NEON, VectorIsa
from bhpe_compile.targets.tile import Tile
from tests.kernels import strategies
from tests.kernels.native import NATIVE
from tests.kernels.test_binary import FEW, SEEDS, check
from tests.kernels.test_dense import check as check_dense

TILES = st.builds(Tile, st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, True, False]))


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(kernel=strategies.binary_convs(plain=True), tile=TILES, seed=SEEDS)
def test_binary_convolution(isa: VectorIsa, kernel: BinaryConv2d, tile: Tile, seed: int) -> None:
    check(replace(kernel, tile=tile), isa, seed)


@pytest.mark.parametrize("isa", NATIVE)
@settings(FEW, max_examples=6)
@given(kernel=strategies.binary_deconvs(plain=True), tile=TILES, seed=SEEDS)
def test_binary_transposed_convolution(
    isa: VectorIsa, kernel: BinaryConvTranspose2d, tile: Tile, seed: int
) -> None:
    check(replace(kernel, tile=tile), isa, seed)


@pytest.mark.parametrize("isa", NATIVE)
@settings(FEW, max_examples=8)
@given(kernel=strategies.dense_convs(), tile=TILES, seed=SEEDS)
def test_float_convolution(isa: VectorIsa, kernel: DenseConv2d, tile: Tile, seed: int) -> None:
    check_dense(replace(kernel, tile=tile), isa, seed)


@given(
    kernel=st.one_of(
        strategies.binary_convs(plain=False), strategies.binary_deconvs(plain=False), strategies.dense_convs()
    )
)
def test_heuristic_is_a_tile_of_the_kernel(kernel: Kernel) -> None:
    """And the key does not depend on it: a table is found whatever is on the node already."""
    for isa in (AVX512, NEON):
        default, whole = kernel.default_tile(isa), kernel.whole_tile(isa)
        assert default is not None
        assert whole is not None
        assert 1 <= default.pixels <= whole.pixels
        assert 1 <= default.vectors <= whole.vectors
    again = replace(kernel, tile=Tile(3, 5, True))  # type: ignore[type-var]
    assert (again.tile_key(), again.symbol()) == (kernel.tile_key(), kernel.symbol())
