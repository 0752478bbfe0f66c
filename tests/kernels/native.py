"""Compile a kernel for this machine, feed it, and compare what it writes with its NumPy reference.

Outputs are filled with junk before a run: a kernel must write every byte of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray

from bhpe_compile.kernels import BinaryConv2d, BinaryConvTranspose2d, Kernel
from bhpe_compile.kernels.kernel import Parameter, pack_bits
from bhpe_compile.passes.fold.round_constants import round_to
from bhpe_compile.passes.lower.codegen import build_library
from bhpe_compile.targets import get_target
from bhpe_compile.targets.isa import AVX2, AVX2_BYTES, AVX512, NEON, VectorIsa

Array = NDArray[Any]

PRESETS = {"avx512": get_target("x86-avx512"), "avx2": get_target("x86"), "neon": get_target("arm")}
TARGETS = {name: dict(target.llvm) for name, target in PRESETS.items()}
"""As users' kernels are compiled: code for one vendor's CPU would not run on another's with the same vectors."""

ORDERS = {1: (0,), 2: (1, 0), 3: (1, 2, 0), 5: (4, 1, 3, 0, 2)}
"""Numbers of parts a parallel kernel is divided into, and the order in which they run."""


def host_has(isa: VectorIsa) -> bool:
    """Whether this machine runs code for an instruction set."""
    info = Path("/proc/cpuinfo")
    if isa.name not in PRESETS or PRESETS[isa.name].family != "x86_64" or not info.exists():
        return False
    flags = {line.partition(":")[0].strip(): line for line in info.read_text().splitlines()}.get("flags", "")
    return set(PRESETS[isa.name].requires) <= set(flags.split())


def on_host(isa: VectorIsa, name: str = "") -> Any:
    """A pytest parameter that is skipped, with the reason, where the machine lacks the instructions."""
    reason = f"this machine has no {isa.name}"
    return pytest.param(isa, id=name or isa.name, marks=pytest.mark.skipif(not host_has(isa), reason=reason))


NATIVE = [on_host(AVX512), on_host(AVX2)]
NATIVE_INT8 = [*NATIVE, on_host(AVX2_BYTES, "avx2-bytes")]
"""Those that differ where layers have 8 bits."""

EVERY = [AVX512, AVX2, NEON]


def most_weight(isa: VectorIsa) -> int:
    """The largest 8-bit weight: any, or that which fits an instruction for pairs whatever lies beside."""
    step = isa.int8.step
    return 127 if step is None or step.pairs is None else 64


def weight_levels(isa: VectorIsa, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random 8-bit weights."""
    most = most_weight(isa)
    return generator.integers(-most, most + 1, shape).astype(np.int8)


def compiled(kernel: Kernel, isa: VectorIsa) -> Any:
    """The module of one kernel, compiled as a user's is."""
    target = tvm.target.Target(TARGETS[isa.name])
    return build_library({kernel.symbol(): kernel.prim_func(isa)}, target, scheduled=True)[0]


def assembly(kernel: Kernel, isa: VectorIsa) -> str:
    """The assembly of one kernel."""
    return str(compiled(kernel, isa).inspect_source("asm"))


def run(kernel: Kernel, isa: VectorIsa, arrays: dict[str, Array]) -> dict[str, Array]:
    """Outputs by role of the compiled kernel, called once for everything.

    A parallel kernel must write the same bytes when it is called for its parts, in any order, and no byte may be
    written by two of them.
    """
    parameters = kernel.parameters(isa)
    function = compiled(kernel, isa)[kernel.symbol()]

    def call(*scalars: tuple[int, int], junk: int = 0x5A) -> dict[str, Array]:
        tensors = []
        for p in parameters:
            given = junk_array(p, junk) if p.is_output else np.ascontiguousarray(arrays[p.role])
            assert (given.shape, str(given.dtype)) == (p.shape, p.dtype), p.role
            tensors.append(tvm.runtime.tensor(given))
        for pair in scalars if kernel.parallel else ((),):
            function(*tensors, *pair)
        return {p.role: t.numpy() for p, t in zip(parameters, tensors, strict=True) if p.is_output}

    whole = call((0, 1))
    if not kernel.parallel:
        return whole
    for parts, order in ORDERS.items():
        for role, array in call(*((part, parts) for part in order)).items():
            same = array.view(np.uint8) == whole[role].view(np.uint8)  # bytes: NaN is equal to itself
            assert same.all(), f"{kernel.symbol()} in {parts} parts: {role} differs"
    pairs = [(call((part, 3)), call((part, 3), junk=0xA5)) for part in range(3)]
    for role in whole:
        writers = sum(
            (one[role].view(np.uint8) == two[role].view(np.uint8)).astype(int) for one, two in pairs
        )
        assert np.all(writers == 1), f"{kernel.symbol()}: bytes of {role} are written by no part or by two"
    return whole


def junk_array(parameter: Parameter, junk: int) -> Array:
    """An output whose every byte is `junk`."""
    array = np.empty(parameter.shape, parameter.dtype)
    array.view(np.uint8)[...] = junk
    return array


def onnx_bits(generator: np.random.Generator, shape: tuple[int, ...], channels: int) -> NDArray[np.uint32]:
    """Random packed weights uint32 [Cout, ceil(channels/32), *rest] for `shape` = (Cout, *rest)."""
    values = generator.random((*shape, channels)) < 0.5
    octets = np.zeros((*shape, -(-channels // 32) * 4), np.uint8)
    packed = np.packbits(values, axis=-1, bitorder="little")
    octets[..., : packed.shape[-1]] = packed
    return np.ascontiguousarray(np.moveaxis(octets.view(np.uint32), -1, 1))


def arguments(kernel: Any, isa: VectorIsa, seed: int, *, plain: bool = False) -> dict[str, Array]:
    """Random inputs by role. `plain`: scale 1 and bias 0, so that outputs are the integer sums themselves.

    Scales of binary layers have the few bits that `round-constants` leaves them.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for p in kernel.parameters(isa):
        if p.is_output or p.role in ("weight", "border"):
            continue
        if p.role == "x" and p.dtype == "uint8":
            shape = (kernel.batch, kernel.height, kernel.width, kernel.in_channels)
            arrays["x"] = pack_bits(generator.random(shape) < 0.5, kernel.in_border)
        elif plain and p.role in ("scale", "bias"):
            arrays[p.role] = np.full(p.shape, 1 if p.role == "scale" else 0, np.float32)
        elif p.role == "scale" and isinstance(kernel, BinaryConv2d | BinaryConvTranspose2d):
            products = kernel.in_channels * getattr(kernel, "kernel", 4) ** 2
            arrays["scale"] = round_to(generator.standard_normal(p.shape), 24 - products.bit_length())
        elif plain and p.role == "threshold":  # integers, so that equality with a sum happens
            arrays[p.role] = generator.integers(-9, 10, p.shape).astype(np.float32)
        else:
            arrays[p.role] = generator.standard_normal(p.shape).astype(p.dtype)
    return arrays


def flipped(bits: Array, expected: Array) -> int:
    """Number of differing bits of two packed tensors."""
    return int(np.bitwise_count(bits ^ expected).sum())
