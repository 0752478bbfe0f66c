"""A compiled BinaryHPE artefact against ONNX Runtime FP32 on the original Hand4Whole, whole networks.

    python benchmarks/whole_network.py [--preset full] [--target native] [--rounds 15] [-o results.json]

A seeded model is written and compiled by the command line (seconds, peak memory of all its processes, bytes). Then
both run the same picture on one thread, interleaved in one process; medians and their ratio are printed. Before
anything is timed, ONNX Runtime's result is checked against torch's, and the artefact's by `bhpe-compile verify`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

sys.path.insert(0, str(Path(__file__).parent))

from process import cpu_name, watch

LARGEST_GAP = 0.5
"""Pixels or cells by which ONNX Runtime may differ from torch before it is timed (float sums in another order)."""


def interleave(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every run, taken in turn after two warm-ups each."""
    for run in runs.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def command(*arguments: str) -> list[str]:
    """The command line of bhpe-compile."""
    return [sys.executable, "-m", "bhpe_compile.cli", *arguments]


def output(words: Sequence[str]) -> Any:
    """What a command prints, as JSON."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def measure(folder: Path, preset: str, target: str, rounds: int) -> dict[str, Any]:
    """All figures of one preset and target."""
    import onnx_ir as ir
    import onnxruntime
    import torch

    from bhpe_compile import pipeline
    from bhpe_compile.models.checkpoint import save_model
    from bhpe_compile.models.hand4whole import Hand4Whole
    from bhpe_compile.models.initialise import initialise
    from bhpe_compile.models.presets import PRESETS
    from bhpe_compile.runtime import Model

    torch.set_num_threads(1)
    checkpoint, artefact = folder / "model.pt", folder / "artefact"
    model = initialise(Hand4Whole(PRESETS[preset]), 0)
    save_model(checkpoint, model, PRESETS[preset])
    compiled = watch(command(str(checkpoint), "--target", target, "-o", str(artefact), "-q"))
    verified = output(command("verify", str(artefact), "--format", "json", "-q"))
    footprint = output([sys.executable, str(Path(__file__).with_name("footprint.py")), str(artefact)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    original = ir.to_proto(pipeline.original_onnx(checkpoint)).SerializeToString()
    session = onnxruntime.InferenceSession(original, options, ["CPUExecutionProvider"])
    image = pipeline.run_reference(pipeline.trace_original(checkpoint), None).arrays()
    picture = image.pop("image")
    names = [o.name for o in session.get_outputs()]
    gap = max(
        float(abs(got - image[name]).max())
        for name, got in zip(names, session.run(None, {"image": picture}), strict=True)
        if "bbox" in name or "joint" in name
    )
    if gap > LARGEST_GAP:
        raise SystemExit(f"ONNX Runtime disagrees with torch by {gap}: nothing timed")
    with Model(artefact) as native:
        times = interleave(
            {
                "bhpe": lambda: native.run(picture),
                "onnxruntime_fp32": lambda: session.run(None, {"image": picture}),
            },
            rounds,
        )
    medians = {name: statistics.median(values) for name, values in times.items()}
    size = {name: (artefact / name).stat().st_size for name in ("model.so", "weights.bin")}
    return {
        "preset": preset,
        "target": target,
        "median_ms": {name: round(value, 2) for name, value in medians.items()},
        "spread_ms": {name: [round(min(v), 2), round(max(v), 2)] for name, v in times.items()},
        "ratios": {"whole_vs_ort_fp32": round(medians["onnxruntime_fp32"] / medians["bhpe"], 2)},
        "compile": {"seconds": round(compiled.seconds, 1), "peak_mb": round(compiled.peak_mb)},
        "bytes": {**size, "library_and_weights": sum(size.values())},
        "footprint": footprint,
        "verify": {key: verified[key] for key in ("ok", "binary_exact", "max_abs_error", "flip_rate")},
        "ort_vs_torch_max_gap": gap,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="full", choices=("full", "tiny"))
    parser.add_argument("--target", default="native")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        figures = measure(Path(folder), args.preset, args.target, args.rounds)
    packages = ("onnxruntime", "torch", "apache-tvm", "ziglang")
    figures |= {
        "cpu": cpu_name(),
        "threads": 1,
        "versions": {name: version(name) for name in packages},
    }
    text = json.dumps(figures, indent=2, sort_keys=True)
    print(text)
    if args.output:
        args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
