"""Binary kernels on this machine equal their NumPy reference, bit for bit: sums, epilogues, signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import BinaryConv2d, BinaryConvTranspose2d, Epilogue, Residual, binary_linear
from bhpe_compile.kernels.kernel import pack_bits
from bhpe_compile.targets.isa import AVX2, VectorIsa
from tests.kernels import strategies
from tests.kernels.native import EVERY, NATIVE, Array, arguments, flipped, onnx_bits, run

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12, derandomize=True)


def onnx_weight(kernel: Any, seed: int) -> Array:
    """Packed weights in the ONNX layout."""
    side = kernel.kernel if isinstance(kernel, BinaryConv2d) else 4
    generator = np.random.default_rng(seed + 1)
    return onnx_bits(generator, (kernel.out_channels, side, side), kernel.in_channels)


def check(kernel: Any, isa: VectorIsa, seed: int, *, plain: bool = False) -> None:
    """Every output equals the reference, floats and bits. `plain`: with scale 1 and bias 0."""
    arrays = arguments(kernel, isa, seed, plain=plain) | kernel.pack(isa, onnx_weight(kernel, seed))
    expected = kernel.reference(**arrays)
    got = run(kernel, isa, arrays)
    assert got.keys() == expected.keys()
    for role, array in got.items():
        np.testing.assert_array_equal(array, expected[role], err_msg=role)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(kernel=strategies.binary_convs(plain=True), seed=SEEDS)
def test_convolution_is_exact(isa: VectorIsa, kernel: BinaryConv2d, seed: int) -> None:
    check(kernel, isa, seed, plain=True)


@pytest.mark.parametrize("isa", NATIVE)
@FEW
@given(kernel=strategies.binary_convs(plain=False), seed=SEEDS)
def test_convolution_epilogue(isa: VectorIsa, kernel: BinaryConv2d, seed: int) -> None:
    check(kernel, isa, seed)


@pytest.mark.parametrize("isa", NATIVE)
@settings(FEW, max_examples=6)
@given(kernel=strategies.binary_deconvs(plain=True), seed=SEEDS)
def test_transposed_convolution_is_exact(isa: VectorIsa, kernel: BinaryConvTranspose2d, seed: int) -> None:
    check(kernel, isa, seed, plain=True)


@pytest.mark.parametrize("isa", NATIVE)
@settings(FEW, max_examples=4)
@given(kernel=strategies.binary_deconvs(plain=False), seed=SEEDS)
def test_transposed_convolution_epilogue(isa: VectorIsa, kernel: BinaryConvTranspose2d, seed: int) -> None:
    check(kernel, isa, seed)


NETWORK = {
    "3x3 256": BinaryConv2d(1, 16, 12, 256, 256, 3, 1, 1, 1, Epilogue(bits=True, bits_border=1)),
    "3x3 stride 2": BinaryConv2d(2, 16, 16, 64, 64, 3, 2, 1, 1, Epilogue(bits=True)),
    "1x1 up": BinaryConv2d(1, 8, 6, 64, 256, 1, 1, 0, 0, Epilogue(bits=True)),
    "1x1 down": BinaryConv2d(1, 8, 8, 256, 64, 1, 1, 0, 1, Epilogue(bits=True, bits_border=1)),
    "smallest map": BinaryConv2d(1, 1, 1, 16, 16, 3, 1, 1, 1, Epilogue(bits=True)),
    "linear": binary_linear(1, 256, 8, Epilogue()),
    "box net": BinaryConvTranspose2d(1, 8, 6, 2248, 32, 1, Epilogue(bits=True, bits_border=1)),
}


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("name", NETWORK)
def test_shapes_of_the_network_are_exact(isa: VectorIsa, name: str) -> None:
    check(NETWORK[name], isa, 3, plain=True)


@pytest.mark.parametrize("isa", NATIVE)
def test_an_accumulator_at_its_limit(isa: VectorIsa) -> None:
    """All activations +1 and all weights -1: every bit differs, in byte sums and 16-bit sums too."""
    kernel = BinaryConv2d(1, 3, 3, 4095, 8, 4, 1, 1, 1, Epilogue())
    arrays = arguments(kernel, isa, 0, plain=True)
    arrays["x"] = pack_bits(np.ones((1, 3, 3, 4095), np.bool_), 1)
    arrays |= kernel.pack(isa, np.zeros((8, 128, 4, 4), np.uint32))
    got = run(kernel, isa, arrays)["out"]
    assert got.min() == -4095 * 9
    np.testing.assert_array_equal(got, kernel.reference(**arrays)["out"])


@pytest.mark.parametrize("isa", EVERY, ids=lambda isa: isa.name)
def test_packing_agrees_with_the_definition(isa: VectorIsa) -> None:
    """The reference of packed arrays is the plain convolution of +-1 values with zeros around."""
    kernel = BinaryConv2d(1, 4, 5, 40, 24, 3, 2, 1, 1, Epilogue())
    generator = np.random.default_rng(7)
    weight = onnx_bits(generator, (24, 3, 3), 40)
    values = generator.random((1, 4, 5, 40)) < 0.5
    arrays = arguments(kernel, isa, 0, plain=True) | kernel.pack(isa, weight)
    arrays["x"] = pack_bits(values, 1)
    octets = np.ascontiguousarray(np.moveaxis(weight, 1, -1)).view(np.uint8)
    signs = 2 * np.unpackbits(octets, axis=-1, count=40, bitorder="little").astype(np.int64) - 1
    padded = np.pad(2 * values.astype(np.int64) - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 2, 3, 24), np.int64)
    for kh in range(3):
        for kw in range(3):
            expected += padded[:, kh : kh + 3 : 2, kw : kw + 5 : 2] @ signs[:, kh, kw].T
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], expected)


def test_transposed_packing_agrees_with_the_definition() -> None:
    """Scatter form of a transposed convolution: input pixel i adds to outputs 2i - 1 .. 2i + 2."""
    kernel = BinaryConvTranspose2d(1, 3, 4, 33, 16, 1, Epilogue())
    generator = np.random.default_rng(8)
    weight = onnx_bits(generator, (16, 4, 4), 33)
    values = generator.random((1, 3, 4, 33)) < 0.5
    arrays = arguments(kernel, AVX2, 0, plain=True) | kernel.pack(AVX2, weight)
    arrays["x"] = pack_bits(values, 1)
    octets = np.ascontiguousarray(np.moveaxis(weight, 1, -1)).view(np.uint8)
    signs = 2 * np.unpackbits(octets, axis=-1, count=33, bitorder="little").astype(np.int64) - 1
    full = np.zeros((1, 8, 10, 16), np.int64)
    for kh in range(4):
        for kw in range(4):
            full[:, kh : kh + 6 : 2, kw : kw + 8 : 2] += (2 * values.astype(np.int64) - 1) @ signs[
                :, kh, kw
            ].T
    np.testing.assert_array_equal(kernel.reference(**arrays)["out"], full[:, 1:7, 1:9])


def test_a_flipped_weight_is_seen() -> None:
    """The comparison itself can fail: one weight bit changes a whole channel by 2 where it is read."""
    kernel = BinaryConv2d(1, 4, 4, 32, 8, 1, 1, 0, 0, Epilogue())
    weight = onnx_weight(kernel, 1)
    arrays = arguments(kernel, AVX2, 1, plain=True) | kernel.pack(AVX2, weight)
    before = kernel.reference(**arrays)["out"]
    weight[3, 0, 0, 0] ^= 1 << 5
    after = kernel.reference(**(arrays | kernel.pack(AVX2, weight)))["out"]
    assert np.unique(np.abs(after - before)[..., 3]).tolist() == [2]
    assert not np.delete(after - before, 3, axis=-1).any()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: BinaryConv2d(1, 4, 4, 8, 8, 3, 1, 1, 0, Epilogue()), "border"),
        (lambda: BinaryConv2d(1, 4, 4, 8, 12, 1, 1, 0, 0, Epilogue(bits=True)), "multiple of 8"),
        (lambda: BinaryConv2d(1, 4, 4, 9000, 8, 3, 1, 1, 1, Epilogue()), "16-bit"),
        (lambda: BinaryConv2d(1, 1, 1, 8, 8, 3, 1, 0, 0, Epilogue()), "does not fit"),
        (lambda: BinaryConvTranspose2d(1, 4, 4, 8, 8, 0, Epilogue()), "border of 1"),
        (lambda: BinaryConv2d(1, 4, 4, 8, 8, 1, 1, 0, 0, Epilogue(store=False)), "floats, bits or both"),
        (lambda: BinaryConv2d(1, 4, 4, 8, 8, 1, 1, 0, 0, Epilogue(Residual("repeat", 3))), "do not fit"),
        (
            lambda: BinaryConv2d(1, 4, 4, 8, 8, 1, 1, 0, 0, Epilogue(Residual("repeat", 4), bits=True)),
            "multiple of 8",
        ),
    ],
)
def test_impossible_geometries_are_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_flipped_counts_bits() -> None:
    assert flipped(np.array([0b1010], np.uint8), np.array([0b0110], np.uint8)) == 2
