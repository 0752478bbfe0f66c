"""Every binary convolution of an artefact beside its 8-bit form, both timed on this machine.

    binary   the kernel as it was compiled, with its epilogue: local residual, RPReLU, shortcut, stored floats, bits
    8-bit    Quantize of a float16 map, then the 8-bit kernel of the same shape with ReLU, shortcut, float16 out

That is what `--keep-float` would make of the layer: no local residual, no bits. Arguments are random; time does not
depend on them. Both take turns in every round, and each counts with the median of its rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bhpe_compile import kernels as k
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import graph as g
from bhpe_compile.passes.lower.describe import describe
from bhpe_compile.report.advice import Twin
from bhpe_compile.search.tiles.tune import build, random_arguments
from bhpe_compile.search.tiles.workplace import Here, Workplace
from bhpe_compile.targets import Target

ROUNDS = 5
SECONDS = 1e-3
"""A round runs a kernel for about so long."""


def measure_twins(
    artifact: Path, target: Target, tick: Callable[[str], None] = lambda layer: None
) -> dict[str, Twin]:
    """Times by layer of the binary convolutions of `artifact`, lowered again for `target`.

    tick: called with the name of every layer. UsageError when this machine does not run the target's code.
    """
    workplace = Here(target)
    compilation = Compilation.of_artifact(artifact, target)
    target = compilation.fitted
    measured: dict[str, Twin] = {}
    by_kernel: dict[str, Twin] = {}
    for node in compilation.kernels.graph:
        if not g.is_kernel(node):
            continue
        kernel = describe(node)
        pair = int8_form(kernel)
        if pair is None:
            continue
        layer, symbol = g.text(node, "layer"), kernel.symbol()
        tick(layer)
        if symbol not in by_kernel:
            by_kernel[symbol] = _measure(kernel, pair, target, workplace)
        measured[layer] = by_kernel[symbol]
    return measured


def int8_form(kernel: Kernel) -> tuple[Kernel, ...] | None:
    """The kernels that compute a binary convolution in 8 bits, in order; None for any other kernel."""
    if isinstance(kernel, k.BinaryConvTranspose2d):
        sizes = kernel.batch, kernel.height, kernel.width, kernel.in_channels, kernel.out_channels
        other = k.Int8ConvTranspose2d(*sizes, in_border=1, epilogue=_epilogue(kernel.epilogue))
        return _quantize(kernel, 1, 1, other.stored_width), other
    if not isinstance(kernel, k.BinaryConv2d) or kernel.height == kernel.width == 1:
        return None
    skip = kernel.stride if kernel.kernel == 1 else 1  # only pixels that are read are quantized
    conv = k.Int8Conv2d(
        batch=kernel.batch,
        height=-(-kernel.height // skip),
        width=-(-kernel.width // skip),
        in_channels=kernel.in_channels,
        out_channels=kernel.out_channels,
        kernel=kernel.kernel,
        stride=kernel.stride // skip,
        padding=kernel.padding,
        in_border=kernel.padding,
        epilogue=_epilogue(kernel.epilogue),
    )
    return _quantize(kernel, skip, kernel.padding, conv.stored_width), conv


def _epilogue(epilogue: k.Epilogue) -> k.Epilogue:
    return replace(
        epilogue, residual=None, activation="relu", store=True, bits=False, bits_border=0, out_dtype="float16"
    )


def _quantize(kernel: Any, stride: int, border: int, stored_width: int) -> Kernel:
    return k.Quantize(
        batch=kernel.batch,
        height=kernel.height,
        width=kernel.width,
        channels=kernel.in_channels,
        stride=stride,
        border=border,
        stored_width=stored_width,
        dtype="float16",
    )


def _measure(kernel: Kernel, pair: tuple[Kernel, ...], target: Target, workplace: Workplace) -> Twin:
    kernels = [kernel, *pair]
    module = workplace.load(build(kernels, target))
    arguments = [random_arguments(one, target, workplace.device) for one in kernels]

    def seconds(index: int, number: int) -> float:
        evaluator = module.time_evaluator(f"candidate{index}", workplace.device, number=number, repeat=3)
        return float(statistics.median(evaluator(*arguments[index]).results))

    numbers = [max(1, round(SECONDS / max(seconds(index, 1), 1e-7))) for index in range(len(kernels))]
    times: list[list[float]] = [[] for _ in kernels]
    for _ in range(ROUNDS):
        for index, number in enumerate(numbers):
            times[index].append(seconds(index, number))
    binary, *others = (1e9 * statistics.median(one) for one in times)
    return Twin(binary, sum(others))
