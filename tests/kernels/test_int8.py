"""8-bit kernels equal their NumPy reference, bit for bit: sums are integers, and every operation behind them rounds
once, in a written order, whether the processor has a fused multiply-add or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import Epilogue, Int8Conv2d, Int8ConvTranspose2d, Quantize, Residual, epilogue_tir
from bhpe_compile.kernels.int8_layout import pack_int8, pairs_fit, stored, unpack_int8
from bhpe_compile.targets.int8_instructions import INT8_INSTRUCTIONS, PMADDUBSW, PMADDWD, Int8Instruction
from bhpe_compile.targets.isa import AVX2_BYTES, VectorIsa
from tests.kernels import strategies
from tests.kernels.native import NATIVE, NATIVE_INT8, Array, on_host, run, weight_levels

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=12, derandomize=True)


@st.composite
def convolutions(draw: st.DrawFn) -> Int8Conv2d:
    window = draw(strategies.windows(7))
    channels = draw(st.one_of(strategies.CHANNELS, st.integers(1, 90)))
    return Int8Conv2d(
        batch=draw(st.integers(1, 2)),
        in_channels=draw(st.integers(1, 20)),
        out_channels=channels,
        in_border=window["padding"] + draw(st.integers(0, 1)),
        epilogue=draw(strategies.epilogues(channels, plain=True, bits=channels % 8 == 0)),
        **window,
    )


def weights(kernel: Any, isa: VectorIsa, generator: np.random.Generator) -> Array:
    if isinstance(kernel, Int8Conv2d):
        shape = (kernel.out_channels, kernel.in_channels, kernel.kernel, kernel.kernel)
    else:
        shape = (kernel.in_channels, kernel.out_channels, 4, 4)
    return weight_levels(isa, generator, shape)


def arguments(kernel: Any, isa: VectorIsa, seed: int, zero: int) -> tuple[dict[str, Array], Array, Array]:
    """Arguments with scale 1 and bias 0, the levels behind x, and the weights."""
    generator = np.random.default_rng(seed)
    inside = (kernel.batch, kernel.height, kernel.width, kernel.in_channels)
    levels = generator.integers(0, 256, inside)
    b = kernel.in_border
    x = np.full((inside[0], inside[1] + 2 * b, kernel.stored_width, inside[3]), zero)
    x[:, b : b + inside[1], b : b + inside[2]] = levels
    weight = weights(kernel, isa, generator)
    given = {
        "weight": weight,
        "zero": np.array(zero),
        "scale": np.ones(kernel.out_channels),
        "bias": np.zeros(kernel.out_channels),
    }
    if kernel.epilogue.bits and not kernel.epilogue.bits_at_zero:
        given["threshold"] = generator.integers(-3000, 3000, kernel.out_channels)
    arrays = kernel.constants(isa, given) | {"x": stored(x, zero, isa.int8)}
    return arrays, levels - zero, weight


def expected_sums(kernel: Int8Conv2d, values: Array, weight: Array) -> Array:
    """Straight from the definition, in NumPy."""
    pad = kernel.padding
    padded = np.pad(values, ((0, 0), (pad, pad), (pad, pad), (0, 0))).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel.kernel, kernel.kernel), (1, 2))
    picked = windows[:, :: kernel.stride, :: kernel.stride]
    return np.einsum("nyxcij,ocij->nyxo", picked, weight.astype(np.int64))


@pytest.mark.parametrize("isa", NATIVE_INT8)
@FEW
@given(kernel=convolutions(), seed=SEEDS, zero=st.sampled_from([0, 1, 113, 128, 255]))
def test_convolution_is_exact(isa: VectorIsa, kernel: Int8Conv2d, seed: int, zero: int) -> None:
    arrays, values, weight = arguments(kernel, isa, seed, zero)
    reference = kernel.reference(**arrays)
    if kernel.epilogue.store:
        # int32 -> float32 rounds to nearest even on both sides
        expected = expected_sums(kernel, values, weight).astype(np.float32)
        np.testing.assert_array_equal(reference["out"], expected)
    got = run(kernel, isa, arrays)
    for role, array in reference.items():
        np.testing.assert_array_equal(got[role], array)


def output(isa: VectorIsa, levels: Array, weight: Array) -> tuple[float, float]:
    """What a 1x1 layer computes of one pixel, and what it should: levels [Cin], weight [Cin] of all its outputs."""
    kernel = Int8Conv2d(1, 1, 1, len(levels), 24, 1, 1, 0, 0, Epilogue())
    every = np.broadcast_to(weight.astype(np.int8), (24, len(weight)))
    given = {
        "weight": every[..., None, None],
        "zero": np.array(0),
        "scale": np.ones(24),
        "bias": np.zeros(24),
    }
    x = np.zeros((1, 1, kernel.stored_width, len(levels)), int)
    x[0, 0, 0] = levels
    arrays = kernel.constants(isa, given) | {"x": stored(x, 0, isa.int8)}
    (value,) = np.unique(run(kernel, isa, arrays)["out"])
    return float(value), float(np.dot(levels, weight))


@pytest.mark.parametrize("isa", NATIVE)
def test_extremes_do_not_saturate(isa: VectorIsa) -> None:
    """Every product at its largest: where pmaddubsw would clip at 32767."""
    for sign in (1, -1):
        value, wanted = output(isa, np.full(4608, 255), np.full(4608, 127 * sign))
        assert value == np.float32(wanted)


PAIRS = [(127, 1), (1, 127), (64, 64), (100, 28), (127, -127), (-127, 127), (0, 127), (-127, 0)]
"""The largest of each kind."""


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_pairs_that_fit_do_not_saturate(isa: VectorIsa, pair: tuple[int, int]) -> None:
    for sign in (1, -1):
        weight = np.tile(np.array(pair) * sign, 8)
        assert pairs_fit(weight, PMADDUBSW)
        for levels in ((255, 255), (255, 0), (0, 255), (0, 0), (254, 255)):
            value, wanted = output(isa, np.tile(levels, 8), weight)
            assert value == wanted


@pytest.mark.parametrize("isa", [on_host(AVX2_BYTES)])
@pytest.mark.parametrize("pair", [(127, 2), (65, 64), (-2, -127)], ids=str)
def test_one_more_saturates(isa: VectorIsa, pair: tuple[int, int]) -> None:
    """Why such weights are left to another instruction; at 255 a sum in 16 bits ends at 32767 or -32768."""
    weight = np.tile(pair, 8)
    assert not pairs_fit(weight, PMADDUBSW)
    assert pairs_fit(weight, PMADDWD)
    value, wanted = output(isa, np.full(16, 255), weight)
    assert wanted == 8 * 255 * sum(pair)
    assert value == 8 * (32767 if wanted > 0 else -32768)


def test_two_products_of_weights_that_fit_are_words() -> None:
    """All pairs of weights: those that fit are those whose sums with any levels, which are extreme at 0 and 255, are
    of 16 bits."""
    both = np.stack(np.meshgrid(*[np.arange(-127, 128)] * 2), -1).reshape(-1, 2)
    sums = np.stack([both @ np.array(levels) for levels in ((255, 255), (255, 0), (0, 255))])
    words = ((sums >= -32768) & (sums <= 32767)).all(0)
    found = [pairs_fit(pair.astype(np.int8), PMADDUBSW) for pair in both]
    np.testing.assert_array_equal(found, words)


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (8, 6)])
@pytest.mark.parametrize("channels", [(21, 40), (5, 3), (32, 64)])
def test_transposed_convolution(isa: VectorIsa, size: tuple[int, int], channels: tuple[int, int]) -> None:
    bits = channels[1] % 8 == 0
    epilogue = Epilogue(activation="relu", bits=bits, bits_border=int(bits))
    kernel = Int8ConvTranspose2d(1, *size, *channels, 1, epilogue)
    arrays, values, weight = arguments(kernel, isa, 6, 77)
    reference = kernel.reference(**arrays)
    spread = np.zeros((1, 2 * size[0] + 3, 2 * size[1] + 3, channels[0]), np.int64)
    spread[:, 2:-2:2, 2:-2:2] = values
    windows = np.lib.stride_tricks.sliding_window_view(spread, (4, 4), (1, 2))
    sums = np.einsum("nyxcij,coij->nyxo", windows, weight[:, :, ::-1, ::-1].astype(np.int64))
    np.testing.assert_array_equal(reference["out"], np.maximum(sums, 0).astype(np.float32))
    got = run(kernel, isa, arrays)
    for role, array in reference.items():
        np.testing.assert_array_equal(got[role], array)


def with_floats(kernel: Any, isa: VectorIsa, arrays: dict[str, Array], seed: int) -> dict[str, Array]:
    """The same arguments with floats of many sizes in the epilogue."""
    generator = np.random.default_rng(seed + 1)
    floats = {
        p.role: generator.standard_normal(p.shape).astype(p.dtype)
        for p in kernel.parameters(isa)
        if p.role in ("residual", "shortcut", "beta", "zeta", "bias", "threshold")
    }
    scale = generator.standard_normal(kernel.out_channels) * 10.0 ** generator.uniform(-6, -2)
    return arrays | floats | {"scale": scale.astype(np.float32)}


@st.composite
def finished(draw: st.DrawFn) -> Int8Conv2d | Int8ConvTranspose2d:
    """Layers with whole epilogues."""
    channels = draw(st.one_of(strategies.CHANNELS, st.integers(1, 90)))
    epilogue = draw(strategies.epilogues(channels, bits=channels % 8 == 0))
    in_channels = draw(st.integers(1, 20))
    if draw(st.integers(0, 4)) == 0:
        size = draw(st.tuples(st.integers(1, 4), st.integers(1, 7)))
        return Int8ConvTranspose2d(1, *size, in_channels, channels, 1, epilogue)
    window = draw(strategies.windows(4))
    return Int8Conv2d(
        batch=1,
        in_channels=in_channels,
        out_channels=channels,
        in_border=window["padding"],
        epilogue=epilogue,
        **window,
    )


@pytest.mark.parametrize("isa", NATIVE_INT8)
@FEW
@given(kernel=finished(), seed=SEEDS, zero=st.sampled_from([0, 113, 255]))
def test_epilogues(isa: VectorIsa, kernel: Any, seed: int, zero: int) -> None:
    arrays = with_floats(kernel, isa, arguments(kernel, isa, seed, zero)[0], seed)
    got = run(kernel, isa, arrays)
    for role, array in kernel.reference(**arrays).items():
        np.testing.assert_array_equal(got[role], array, err_msg=role)


HALVES = Epilogue(
    Residual("repeat", 16, False, True, "float16"), "rprelu", True, True, True, 1, "float16", "float16"
)
WHOLE = Int8Conv2d(2, 6, 10, 12, 48, 1, 1, 0, 0, HALVES)


@pytest.mark.parametrize("isa", NATIVE_INT8)
def test_an_epilogue_of_halves(isa: VectorIsa) -> None:
    """float16 residual, shortcut and output."""
    arrays = with_floats(WHOLE, isa, arguments(WHOLE, isa, 3, 9)[0], 4)
    got = run(WHOLE, isa, arrays)
    for role, array in WHOLE.reference(**arrays).items():
        np.testing.assert_array_equal(got[role], array, err_msg=role)


@pytest.mark.parametrize("isa", NATIVE_INT8)
def test_a_compiler_that_contracts_is_caught(isa: VectorIsa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fence LLVM makes one fused multiply-add of scale and bias, which rounds once: the comparison above
    fails on it."""
    monkeypatch.setattr(epilogue_tir, "uncontracted", lambda value, lanes: value)
    kernel = Int8Conv2d(1, 6, 10, 12, 48, 1, 1, 0, 0, Epilogue())
    arrays = with_floats(kernel, isa, arguments(kernel, isa, 3, 9)[0], 4)
    got, want = run(kernel, isa, arrays)["out"], kernel.reference(**arrays)["out"]
    assert (got != want).mean() > 0.01
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)  # it is the rounding, and nothing else


