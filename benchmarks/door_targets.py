"""Pretrained ONNX networks on every target: floats against ONNX Runtime on the file, 8-bit integers against model.onnx.

    python benchmarks/door_targets.py --models FOLDER [--networks a,b] [--targets x86,arm,...] [--schemes float,int8]

Libraries for other CPUs run under emulation (qemu-user, wasmtime). In float an output counts by its largest difference
from ONNX Runtime on the file itself, as a part of the output's largest value: `file`, the largest of all outputs on two
inputs. Must be 1e-4 at most, the aim is 1e-5. In 8 bits `verify` counts the levels that 8-bit layers read and that
differ from ONNX Runtime on model.onnx, which must be 0.

The inputs are those of `doors.py`, but ppocrv4_det, which finds text and answers with next to nothing elsewhere, is
shown some. A target whose code neither this machine nor an emulator runs keeps the row of an earlier run, or has none.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from common import facts, report
from door_networks import REAL, Array, Door, real
from peers import ort_session
from PIL import Image, ImageDraw, ImageFont

from bhpe_compile.api import compile_model
from bhpe_compile.check.verify import verify
from bhpe_compile.reading import read_json
from bhpe_compile.runtime.open import open_session
from bhpe_compile.targets import get_target, host_runs

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "door_targets.json"
TARGETS = ("x86", "x86-avx512", "arm", "arm-a53", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32")
LINES = ("Everything should be", "made as simple as", "possible, but", "not simpler")

MUST, AIM = 1e-4, 1e-5
"""Of the largest difference in float."""


def text(shape: tuple[int, ...], lines: Iterable[str]) -> Array:
    """Dark lines of text on light paper, -1 .. 1, [1, 3, H, W]."""
    page = Image.new("RGB", (shape[3], shape[2]), (235, 230, 220))
    pen = ImageDraw.Draw(page)
    for line, words in enumerate(lines):
        pen.text((12, 12 + 66 * line), words, (30, 30, 50), ImageFont.load_default(20 + 6 * line))
    return np.ascontiguousarray((np.asarray(page, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])


def examples(door: Door) -> tuple[Array, ...]:
    """What a network is calibrated on; it is measured on the first two."""
    if door.name != "ppocrv4_det":
        return door.examples
    shape = REAL[door.name]
    return (text(shape, LINES), text(shape, reversed(LINES)), *door.examples[:2])


def largest_difference(artefact: Path, door: Door, inputs: tuple[Array, ...]) -> dict[str, float]:
    """Of every output: the library against ONNX Runtime on the file, as a part of the output's largest value."""
    session = ort_session(door.path)
    found: dict[str, float] = {}
    with open_session(artefact, threads=1) as library:
        for one in inputs:
            want = session.run(None, {door.input: one})
            got = library.execute({library.interface.inputs[0].name: one}).outputs
            for (name, value), other in zip(got.items(), want, strict=True):
                error = (
                    np.abs(value.reshape(other.shape).astype(np.float64) - other).max() / np.abs(other).max()
                )
                found[name] = max(found.get(name, 0.0), float(error))
    return found


def measure(door: Door, target: str, scheme: str, folder: Path) -> dict[str, Any]:
    """One network on one target in one scheme."""
    artefact, shown = folder / f"{door.name}-{scheme}-{target}", folder / f"{door.name}.npz"
    inputs = examples(door)
    np.savez(shown, **{door.input: np.concatenate(inputs)})
    calibrate = [shown] if scheme == "int8" else []
    compile_model(door.path, target=target, scheme=scheme, output=artefact, calibrate=calibrate, force=True)
    found: dict[str, Any] = {}
    if scheme == "float":
        outputs = largest_difference(artefact, door, inputs[:2])
        largest = max(outputs.values())
        found |= {"outputs": outputs, "file": largest, "must": largest <= MUST, "aim": largest <= AIM}
    else:
        checked = verify(artefact)
        told = checked.to_json()
        keys = ("executed", "int8_exact", "int8_layers", "first_difference", "max_abs_error")
        found |= {key: told[key] for key in keys} | {"must": checked.ok and told["int8_exact"]}
    with open_session(artefact, threads=1) as session:
        return found | {"executed": session.executed}


def arguments() -> argparse.Namespace:
    """The command line."""

    def words(given: str) -> list[str]:
        return given.split(",")

    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--models", type=Path, required=True, help="a folder with the pretrained networks")
    made.add_argument("--networks", type=words, default=list(REAL))
    made.add_argument("--targets", type=words, default=list(TARGETS))
    made.add_argument("--schemes", type=words, default=["float", "int8"])
    made.add_argument("-o", "--output", type=Path, default=RESULTS, help="rows of earlier runs stay in it")
    return made.parse_args()


def main() -> None:
    """Measure, print, write results/door_targets.json after every row."""
    args = arguments()
    kept: dict[str, Any] = read_json(args.output) if args.output.is_file() else {}
    rows: dict[str, Any] = kept.get("networks", {})
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as scratch:
        for name in args.networks:
            door = real(name, args.models, Path(scratch))
            for scheme in args.schemes:
                for target in args.targets:
                    described = get_target(target)
                    if described.emulator is None and not host_runs(described):
                        print(f"{target}: nothing here runs its code", file=sys.stderr)
                        continue
                    row = measure(door, target, scheme, Path(scratch))
                    rows.setdefault(name, {}).setdefault(scheme, {})[target] = row
                    print(name, scheme, target, row, file=sys.stderr, flush=True)
                    report({**facts(), "networks": rows}, args.output)
    if not all(
        row["must"] for schemes in rows.values() for found in schemes.values() for row in found.values()
    ):
        raise SystemExit("a row missed what it must")


if __name__ == "__main__":
    main()
