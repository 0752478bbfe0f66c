"""Networks of the field, compiled with `--scheme bidrn`, against ONNX Runtime, FP32 and INT8, on the original networks.

    python benchmarks/networks.py [NAME ...] [--rounds 15] [--kept FOLDER] [--prepare] [-o results.json]

Of each network `bhpe-compile example --network NAME` writes a made-up checkpoint, which is compiled for this machine
(seconds, peak memory of all processes, bytes) and verified. Then three take turns in one process, one thread each, on
the same inputs, those of the embedded photograph:

    bhpe        the artefact
    ort_fp32    ONNX Runtime on the original network
    ort_int8    the same with what ONNX Runtime runs in INT8 (QDQ, U8 activations, S8 weights with a scale per channel,
                calibrated on the photograph, a drawn person and their mirror images)

Before anything is timed, what ONNX Runtime computes is checked against torch. With --kept the files are made in FOLDER,
and used again where they are there; --prepare makes them and measures nothing.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from common import facts, interleave, parser, ratios, relative_error, report, summary
from numpy.typing import NDArray
from peers import ACROSS_PARTS, ort_session, quantize
from process import command, output_of, watch

from bhpe_compile.compiler.inputs import picture_inputs
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.networks.registry import get_network, registered
from bhpe_compile.runtime import Model

Array = NDArray[Any]
Feeds = Mapping[str, Array]

NAMES = ("spin", "cliff-r50", "cliff-hr48", "vqhps-r50")

FP32_ERROR, INT8_ERROR = 1e-3, 0.5
"""Largest relative error of an output beside torch's; 8 bits through fifty and more layers of an untrained network."""

RECORDED, SHOWN = "recorded.npz", "figures.json"


def prepare(folder: Path, name: str) -> None:
    """Make a network's checkpoint, artefact and ONNX files in `folder`, and write down what that cost."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, artefact = folder / "model.pt", folder / "artefact"
    output_of(command("example", str(folder), "--network", name, "--force", "-q"), plain=True)
    compiled = watch(command(str(checkpoint), "--target", "native", "-o", str(artefact), "--force", "-q"))
    verified = output_of(command("verify", str(artefact), "--format", "json", "-q"))
    original = Compilation(CompileOptions(target="", scheme="float"), checkpoint)
    ir.save(original.exported, folder / "fp32.onnx")
    recorded: dict[str, Any] = dict(original.run.arrays())
    np.savez(folder / RECORDED, **recorded)
    pictures = list(_calibration(name, folder))
    quantize(folder / "fp32.onnx", folder / "int8.onnx", "", pictures, ACROSS_PARTS)
    checkpoint.unlink()  # hundreds of megabytes
    told = {
        "compile": {"seconds": round(compiled.seconds, 1), "peak_mb": round(compiled.peak_mb)},
        "bytes": sum((artefact / part).stat().st_size for part in ("model.so", "weights.bin")),
        "verify": {key: verified[key] for key in ("ok", "equal", "max_abs_error")},
    }
    (folder / SHOWN).write_text(json.dumps(told))


def _calibration(name: str, folder: Path) -> Iterator[Feeds]:
    """The photograph, a drawn person, and both mirrored."""
    interface = get_network(name).interface("full")
    for picture in ("person.png", "drawn.jpg"):
        feeds = picture_inputs(interface, folder / picture)
        yield feeds
        yield {key: value[..., ::-1].copy() if value.ndim == 4 else value for key, value in feeds.items()}


def measure(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """The times of one network, prepared in `folder`."""
    with np.load(folder / RECORDED) as recorded:
        arrays = dict(recorded)
    feeds = {port.name: arrays.pop(port.name) for port in get_network(name).interface("full").inputs}
    errors, runs = {}, {}
    for peer, allowed in (("fp32", FP32_ERROR), ("int8", INT8_ERROR)):
        session = ort_session(folder / f"{peer}.onnx")
        names = [output.name for output in session.get_outputs()]
        got = dict(zip(names, session.run(None, feeds), strict=True))
        errors[f"ort_{peer}"] = max(relative_error(got[key], arrays[key]) for key in arrays)
        if not errors[f"ort_{peer}"] <= allowed:
            raise SystemExit(
                f"{name}: ort_{peer} disagrees with torch by {errors}, allowed is {allowed}; not timed"
            )
        runs[f"ort_{peer}"] = lambda session=session: session.run(None, feeds)
    with Model(folder / "artefact") as model:
        every: dict[str, Callable[[], object]] = {"bhpe": lambda: model.run(feeds), **runs}
        times = interleave(every, rounds)
    word = name.replace("-", "_")
    return {
        **json.loads((folder / SHOWN).read_text()),
        **summary(times),
        "peer_errors": errors,
        "ratios": ratios(
            times, "bhpe", {f"{word}_vs_ort_fp32": "ort_fp32", f"{word}_vs_ort_int8": "ort_int8"}
        ),
    }


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__, rounds=15)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    arguments.add_argument("--kept", type=Path, help="make the files here, or use those that are there")
    arguments.add_argument("--prepare", action="store_true", help="make the files and measure nothing")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    wanted = args.names or NAMES
    there = [name for name in wanted if name in registered()]
    found = {}
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as temporary:
        root = args.kept or Path(temporary)
        for name in there:
            if not (root / name / SHOWN).exists():
                prepare(root / name, name)
        if not args.prepare:
            found = {name: measure(root / name, name, args.rounds) for name in there}
    figures = {
        **facts(),
        "networks": found,
        "ratios": {key: value for one in found.values() for key, value in one["ratios"].items()},
        "disturbed": [f"{who} of {name}" for name, one in found.items() for who in one["disturbed"]],
        "missing": [f"{name} (no such network)" for name in wanted if name not in there],
    }
    report(figures, args.output)


if __name__ == "__main__":
    main()