@st.composite
def quantizations(draw: st.DrawFn) -> Quantize:
    border, width, stride = draw(st.integers(0, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 2))
    return Quantize(
        batch=draw(st.integers(1, 2)),
        height=draw(st.integers(1, 6)),
        width=width,
        channels=draw(st.one_of(st.integers(1, 40), st.sampled_from([64, 256]))),
        stride=stride,
        border=border,
        stored_width=-(-width // stride) + 2 * border + draw(st.integers(0, 2)),
        dtype=draw(st.sampled_from(["float32", "float16"])),
    )


@pytest.mark.parametrize("isa", NATIVE_INT8)
@FEW
@given(kernel=quantizations(), seed=SEEDS, zero=st.sampled_from([0, 1, 113, 255]))
def test_quantize(isa: VectorIsa, kernel: Quantize, seed: int, zero: int) -> None:
    """Ties included: an eighth of the values lie in the middle between two levels."""
    generator = np.random.default_rng(seed)
    shape = (kernel.batch, kernel.height, kernel.width, kernel.channels)
    x = (generator.integers(-2400, 2400, shape) / 8 * 0.25).astype(kernel.dtype)
    arrays = {"x": x, "quantization": np.array([0.25, zero], np.float32)}
    levels = kernel.reference(**arrays)["out"]
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], stored(levels, zero, isa.int8))


