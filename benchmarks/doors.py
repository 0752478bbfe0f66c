"""Imported ONNX networks: our 8-bit and float code against other programs, one thread.

    python benchmarks/doors.py [--models FOLDER] [--networks a,b] [--rounds 15] [--processes 5] [-o results.json]

Every network is an ONNX file (`door_networks.py`: seeded ones of our modules; with --models the five pretrained ones
of that folder as well). What runs:

    ours_int8, ours_fp32      `--scheme int8` and `--scheme float`, compiled for this machine
    ours_avx2                 `--scheme int8` for any x86-64-v3 CPU
    ours_avx2_pairs           the same with `--pair-safe`
    ort_int8, ort_fp32        ONNX Runtime: QDQ (U8 activations, S8 weights per channel), and the file itself
    openvino_int8, openvino_avx2    OpenVINO on the QDQ file, as it likes and held to AVX2
    nncf_int8, nncf_avx2      OpenVINO on what NNCF quantized for it, the same way

ncnn is not among them: neither its Python package nor Debian has the programs that quantize its models.

Both sides are calibrated on the same inputs. Nothing is timed before it is checked: our artefacts by `verify`, floats
of either side against the file in ONNX Runtime. All sides take turns within a process, and several processes are
asked, because where a process's stack lies can cost up to twice the time; told are medians over the processes.
Depthwise layers are measured alone as well (`depthwise.py`).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import depthwise
import numpy as np
from common import facts, geometric_mean, interleave, medians, parser, relative_error, report, table
from door_networks import MODULES, REAL, Array, Door, export, real
from peers import missing, nncf_quantize, openvino_run, ort_session, quantize
from process import AVX2_ONLY, output_of, script_command

from bhpe_compile.targets import get_target, host_runs

FP32_TOLERANCE = 1e-4
"""Largest relative error of a float side."""

RATIOS = {
    "doors_int8_vs_ort_int8": (("ort_int8",), "ours_int8"),
    "doors_int8_vs_best_int8": (("ort_int8", "openvino_int8", "nncf_int8"), "ours_int8"),
    "doors_fp32_vs_ort_fp32": (("ort_fp32",), "ours_fp32"),
    "doors_avx2_vs_openvino_int8_avx2": (("openvino_avx2", "nncf_avx2"), "ours_avx2"),
    "doors_avx2_pairs_vs_openvino_int8_avx2": (("openvino_avx2", "nncf_avx2"), "ours_avx2_pairs"),
}
"""The peers, of which the fastest counts, and ours of each ratio."""

SCHEMES = {
    "ours_int8": ("native", "int8", False),
    "ours_fp32": ("native", "float", False),
    "ours_avx2": ("x86", "int8", False),
    "ours_avx2_pairs": ("x86", "int8", True),
}
"""Target and scheme of our sides, and whether their weights are pair-safe."""

QDQ_SIDES = ("ort_int8", "openvino_int8", "openvino_avx2")
"""Those that run the QDQ file."""

NNCF_SIDES = ("nncf_int8", "nncf_avx2")
"""Those that run NNCF's model."""

HELD = ("openvino_avx2", "nncf_avx2")
"""Those that are held to AVX2, which is said once a process."""


def prepare(door: Door, folder: Path, sides: Sequence[str], check: bool) -> None:
    """Make the files of all sides; SystemExit where one is wrong."""
    from bhpe_compile.api import compile_model
    from bhpe_compile.check.verify import verify

    int8, nncf = folder / f"{door.name}-int8.onnx", folder / f"{door.name}-nncf.xml"
    if not int8.exists():
        quantize(door.path, int8, door.input, door.examples)
    if set(sides) & set(NNCF_SIDES) and not nncf.exists():
        nncf_quantize(door.path, nncf, door.examples)
    shown = folder / f"{door.name}.npz"
    np.savez(shown, **{door.input: np.concatenate(door.examples)})
    np.save(folder / f"{door.name}.npy", door.example)
    for side in (one for one in sides if one in SCHEMES):
        target, scheme, pair_safe = SCHEMES[side]
        path = folder / f"{door.name}-{side}"
        if path.exists():
            continue
        compile_model(
            door.path, target=target, scheme=scheme, pair_safe=pair_safe, output=path, calibrate=[shown]
        )
        if check and not (found := verify(path)).ok:
            raise SystemExit(f"{door.name}: {side} is wrong: {found.first_difference}; not timed")


def runner(side: str, path: Path, port: str, example: Array) -> Callable[[], Array]:
    """A function that runs a side on `example` and returns its first output."""
    if side.startswith("ours"):
        from bhpe_compile.runtime import Model

        model = Model(path)
        return lambda: next(iter(model.run(example).values()))
    if side.startswith(("openvino", "nncf")):
        run = openvino_run(path)
        return lambda: run(example)
    session = ort_session(path)
    return lambda: np.asarray(session.run(None, {port: example})[0])


def once(door: str, port: str, folder: Path, sides: Sequence[str], rounds: int) -> dict[str, Any]:
    """What one process finds: medians of every side in milliseconds, and errors against ort_fp32."""
    example = np.load(folder / f"{door}.npy")
    files = {side: folder / f"{door}-{side}" for side in sides}
    files |= {"ort_fp32": folder / f"{door}.onnx"}
    files |= dict.fromkeys(QDQ_SIDES, folder / f"{door}-int8.onnx")
    files |= dict.fromkeys(NNCF_SIDES, folder / f"{door}-nncf.xml")
    runs = {side: runner(side, files[side], port, example) for side in sides}
    want = runner("ort_fp32", files["ort_fp32"], port, example)().astype(np.float64)
    errors = {side: relative_error(run().reshape(want.shape), want) for side, run in runs.items()}
    return {"median_ms": medians(interleave(runs, rounds)), "relative_error": errors}


