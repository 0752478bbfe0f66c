"""float16 by integers, for CPUs that have no instruction for it: every value, bit for bit as NumPy converts it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from bhpe_compile.kernels import PASS_CONFIG
from bhpe_compile.kernels.kernel import Parameter
from bhpe_compile.kernels.tir import T, clip_halves, function, load_floats, ramp, store, store_floats
from bhpe_compile.targets.isa import SCALAR
from tests.kernels.native import Array

LANES, COUNT = 8, 1 << 16


@pytest.fixture(scope="module")
def converters() -> Any:
    """`widen`, `narrow` and `clip` for this machine."""

    def widen(buffers: Any) -> None:
        with T.serial(0, COUNT // LANES) as i:
            value = load_floats(buffers["x"], i * LANES, LANES, SCALAR)
            T.buffer_store(buffers["out"], value, [ramp(i * LANES, LANES)])

    def narrow(buffers: Any) -> None:
        with T.serial(0, COUNT // LANES) as i:
            store_floats(buffers["out"], i * LANES, LANES, buffers["x"][ramp(i * LANES, LANES)], SCALAR)

    def clip(buffers: Any) -> None:
        with T.serial(0, COUNT // LANES) as i:
            store(buffers["out"], i * LANES, LANES, clip_halves(buffers["x"][ramp(i * LANES, LANES)], LANES))

    def make(name: str, source: str, result: str, body: Any) -> Any:
        out = Parameter("out", (COUNT,), result, is_output=True)
        return function(name, (Parameter("x", (COUNT,), source), out), body)

    functions = {
        "widen": make("widen", "float16", "float32", widen),
        "narrow": make("narrow", "float32", "float16", narrow),
        "clip": make("clip", "float16", "float16", clip),
    }
    with tvm.transform.PassContext(config=PASS_CONFIG):
        return tvm.compile(
            tvm.IRModule(functions), target=tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
        )


def run(function: Any, x: Array, dtype: str) -> Array:
    out = tvm.runtime.tensor(np.zeros(COUNT, dtype))
    function(tvm.runtime.tensor(x), out)
    return np.asarray(out.numpy())


def test_every_half_is_widened(converters: Any) -> None:
    every = np.arange(COUNT, dtype=np.uint16).view(np.float16)
    got, expected = run(converters["widen"], every, "float32"), every.astype(np.float32)
    numbers = ~np.isnan(expected)
    assert np.array_equal(got[numbers].view(np.uint32), expected[numbers].view(np.uint32))
    assert np.isnan(got[~numbers]).all()


def test_every_half_is_clipped(converters: Any) -> None:
    every = np.arange(COUNT, dtype=np.uint16).view(np.float16)
    numbers = ~np.isnan(every)
    got, expected = run(converters["clip"], every, "float16"), np.clip(every, -1, 1)
    assert np.array_equal(got[numbers].view(np.uint16), expected[numbers].view(np.uint16))


@pytest.mark.parametrize("seed", range(4))
def test_floats_are_rounded_to_even(converters: Any, seed: int) -> None:
    """All exponents at random, every half with its neighbours half a step away, and what overflows."""
    random = np.random.default_rng(seed)
    floats = random.integers(0, 1 << 32, COUNT, np.uint32).view(np.float32).copy()
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    near = np.nextafter(middle, np.float32(np.inf if seed % 2 else -np.inf))
    special = np.array([0, -0.0, np.inf, -np.inf, 65504, 65519, 65520, 65536, 1e-8, -1e-8], np.float32)
    parts = np.concatenate((middle if seed < 2 else near, special))
    floats[: len(parts)] = parts
    with np.errstate(over="ignore"):
        expected = floats.astype(np.float16)
    got = run(converters["narrow"], floats, "float16")
    numbers = ~np.isnan(floats)
    assert np.array_equal(got[numbers].view(np.uint16), expected[numbers].view(np.uint16))
    assert np.isnan(got[~numbers]).all()
