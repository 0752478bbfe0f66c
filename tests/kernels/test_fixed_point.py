"""Linear layers of fixed-point inputs, equal bit by bit: torch, ONNX Runtime, NumPy, kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhpe_compile.kernels import FixedPointLinear, FixedPointSplit
from bhpe_compile.networks.layers.fixed_point import fixed_point_linear
from bhpe_compile.targets.isa import AVX512, VectorIsa
from tests.exchange.operators import onnx_outputs
from tests.kernels.native import NATIVE_INT8, Array, most_weight, run

FEW = settings(max_examples=8, derandomize=True)


@st.composite
def layers(draw: st.DrawFn) -> dict[str, Array]:
    """x, weight, scale, bias: inputs small and large, ties between two steps, infinite ones."""
    batch = draw(st.sampled_from([1, 2, 5]))
    features = draw(st.one_of(st.integers(1, 70), st.sampled_from([515, 1024])))
    outputs = draw(st.one_of(st.integers(1, 40), st.sampled_from([90, 126])))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    x = rng.standard_normal((batch, features)) * draw(st.sampled_from([1e-3, 1, 50, 3000]))
    x.flat[::3] = np.rint(x.flat[::3] * 8192) / 8192
    x.flat[::17] = draw(st.sampled_from([0, np.inf, -np.inf, np.nan]))
    return {
        "x": x.astype(np.float32),
        "weight": rng.integers(-127, 128, (outputs, features)).astype(np.int8),
        "scale": rng.uniform(1e-6, 1e-4, outputs).astype(np.float32),
        "bias": rng.standard_normal(outputs).astype(np.float32),
    }


def of(layer: dict[str, Array]) -> tuple[FixedPointSplit, FixedPointLinear]:
    batch, features = layer["x"].shape
    return FixedPointSplit(batch, features), FixedPointLinear(batch, features, len(layer["weight"]))


def numpy_result(layer: dict[str, Array], isa: VectorIsa) -> Array:
    split, linear = of(layer)
    constants = linear.constants(isa, {role: layer[role] for role in ("weight", "scale", "bias")})
    return linear.reference(x=split.memory(isa, x=layer["x"]), **constants)["out"]


@FEW
@given(layers())
def test_torch_and_onnx_runtime_are_numpy(layer: dict[str, Array]) -> None:
    want = numpy_result(layer, AVX512)
    torch_result = fixed_point_linear(*(torch.from_numpy(array) for array in layer.values()))
    np.testing.assert_array_equal(torch_result.numpy(), want)
    for name, got in onnx_outputs("FixedPointLinear", layer).items():
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("isa", NATIVE_INT8)
@FEW
@given(layers())
def test_kernels_are_numpy(isa: VectorIsa, layer: dict[str, Array]) -> None:
    most = most_weight(isa)
    layer["weight"] = np.clip(layer["weight"], -most, most)
    split, linear = of(layer)
    levels = run(split, isa, {"x": layer["x"]})["out"]
    np.testing.assert_array_equal(levels, split.memory(isa, x=layer["x"]))
    constants = linear.constants(isa, {role: layer[role] for role in ("weight", "scale", "bias")})
    arrays = {"x": levels} | constants
    np.testing.assert_array_equal(run(linear, isa, arrays)["out"], linear.reference(**arrays)["out"])


def test_it_is_a_linear_layer() -> None:
    """Inputs are rounded to 1/4096, by 1/8192 at most; float32 sums of 600 products carry an error of 1e-4."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-2000, 2000, (3, 600)).astype(np.float32)
    weight = rng.integers(-127, 128, (7, 600)).astype(np.int8)
    scale = np.full(7, 1e-3 / 4096, np.float32)
    bias = rng.standard_normal(7).astype(np.float32)
    want = x.astype(np.float64) @ (weight * 1e-3).T + bias
    got = numpy_result({"x": x, "weight": weight, "scale": scale, "bias": bias}, AVX512)
    bound = np.abs(weight * 1e-3).sum(1) / 8192
    assert np.all(np.abs(got - want) <= bound + np.abs(want) * 1e-6 + 1e-3)


@pytest.mark.parametrize("isa", NATIVE_INT8)
def test_the_largest_sums_are_exact(isa: VectorIsa) -> None:
    """All digits and all weights at their ends."""
    for value in (1e9, -1e9):
        layer = {
            "x": np.full((1, 17000), value, np.float32),
            "weight": np.full((3, 17000), most_weight(isa), np.int8),
            "scale": np.ones(3, np.float32),
            "bias": np.zeros(3, np.float32),
        }
        split, linear = of(layer)
        constants = linear.constants(isa, {role: layer[role] for role in ("weight", "scale", "bias")})
        arrays = {"x": run(split, isa, {"x": layer["x"]})["out"]} | constants
        got = run(linear, isa, arrays)["out"]
        np.testing.assert_array_equal(got, numpy_result(layer, isa))
        for found in onnx_outputs("FixedPointLinear", layer).values():
            np.testing.assert_array_equal(found, got)
