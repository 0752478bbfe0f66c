"""The 8-bit form of a binary convolution computes the same shape, and both are really timed."""

from __future__ import annotations

import pytest

from bhpe_compile import kernels as k
from bhpe_compile.errors import UsageError
from bhpe_compile.kernels import Kernel
from bhpe_compile.search.tiles.twins import _measure, int8_form
from bhpe_compile.search.tiles.workplace import Here
from bhpe_compile.targets import Target, get_target
from bhpe_compile.targets.isa import AVX2

EPILOGUE = k.Epilogue(
    residual=k.Residual("same", 16, dtype="float16"),
    activation="rprelu",
    bits=True,
    bits_border=1,
    out_dtype="float16",
)


def binary_conv(kernel: int, stride: int = 1, epilogue: k.Epilogue = EPILOGUE) -> k.BinaryConv2d:
    pad = kernel // 2
    return k.BinaryConv2d(1, 8, 6, 16, 16, kernel, stride, pad, pad, epilogue)


def shapes(kernels: tuple[Kernel, ...] | None) -> list[dict[str, tuple[int, ...]]]:
    assert kernels is not None
    return [{p.role: p.shape for p in one.parameters(AVX2)} for one in kernels]


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_the_8_bit_form_reads_and_writes_the_same_map(kernel: int, stride: int) -> None:
    quantize, conv = shapes(int8_form(binary_conv(kernel, stride)))
    assert quantize["x"] == (1, 8, 6, 16)
    assert quantize["out"] == conv["x"]
    assert conv["out"] == (1, 8 // stride, 6 // stride, 16)
    assert not {"residual", "bits", "beta"} & set(conv)


def test_a_strided_1x1_quantizes_what_it_reads() -> None:
    quantize, conv = shapes(int8_form(binary_conv(1, 2, k.Epilogue())))
    assert quantize["x"] == (1, 8, 6, 16)
    assert quantize["out"] == conv["x"] == (1, 4, 3, 16)
    assert conv["out"] == (1, 4, 3, 16)


def test_transposed() -> None:
    quantize, conv = shapes(int8_form(k.BinaryConvTranspose2d(1, 8, 6, 16, 16, 1, k.Epilogue())))
    assert quantize["out"] == conv["x"]
    assert conv["out"] == (1, 16, 12, 16)


def test_other_kernels_have_none() -> None:
    assert int8_form(k.PackBits(1, 8, 6, 16, 0)) is None
    assert int8_form(k.binary_linear(1, 64, 16, k.Epilogue())) is None


def native() -> Target:
    try:
        return get_target("native")
    except UsageError as error:
        pytest.skip(str(error))


def test_both_are_timed() -> None:
    target, kernel = native(), binary_conv(3)
    pair = int8_form(kernel)
    assert pair is not None
    twin = _measure(kernel, pair, target, Here(target))
    assert twin.binary_ns > 0
    assert twin.int8_ns > 0
