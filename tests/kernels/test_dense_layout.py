"""Float weights in panels and the float reference, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import dense_layout as layout
from bhpe_compile.kernels.window import Window, convolution, deconvolution_phase
from bhpe_compile.targets.isa import AVX2, AVX512, ISAS, VectorIsa


@pytest.mark.parametrize(
    ("outputs", "wide", "narrow"), [(1, 4, 4), (4, 4, 4), (5, 8, 8), (8, 8, 8), (9, 16, 8), (100, 16, 8)]
)
def test_a_few_outputs_take_a_narrow_panel(outputs: int, wide: int, narrow: int) -> None:
    assert layout.panel_lanes(outputs, AVX512) == wide
    assert layout.panel_lanes(outputs, AVX2) == narrow


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@settings(max_examples=10)
@given(
    outputs=st.integers(1, 40), taps=st.integers(1, 4), channels=st.integers(1, 5), seed=st.integers(0, 1000)
)
def test_weights_lie_lane_by_lane(
    isa: VectorIsa, dtype: str, outputs: int, taps: int, channels: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).integers(-127, 128, (outputs, taps, channels))
    found = layout.pack_floats(weights, isa, dtype)
    lanes = layout.panel_lanes(outputs, isa)
    assert (found.shape, found.dtype) == ((-(-outputs // lanes), taps * channels, lanes), np.dtype(dtype))
    assert found.flags.c_contiguous
    for panel, row, lane in np.ndindex(found.shape):
        o = panel * lanes + lane
        want = weights[o, row // channels, row % channels] if o < outputs else 0
        assert found[panel, row, lane] == want
    back = layout.unpack_floats(found, outputs, taps)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, weights)


@pytest.mark.parametrize(
    ("dtype", "fits", "too_large"),
    [("int8", -127.0, -128.0), ("float16", 65504.0, 65600.0), ("float16", -65504, -7e4)],
)
def test_weights_that_overflow_are_refused(dtype: str, fits: float, too_large: float) -> None:
    weights = np.ones((2, 1, 3), np.float32)
    weights[1, 0, 2] = fits
    assert fits in layout.pack_floats(weights, AVX512, dtype)
    weights[1, 0, 2] = too_large
    with pytest.raises(ValueError, match=rf"^a weight of {abs(too_large):g} does not fit {dtype}$"):
        layout.pack_floats(weights, AVX512, dtype)


@st.composite
def windows(draw: st.DrawFn, taps: int) -> Window:
    if taps == 2 and draw(st.booleans()):
        return deconvolution_phase(draw(st.integers(1, 5)), draw(st.integers(0, 1)))
    padding = draw(st.integers(0, taps - 1))
    return convolution(draw(st.integers(taps, taps + 4)), taps, draw(st.integers(1, 3)), padding)


@settings(max_examples=60)
@given(
    geometry=st.tuples(st.integers(1, 3), st.integers(1, 3)).flatmap(
        lambda taps: st.tuples(windows(taps[0]), windows(taps[1]))
    ),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    batch=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_reference(
    geometry: tuple[Window, Window], channels: int, outputs: int, batch: int, seed: int
) -> None:
    """Integers, so that the order of a float64 sum makes no difference."""
    rows, columns = geometry
    generator = np.random.default_rng(seed)
    x = generator.integers(-9, 10, (batch, rows.size, columns.size, channels)).astype(np.float32)
    weight = generator.integers(-9, 10, (outputs, rows.taps * columns.taps, channels)).astype(np.float32)
    found = layout.reference_sum(x, weight, rows, columns)
    assert (found.shape, found.dtype) == ((batch, rows.count, columns.count, outputs), np.float64)
    for n, y, xo, o in np.ndindex(found.shape):
        want = 0.0
        for tap in range(weight.shape[1]):
            kh, kw = divmod(tap, columns.taps)
            row, column = y * rows.stride - rows.pad + kh, xo * columns.stride - columns.pad + kw
            if 0 <= row < rows.size and 0 <= column < columns.size:
                want += float(x[n, row, column] @ weight[o, tap])
        assert found[n, y, xo, o] == want
