"""What pair-safe weights (`--pair-safe`) cost in accuracy, without any code being made or timed.

    python benchmarks/pairs.py [--models FOLDER] [--networks a,b] [--inputs 16] [-o results.json]

The networks are those of `doors.py`. For each, with steps of weights as always and with pair-safe ones: the noise of
the weights of its convolutions (decibels below them, a mean over the layers) and how far the outputs of model.onnx are
from the file's, in ONNX Runtime, as a relative error over inputs that it was not calibrated on. Seven bits, which
other programs take on such processors, are told beside them for the weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import facts, parser, relative_error, report, table
from door_networks import CALIBRATION, MODULES, REAL, Array, Door, export, inputs, real

from bhpe_compile.compiler.imported import OnnxCompilation
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.exchange.runtime import Runner
from bhpe_compile.passes.fold.quantize_dense import weight_steps

SEVEN_BITS = 127 / 63
"""How much wider steps of seven bits are."""


def noise(weight: Array, steps: Array) -> float:
    """Decibels of weights [Cout, ...] over what rounding to steps [Cout] adds."""
    wide = steps.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64)
    error = np.rint(weight / wide) * wide - weight
    return float(10 * np.log10((weight.astype(np.float64) ** 2).sum() / max((error**2).sum(), 1e-300)))


def weights_of(path: Path) -> list[Array]:
    """The weights of convolutions over several channels."""
    model = onnx.load(path)
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = onnx.numpy_helper.to_array(
                onnx.helper.get_node_attr_value(node, "value")
            )
        elif node.op_type in ("DequantizeLinear", "Cast", "Identity") and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    found = [arrays[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]
    return [one.astype(np.float32) for one in found if one.shape[1] > 1]


def moved(door: Door, pair_safe: bool, shown: Path, feeds: list[Array]) -> float:
    """The mean relative error of all outputs over the inputs."""
    options = CompileOptions("x86", scheme="int8", pair_safe=pair_safe, calibrate=(shown,))
    made = OnnxCompilation(options, door.path)
    ours, file = Runner(made.onnx_bytes), Runner(door.path.read_bytes())
    (name,) = made.inputs
    errors = []
    for feed in feeds:
        got, want = ours.run({name: feed}), file.run({door.input: feed})
        pairs = zip(got.values(), want.values(), strict=True)
        errors.append(np.mean([relative_error(a.reshape(b.shape), b) for a, b in pairs]))
    return float(np.mean(errors))


def of_network(door: Door, folder: Path, count: int) -> dict[str, Any]:
    """All figures of one network."""
    weights = weights_of(door.path)
    steps = {
        "plain": [weight_steps(one, 0) for one in weights],
        "pairs": [weight_steps(one, 0, True) for one in weights],
    }
    steps["seven_bits"] = [one * np.float32(SEVEN_BITS) for one in steps["plain"]]
    shown = folder / f"{door.name}-shown.npz"
    np.savez(shown, **{door.input: np.concatenate(door.examples)})
    feeds = [inputs(door.name, seed) for seed in range(CALIBRATION, CALIBRATION + count)]
    return {
        "weights_db": {
            name: round(float(np.mean([noise(w, s) for w, s in zip(weights, every, strict=True)])), 2)
            for name, every in steps.items()
        },
        "relative_error": {
            name: round(moved(door, name == "pairs", shown, feeds), 4) for name in ("plain", "pairs")
        },
    }


def main() -> None:
    """Measure, print, write."""

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    made: argparse.ArgumentParser = parser(__doc__, rounds=1)
    made.add_argument("--models", type=Path, help="a folder with the pretrained networks")
    made.add_argument("--networks", type=words, default=[], help="only these, separated by commas")
    made.add_argument("--inputs", type=int, default=16, help="inputs of each network (default %(default)s)")
    args = made.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as scratch:
        folder = Path(scratch)
        for name in args.networks or [*MODULES, *(REAL if args.models else ())]:
            door = real(name, args.models, folder) if name in REAL else export(name, folder)
            found[name] = of_network(door, folder, args.inputs)
            print(name, found[name], file=sys.stderr, flush=True)
    report({**facts(), "networks": found}, args.output)
    head = ("network", "weights, dB", "pair-safe", "7 bits", "outputs' error", "pair-safe")
    rows = [
        (name, *one["weights_db"].values(), *one["relative_error"].values()) for name, one in found.items()
    ]
    print(table(head, rows), file=sys.stderr)


if __name__ == "__main__":
    main()