def ask(door: Door, folder: Path, sides: Sequence[str], rounds: int, processes: int) -> dict[str, Any]:
    """Medians over the processes."""
    plain, held = [side for side in sides if side not in HELD], [side for side in sides if side in HELD]
    found: list[dict[str, Any]] = []
    for _ in range(processes):
        one = _in_process(door, folder, plain, rounds)
        if held:
            more = _in_process(door, folder, held, rounds, **AVX2_ONLY)
            one = {key: one[key] | more[key] for key in one}
        found.append(one)
    times = {side: [one["median_ms"][side] for one in found] for side in sides}
    errors = found[0]["relative_error"]
    for side in ("ours_fp32", "ort_fp32"):
        if errors.get(side, 0) > FP32_TOLERANCE:
            raise SystemExit(f"{door.name}: {side} is off by {errors[side]:.3g}; not timed")
    return {
        "median_ms": {side: round(statistics.median(values), 3) for side, values in times.items()},
        "spread_ms": {side: [round(min(v), 3), round(max(v), 3)] for side, v in times.items()},
        "relative_error": errors,
    }


def _in_process(
    door: Door, folder: Path, sides: Sequence[str], rounds: int, **variables: str
) -> dict[str, Any]:
    words = ["--once", door.name, "--port", door.input, "--folder", str(folder), "--sides", ",".join(sides)]
    return dict(output_of(script_command("doors.py", *words, "--rounds", str(rounds)), **variables))


def ratios_of(times: dict[str, float]) -> dict[str, float]:
    """The ratios of one network."""
    found = {}
    for name, (peers, ours) in RATIOS.items():
        there = [times[peer] for peer in peers if peer in times]
        alone = name == "doors_int8_vs_best_int8" and len(there) < 2
        if there and ours in times and not alone:
            found[name] = round(min(there) / times[ours], 3)
    return found


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, with geometric means over the networks."""
    names = args.networks or [*MODULES, *(REAL if args.models else ())]
    ours = [side for side, (target, *_) in SCHEMES.items() if host_runs(get_target(target))]
    ours = [side for side in ours if not args.ours or side in args.ours]
    peers = ["ort_int8", "ort_fp32"]
    absent = missing("openvino", "nncf") if args.openvino else []
    if args.openvino and "openvino" not in absent:
        peers += ["openvino_int8", "openvino_avx2", *(() if "nncf" in absent else NNCF_SIDES)]
    networks: dict[str, Any] = {}
    for name in names:
        door = real(name, args.models, folder) if name in REAL else export(name, folder)
        prepare(door, folder, [*ours, *peers], args.check)
        one = ask(door, folder, [*ours, *peers], args.rounds, args.processes)
        one["ratios"] = ratios_of(one["median_ms"])
        networks[name] = one
        print(name, one["median_ms"], one["ratios"], file=sys.stderr, flush=True)
    keys = {key for one in networks.values() for key in one["ratios"]}
    means = {
        key: round(geometric_mean(one["ratios"][key] for one in networks.values() if key in one["ratios"]), 2)
        for key in sorted(keys)
    }
    alone = depthwise.measure(args.rounds) if args.depthwise else {"ratios": {}}
    return {
        **facts(),
        "ratios": means | alone["ratios"],
        "networks": networks,
        "depthwise": alone,
        "missing": absent,
    }


def arguments() -> argparse.Namespace:
    """The command line."""

    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    made = parser(__doc__, rounds=15)
    made.add_argument("--models", type=Path, help="a folder with the pretrained networks")
    made.add_argument("--networks", type=words, default=[], help="only these, separated by commas")
    made.add_argument("--processes", type=int, default=5, help="processes asked (default %(default)s)")
    made.add_argument("--folder", type=Path, help="keep files here; what is there already is taken as it is")
    made.add_argument("--ours", type=words, default=[], help=f"only these of {','.join(SCHEMES)}")
    made.add_argument("--no-openvino", dest="openvino", action="store_false")
    made.add_argument("--no-check", dest="check", action="store_false", help="time without verifying")
    made.add_argument(
        "--no-depthwise", dest="depthwise", action="store_false", help="networks only (depthwise.py)"
    )
    made.add_argument("--once", help=argparse.SUPPRESS)
    made.add_argument("--port", help=argparse.SUPPRESS)
    made.add_argument("--sides", type=words, help=argparse.SUPPRESS)
    return made.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    if args.once:
        print(json.dumps(once(args.once, args.port, args.folder, args.sides, args.rounds)))
        return
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(args, folder)
    report(figures, args.output)
    keys = sorted({key for one in figures["networks"].values() for key in one["ratios"]})
    rows = [
        (name, *(one["ratios"].get(key, "-") for key in keys)) for name, one in figures["networks"].items()
    ]
    rows.append(("geometric mean", *(figures["ratios"].get(key, "-") for key in keys)))
    print(table(("network", *keys), rows), file=sys.stderr)


if __name__ == "__main__":
    main()
