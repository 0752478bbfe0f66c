"""One small convolution through both sides of the benchmark: what is timed computes what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

SHAPES = {
    "3x3": (64, 64, 3, 1, 8, 6),
    "up": (64, 128, 1, 1, 8, 6),
    "down": (128, 64, 1, 1, 8, 6),
    "strided": (64, 128, 1, 2, 8, 6),
}


def test_every_side_is_checked_and_timed(tmp_path: Path) -> None:
    import convolutions

    from bhpe_compile.targets import get_target

    target, shapes = get_target("native"), tuple(SHAPES.values())
    library = convolutions.compile_kernels(
        shapes, target, convolutions.bits_epilogue, convolutions.fused_epilogue
    )
    libraries = {
        "bits": (library, target, convolutions.bits_epilogue),
        "fused": (library, target, convolutions.fused_epilogue),
    }
    for shape in shapes:
        found = convolutions.measure_shape(shape, libraries, 2, tmp_path)
        assert set(found["median_us"]) == {"bits", "fused", "ort_fp32", "ort_int8"}
        assert all(value > 0 for value in found["median_us"].values())
        assert found["operators"]["ort_int8"].startswith("QLinearConv")


def test_a_wrong_kernel_is_not_timed() -> None:
    import convolutions

    from bhpe_compile.targets import get_target

    shape, target = SHAPES["3x3"], get_target("native")
    kernel = convolutions.binary_conv(shape, convolutions.bits_epilogue(shape))
    with convolutions.compile_kernels((shape,), target, convolutions.bits_epilogue) as library:
        ours = convolutions.OurConvolution(shape)
        arrays = ours.arguments(kernel, target.isa)
        call = library.prepare(kernel, {**arrays, "weight": arrays["weight"] ^ 1})
        with pytest.raises(SystemExit, match="computes something else than torch"):
            ours.check(call, kernel, arrays)
