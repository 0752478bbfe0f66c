"""Whole network, full preset: a compiled BinaryHPE artefact against ONNX Runtime FP32 on the original Hand4Whole.

    python benchmarks/whole_network.py [--preset full] [--target native] [--rounds 15] [-o results.json]

Both run the same picture on one thread, interleaved in one process; medians and their ratio are printed. Before
anything is timed ONNX Runtime's result is checked against torch's and the artefact passes its own verification of
integers (`bhpe-compile verify` does the complete one).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"


def resident_kb(field: str = "VmRSS:") -> int:
    """A line of /proc/self/status, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return -1


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


def cpu_name() -> str:
    """The processor as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="full", choices=("full", "tiny"))
    parser.add_argument("--target", default="native")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()

    import numpy as np
    import onnx_ir as ir
    import onnxruntime
    import torch

    from bhpe_compile import pipeline
    from bhpe_compile.models.checkpoint import save_model
    from bhpe_compile.models.hand4whole import Hand4Whole
    from bhpe_compile.models.initialise import initialise
    from bhpe_compile.models.presets import PRESETS
    from bhpe_compile.runtime import load_artifact

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.pt"
        model = Hand4Whole(PRESETS[args.preset])
        initialise(model, 0)
        save_model(checkpoint, model)
        start = time.perf_counter()
        artefact = Path(folder) / "artefact"
        result = pipeline.compile_model(checkpoint, artefact, pipeline.CompileOptions(target=args.target))
        compile_seconds = time.perf_counter() - start
        reference = pipeline.original_onnx(checkpoint)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(ir.to_proto(reference).SerializeToString(), options)
        image = np.random.default_rng(0).random((1, 3, 512, 384), dtype=np.float32)
        with torch.no_grad():
            expected = model.eval()(torch.from_numpy(image))
        names = [o.name for o in session.get_outputs()]
        gap = max(
            float(np.abs(got - expected[name].numpy()).max())
            for name, got in zip(names, session.run(None, {"image": image}), strict=True)
            if "bbox" in name or "joint" in name
        )
        if gap > 0.5:
            raise SystemExit(f"ONNX Runtime disagrees with torch by {gap}: nothing timed")
        start = time.perf_counter()
        compiled = load_artifact(artefact)
        load_ms = (time.perf_counter() - start) * 1e3
        runs: dict[str, Callable[[], object]] = {
            "bhpe": lambda: compiled.run(image),
            "onnxruntime_fp32": lambda: session.run(None, {"image": image}),
        }
        times = interleave(runs, args.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        summary = {
            "preset": args.preset,
            "target": args.target,
            "cpu": cpu_name(),
            "threads": 1,
            "median_ms": {k: round(v, 2) for k, v in medians.items()},
            "spread_ms": {k: [round(min(v), 2), round(max(v), 2)] for k, v in times.items()},
            "ratios": {"whole_vs_ort_fp32": round(medians["onnxruntime_fp32"] / medians["bhpe"], 2)},
            "compile_seconds": round(compile_seconds, 1),
            "stage_seconds": {k: round(v, 1) for k, v in result.seconds.items()},
            "load_ms": round(load_ms, 1),
            "ort_vs_torch_max_gap": gap,
        }
        text = json.dumps(summary, indent=2, sort_keys=True)
        print(text)
        if args.output:
            args.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
