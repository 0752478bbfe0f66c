"""Counted layouts are those the kernels really use."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import (
    BinaryConv2d,
    BinaryConvTranspose2d,
    DenseConv2d,
    Epilogue,
    FixedPointLinear,
    Int8Conv2d,
    Int8ConvTranspose2d,
    Kernel,
)
from bhpe_compile.report.cost import BINARY, FLOAT16, INT8, LINEAR, TRANSPOSED
from bhpe_compile.report.layout import packing
from bhpe_compile.targets.isa import AVX2, AVX2_BYTES, AVX512, NEON, NEON_DOT, VectorIsa
from tests.report.made_up import layer

ISAS = (AVX512, AVX2, AVX2_BYTES, NEON, NEON_DOT)
MAP = {"batch": 1, "height": 16, "width": 12}
OUT = Epilogue()


def weight_bytes(kernel: Kernel, isa: VectorIsa) -> int:
    """Bytes of the kernel's argument `weight`."""
    (weight,) = (p for p in kernel.parameters(isa) if p.role == "weight")
    return prod(weight.shape) * np.dtype(weight.dtype).itemsize


@settings(max_examples=60)
@given(
    cin=st.integers(1, 200),
    groups=st.integers(1, 20),
    k=st.sampled_from([1, 3, 7]),
    isa=st.sampled_from(ISAS),
)
def test_convolutions(cin: int, groups: int, k: int, isa: VectorIsa) -> None:
    cout, pad = 8 * groups, k // 2
    sizes = {**MAP, "in_channels": cin, "out_channels": cout, "kernel": k, "stride": 1, "padding": pad}
    one = layer(in_channels=cin, out_channels=cout, kernel=(k, k))
    for precision, kernel in (
        (BINARY, BinaryConv2d(**sizes, in_border=pad, epilogue=OUT)),
        (INT8, Int8Conv2d(**sizes, in_border=pad, epilogue=OUT)),
        (FLOAT16, DenseConv2d(**sizes, epilogue=OUT, weight_dtype="float16")),
    ):
        assert packing(replace(one, precision=precision), isa).nbytes == weight_bytes(kernel, isa)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize(("cin", "cout"), [(2248, 256), (16, 16), (40, 24)])
def test_transposed_convolutions(cin: int, cout: int, isa: VectorIsa) -> None:
    sizes = {**MAP, "in_channels": cin, "out_channels": cout, "in_border": 1, "epilogue": OUT}
    one = layer(in_channels=cin, out_channels=cout, kernel=(4, 4), kind=TRANSPOSED)
    assert packing(one, isa).nbytes == weight_bytes(BinaryConvTranspose2d(**sizes), isa)
    levels = packing(replace(one, precision=INT8), isa)
    assert levels.nbytes == weight_bytes(Int8ConvTranspose2d(**sizes), isa)


@pytest.mark.parametrize("outputs", [2, 6, 10, 90])
def test_8_bit_linear_layers(outputs: int) -> None:
    one = layer("head", INT8, kind=LINEAR, in_channels=540, out_channels=outputs, kernel=(1, 1))
    odd = replace(one, in_channels=891)
    for isa in ISAS:
        assert packing(one, isa).nbytes == weight_bytes(FixedPointLinear(1, 540, outputs), isa)
        assert packing(odd, isa).nbytes == weight_bytes(FixedPointLinear(1, 891, outputs), isa)


def test_waste_is_the_empty_part() -> None:
    assert packing(layer(), AVX512).wasted == 0
    assert packing(layer(in_channels=16), AVX512).wasted == 0.5
    assert packing(layer(in_channels=16), NEON).wasted == 0  # words of 16 bits
    assert packing(layer(out_channels=24), AVX512).wasted == pytest.approx(0.25)