@pytest.mark.parametrize("isa", NATIVE_INT8)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_with_channels_first(isa: VectorIsa, channels: int) -> None:
    kernel = Quantize(2, 5, 29, channels, 1, 1, 33, "float32", True, True)
    x = np.random.default_rng(0).standard_normal((2, channels, 5, 29)).astype(np.float32)
    arrays = {"x": x, "quantization": np.array([0.02, 113], np.float32)}
    last = replace(kernel, channels_first=False)
    levels = kernel.reference(**arrays)["out"]
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(levels, last.reference(**{**arrays, "x": turned})["out"])
    np.testing.assert_array_equal(run(kernel, isa, arrays)["out"], stored(levels, 113, isa.int8))
    with pytest.raises(ValueError, match="every pixel is kept"):
        replace(kernel, stride=2)


@pytest.mark.parametrize("use", INT8_INSTRUCTIONS, ids=lambda use: use.name)
@given(outputs=st.integers(1, 40), rows=st.integers(1, 3), taps=st.integers(1, 3), channels=st.integers(1, 9))
def test_packing_is_reversible(
    use: Int8Instruction, outputs: int, rows: int, taps: int, channels: int
) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (outputs, rows * taps, channels)).astype(np.int8)
    back = unpack_int8(pack_int8(weight, rows, use), outputs, rows, use)
    np.testing.assert_array_equal(back[..., : taps * channels], weight.reshape(outputs, rows, -1))
    assert not back[..., taps * channels :].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"in_border": 0}, "border"), ({"in_channels": 1 << 16}, "32-bit"), ({"kernel": 40}, "does not fit")],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Int8Conv2d(1, 4, 4, 8, 8, 3, 1, 1, 1, Epilogue()), **change)
