"""Every kind of kernel as code for other CPUs, under their emulators, against its NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bhpe_compile.kernels import (
    BinaryConv2d,
    BinaryConvTranspose2d,
    CellMean,
    ConvertFloats,
    Crop,
    DenseConv2d,
    DenseConvTranspose2d,
    Epilogue,
    FixedPointLinear,
    FixedPointSplit,
    HeatMap,
    Int8Conv2d,
    Int8ConvTranspose2d,
    JoinChannels,
    Logistic,
    MapMean,
    MaxPool2d,
    PackBits,
    Quantize,
    Residual,
    RotationVector,
    SamplePoints,
    SoftArgmax,
    binary_linear,
)
from bhpe_compile.kernels.int8_layout import stored
from bhpe_compile.targets import get_target
from bhpe_compile.targets.isa import VectorIsa
from bhpe_compile.targets.tile import Tile
from tests.kernels import emulated
from tests.kernels import test_int8 as int8
from tests.kernels import test_levels as levels
from tests.kernels.native import Array, arguments, onnx_bits

BOTH = Epilogue(bits=True, bits_border=1)
HALVES = Epilogue(Residual("same", 40, clip=True, dtype="float16"), bits=True, out_dtype="float16")
SIGNS = Epilogue(bits=True, bits_at_zero=True)
REPEAT = Residual("repeat", 64, clip=True, dtype="float16")
FULL_HALVES = Epilogue(REPEAT, "leaky", True, True, True, 1, "float16", "float16", bits_at_zero=True)
FULL = Epilogue(Residual("group_mean", 80, True, True), "rprelu", True, True, True, 1)

EXACT: dict[str, Any] = {
    "binary 3x3": BinaryConv2d(1, 7, 13, 70, 40, 3, 1, 1, 1, BOTH),
    "binary 3x3 stride 2": BinaryConv2d(2, 8, 8, 64, 64, 3, 2, 1, 2, BOTH),
    "binary 1x1": BinaryConv2d(1, 5, 6, 256, 72, 1, 1, 0, 0, BOTH),
    "binary 7 words a tap": BinaryConv2d(1, 3, 9, 112, 72, 3, 1, 1, 1, BOTH),
    "binary 13 words a row": BinaryConv2d(1, 3, 5, 208, 136, 1, 1, 0, 0, BOTH),
    "binary tile 3x5": BinaryConv2d(1, 5, 8, 64, 64, 3, 1, 1, 1, BOTH, Tile(3, 5, True)),
    "binary halves": BinaryConv2d(1, 4, 6, 64, 40, 3, 1, 1, 1, HALVES),
    "binary signs": BinaryConv2d(1, 4, 6, 64, 40, 1, 1, 0, 0, SIGNS),
    "binary odd channels": BinaryConv2d(1, 4, 6, 35, 24, 3, 1, 1, 1, BOTH),
    "binary linear": binary_linear(1, 256, 8, Epilogue()),
    "binary transposed": BinaryConvTranspose2d(1, 3, 7, 45, 24, 1, BOTH),
    "max pool": MaxPool2d(1, 9, 8, 24, 3, 2, 1, True, True, 1),
    "max pool of halves": MaxPool2d(1, 9, 8, 40, 3, 2, 1, dtype="float16", out_dtype="float16"),
    "max pool of halves, bits": MaxPool2d(1, 9, 8, 24, 5, 1, 2, True, True, 1, dtype="float16"),
    "pack": PackBits(1, 4, 5, 90, 1),
    "int8 3x3": Int8Conv2d(1, 5, 9, 21, 40, 3, 1, 1, 1, Epilogue()),
    "int8 7x7 stride 2": Int8Conv2d(1, 15, 18, 3, 24, 7, 2, 3, 3, BOTH),
    "int8 1x1": Int8Conv2d(2, 3, 5, 64, 72, 1, 1, 0, 0, BOTH),
    "int8 one channel": Int8Conv2d(1, 4, 4, 1, 5, 3, 1, 1, 1, Epilogue()),
    "int8 transposed": Int8ConvTranspose2d(1, 3, 7, 21, 40, 1, BOTH),
    "int8 largest": Int8Conv2d(1, 3, 3, 512, 24, 3, 1, 1, 1, Epilogue()),
    "int8 least": Int8Conv2d(1, 3, 3, 512, 24, 3, 1, 1, 1, Epilogue()),
    "to half": ConvertFloats((1, 3, 5, 7), "float16"),
    "from half": ConvertFloats((1, 3, 5, 7), "float32"),
    "quantize": Quantize(1, 4, 6, 13, 1, 1, 8, "float32"),
    "join": JoinChannels(30, (3, 40, 1), (2, 3, 5)),
    "map mean": MapMean(2, 5, 7, 13),
    "sample points": SamplePoints(2, 6, 5, 21, 7),
    "crop": Crop(2, 30, 40, 3, 16, 20),
    "fixed-point split": FixedPointSplit(2, 37),
    "fixed-point linear": FixedPointLinear(2, 37, 41),
    "cell mean": CellMean(2, 3, 5, 19),
    "logistic": Logistic((2, 17)),
    "rotation vector": RotationVector(40),
    "heat map": HeatMap(2, 6, 5, 12, 3),
    "soft argmax": SoftArgmax(1, 7, 9, 12, 4, 3),
}
LEVELS: dict[str, Any] = {
    f"levels {case} {index}": kernel
    for case in ("divided", "clipped", "table", "table, then a sum", "residual and shortcut")
    for index, kernel in enumerate(levels.kernels(levels.CASES[case], 72))
}
"""Layers that write 8-bit levels, by way of a division, whole steps or a table."""

ZERO = 113
EPILOGUES: dict[str, Any] = {
    "binary epilogue": BinaryConv2d(1, 4, 6, 64, 40, 3, 1, 1, 1, FULL),
    "binary repeat": BinaryConv2d(1, 4, 6, 32, 64, 1, 1, 0, 0, Epilogue(Residual("repeat", 16), "relu")),
    "binary repeats of halves": BinaryConv2d(1, 4, 6, 64, 256, 1, 1, 0, 0, FULL_HALVES),
    "binary long repeats of halves": BinaryConv2d(1, 3, 4, 256, 256, 1, 1, 0, 0, FULL_HALVES),
    "int8 epilogue": Int8Conv2d(1, 5, 9, 21, 40, 3, 1, 1, 1, FULL),
    "int8 epilogue of halves": Int8Conv2d(1, 4, 6, 64, 256, 1, 1, 0, 0, FULL_HALVES),
    "int8 plain epilogue": Int8Conv2d(1, 4, 4, 21, 13, 3, 1, 1, 1, Epilogue()),
    "int8 transposed epilogue": Int8ConvTranspose2d(1, 3, 7, 21, 40, 1, Epilogue(activation="relu")),
}
"""With random floats behind the sums: a fused multiply-add, or another order, would round another way."""

CLOSE: dict[str, Any] = {
    "dense 7x7": DenseConv2d(1, 17, 20, 3, 40, 7, 2, 3, FULL),
    "dense 3 channels": DenseConv2d(1, 4, 7, 40, 3, 1, 1, 0, Epilogue()),
    "dense linear": DenseConv2d(1, 1, 1, 515, 126, 1, 1, 0, Epilogue()),
    "dense transposed": DenseConvTranspose2d(1, 3, 8, 12, 20, Epilogue(activation="relu")),
}
"""Sums of floats have no written order."""


def extreme(kernel: Int8Conv2d, isa: VectorIsa, level: int, weight: int) -> dict[str, Array]:
    """Every product at its largest: what two of them in 16 bits, or a saturating instruction, might not hold."""
    arrays, _, _ = int8.arguments(kernel, isa, 0, ZERO)
    shape = (kernel.out_channels, kernel.in_channels, kernel.kernel, kernel.kernel)
    constants = {"weight": np.full(shape, weight, np.int8), "zero": np.array(ZERO)}
    levels = np.full((1, kernel.height + 2, kernel.stored_width, kernel.in_channels), level)
    return arrays | kernel.constants(isa, constants) | {"x": stored(levels, ZERO, isa.int8)}


def inputs(name: str, kernel: Any, isa: VectorIsa) -> dict[str, Array]:
    """Random arrays for one kernel, weights packed for `isa`."""
    generator = np.random.default_rng(11)
    if name in ("int8 largest", "int8 least"):
        return extreme(kernel, isa, *((255, 127) if name == "int8 largest" else (0, 127)))
    if name in LEVELS:
        return levels.arguments(kernel, isa, ZERO, 11)
    if isinstance(kernel, Int8Conv2d | Int8ConvTranspose2d):
        arrays = int8.arguments(kernel, isa, 11, ZERO)[0]
        return int8.with_floats(kernel, isa, arrays, 11) if name in EPILOGUES else arrays
    if isinstance(kernel, ConvertFloats):
        spread = 10.0 ** generator.uniform(-9, 5.5, kernel.shape)  # denormal halves and infinity among them
        with np.errstate(over="ignore"):
            return {
                "x": (spread * generator.choice([-1, 1], kernel.shape)).astype(
                    kernel.parameters(isa)[0].dtype
                )
            }
    if isinstance(kernel, Quantize):
        x = generator.integers(-2400, 2400, (1, 4, 6, 13)) / 32  # ties between two levels among them
        return {"x": x.astype(np.float32), "quantization": np.array([0.25, ZERO], np.float32)}
    if isinstance(kernel, FixedPointSplit):
        return {"x": (generator.standard_normal((2, 37)) * 1500).astype(np.float32)}  # beyond the ends, too
    if isinstance(kernel, FixedPointLinear):
        constants = {"weight": generator.integers(-127, 128, (41, 37)).astype(np.int8)}
        constants |= {role: generator.random(41).astype(np.float32) for role in ("scale", "bias")}
        x = (generator.standard_normal((2, 37)) * 100).astype(np.float32)
        return {"x": FixedPointSplit(2, 37).memory(isa, x=x)} | kernel.constants(isa, constants)
    if isinstance(kernel, Crop):
        return {
            "x": generator.integers(0, 256, (2, 30, 40, 3)).astype(np.float32) / np.float32(255),
            "boxes": np.array([[2, 3, 20, 27], [-5, -6, 70, 60]], np.float32),
        }
    arrays = arguments(kernel, isa, 11, plain=name in EXACT)
    if isinstance(kernel, Logistic):
        return {"x": arrays["x"] * 20}
    if isinstance(kernel, HeatMap | SoftArgmax):
        return {"x": arrays["x"] * 4} | kernel.constants(isa, {})
    if isinstance(kernel, SamplePoints):
        return arrays | {"points": generator.uniform(-2, 7, arrays["points"].shape).astype(np.float32)}
    if isinstance(kernel, BinaryConv2d | BinaryConvTranspose2d):
        side = kernel.kernel if isinstance(kernel, BinaryConv2d) else 4
        arrays |= kernel.pack(
            isa, onnx_bits(generator, (kernel.out_channels, side, side), kernel.in_channels)
        )
    elif isinstance(kernel, DenseConv2d | DenseConvTranspose2d):
        shape = (
            (kernel.out_channels, kernel.in_channels, kernel.kernel, kernel.kernel)
            if isinstance(kernel, DenseConv2d)
            else (kernel.in_channels, kernel.out_channels, 4, 4)
        )
        arrays |= kernel.pack(isa, generator.standard_normal(shape))
    return arrays


def reference(kernel: Any, arrays: dict[str, Array], isa: VectorIsa) -> dict[str, Array]:
    """What NumPy computes, stored as `isa` stores it."""
    found: dict[str, Array] = kernel.reference(**arrays)
    if isinstance(kernel, FixedPointSplit):
        return {"out": kernel.memory(isa, **arrays)}
    if "levels" in found:
        found["levels"] = stored(found["levels"], int(arrays["requantization"][1]), isa.int8)
    return {"out": stored(found["out"], ZERO, isa.int8)} if isinstance(kernel, Quantize) else found


@pytest.fixture(
    scope="module", params=["arm", "arm-a53", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32"]
)
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Array], dict[str, Array]]]:
    """(outputs of the emulator, reference outputs) by case name."""
    target = get_target(request.param)
    emulated.skip_without_emulator(target)
    every = {**EXACT, **LEVELS, **EPILOGUES, **CLOSE}
    arrays = {name: inputs(name, kernel, target.isa) for name, kernel in every.items()}
    got = emulated.run_all(
        tmp_path_factory.mktemp("kernels"),
        [(kernel, arrays[name]) for name, kernel in every.items()],
        target,
    )
    return {
        name: (outputs, reference(kernel, arrays[name], target.isa))
        for (name, kernel), outputs in zip(every.items(), got, strict=True)
    }


@pytest.mark.parametrize("name", [*EXACT, *LEVELS, *EPILOGUES])
def test_equal(results: dict[str, tuple[dict[str, Array], dict[str, Array]]], name: str) -> None:
    got, expected = results[name]
    assert got.keys() == expected.keys()
    for role, array in got.items():
        np.testing.assert_array_equal(array, expected[role], err_msg=role)


@pytest.mark.parametrize("name", CLOSE)
def test_close(results: dict[str, tuple[dict[str, Array], dict[str, Array]]], name: str) -> None:
    got, expected = results[name]
    # float32 sums of at most 600 products: 1e-6 of values of some hundreds
    np.testing.assert_allclose(got["out"], expected["out"], rtol=1e-5, atol=1e-3)
