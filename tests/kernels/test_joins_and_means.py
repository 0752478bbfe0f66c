"""Kernels that join maps and take means of them: equal to NumPy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from bhpe_compile.kernels import JoinChannels, MapMean
from bhpe_compile.targets.isa import VectorIsa
from tests.kernels.native import NATIVE, run


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("channels", [(16, 16), (3, 40, 1), (200, 13)])
def test_join(isa: VectorIsa, channels: tuple[int, ...]) -> None:
    kernel = JoinChannels(2 * 3 * 5, channels, (2, 3, 5))
    generator = np.random.default_rng(0)
    arrays = {
        f"x{k}": generator.standard_normal((2, 3, 5, size)).astype(np.float32)
        for k, size in enumerate(channels)
    }
    want = kernel.reference(**arrays)["out"]
    assert want.shape == (2, 3, 5, sum(channels))
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], want)


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("channels", [1, 13, 64, 200])
@pytest.mark.parametrize("flat", [False, True])
def test_mean(isa: VectorIsa, channels: int, flat: bool) -> None:
    kernel = MapMean(2, 5, 7, channels, flat)
    x = np.random.default_rng(channels).standard_normal((2, 5, 7, channels)).astype(np.float32)
    want = kernel.reference(x=x)["out"]
    np.testing.assert_allclose(want.reshape(2, -1), x.mean((1, 2)), atol=1e-6)  # another order of 35 terms
    np.testing.assert_array_equal(run(kernel, isa, {"x": x})["out"], want)
