"""A compiled BinaryHPE artefact against ONNX Runtime, FP32 and INT8, on the original Hand4Whole: whole networks.

    python benchmarks/whole_network.py [--preset full] [--target native] [--rounds 15] [--keep FOLDER] [-o results.json]

A seeded model is written and compiled by the command line (seconds, peak memory of all its processes, bytes; kept in
FOLDER if one is named). Then all run the same picture, in turn in one process, one thread each:

    bhpe                the artefact
    bhpe_two_threads    the artefact on two threads
    ort_fp32            ONNX Runtime on the original network
    ort_int8            the same with Conv, Gemm and what lies between them in INT8 (QDQ, U8 activations, S8 weights
                        with a scale per channel, calibrated); ONNX Runtime has no INT8 transposed convolution

Before anything is timed, ONNX Runtime's boxes and joints are checked against torch's (INT8: within 32 pixels of the
512 x 384 picture and 1 cell of the heat map, which untrained networks just about keep), the artefact by
`bhpe-compile verify`, its two threads against its one.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import inspect
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from common import facts, interleave, parser, ratios, report, summary
from numpy.typing import NDArray
from peers import ACROSS_PARTS, ort_session, quantize
from process import command, footprint, output_of, watch

from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise, textured_pictures
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import PRESETS
from bhpe_compile.runtime import Model

Array = NDArray[Any]

FP32_GAPS = {"bbox": 0.5, "joint": 0.5}
INT8_GAPS = {"bbox": 32.0, "joint": 1.0}
"""Largest differences with torch, by a word of the output's name: pixels of the picture, cells of the heat map."""

CALIBRATION = 8
"""Pictures that INT8 is calibrated on; the one that is run comes first."""


def require_gaps(
    who: str, got: Mapping[str, Array], want: Mapping[str, Array], allowed: Mapping[str, float]
) -> Any:
    """Largest difference by kind of output; SystemExit where one is not allowed."""
    gaps = {
        word: max(float(np.abs(got[name] - want[name]).max()) for name in want if word in name)
        for word in allowed
    }
    if any(not gap <= allowed[word] for word, gap in gaps.items()):
        raise SystemExit(f"{who} disagrees with torch by {gaps}, allowed are {allowed}; not timed")
    return gaps


def compile_ours(folder: Path, checkpoint: Path, target: str) -> tuple[Path, dict[str, Any]]:
    """The artefact, verified, and what it costs."""
    artefact = folder / f"{checkpoint.stem}-{target}"
    compiled = watch(command(str(checkpoint), "--target", target, "-o", str(artefact), "-q"))
    verified = output_of(command("verify", str(artefact), "--format", "json", "-q"))
    size = {name: (artefact / name).stat().st_size for name in ("model.so", "weights.bin")}
    return artefact, {
        "compile": {"seconds": round(compiled.seconds, 1), "peak_mb": round(compiled.peak_mb)},
        "bytes": {**size, "library_and_weights": sum(size.values())},
        "footprint": footprint("bhpe", artefact),
        "verify": {
            key: verified[key] for key in ("ok", "equal", "binary_exact", "int8_exact", "max_abs_error")
        },
    }


def peer_sessions(folder: Path, checkpoint: Path) -> tuple[dict[str, Any], Array, dict[str, Any]]:
    """ONNX Runtime's sessions, checked against torch; the picture; what is to be told of them."""
    preset = PRESETS[checkpoint.stem]
    float_model, int8_model = folder / "float.onnx", folder / "int8.onnx"
    original = Compilation(CompileOptions(target="", scheme="float"), checkpoint)
    ir.save(original.exported, float_model)
    expected = original.run.arrays()
    picture = expected.pop("image")
    clouds = textured_pictures(CALIBRATION - 1, preset.image, torch.Generator().manual_seed(1))
    quantize(float_model, int8_model, "image", [picture, *(c[None].numpy() for c in clouds)], ACROSS_PARTS)
    sessions, details = {}, {}
    for name, path, allowed in (
        ("ort_fp32", float_model, FP32_GAPS),
        ("ort_int8", int8_model, INT8_GAPS),
    ):
        sessions[name] = ort_session(path)
        outputs = [o.name for o in sessions[name].get_outputs()]
        got = dict(zip(outputs, sessions[name].run(None, {"image": picture}), strict=True))
        details[name] = {
            "gaps": require_gaps(name, got, expected, allowed),
            "bytes": path.stat().st_size,
            "footprint": footprint("onnxruntime", path),
        }
    return sessions, picture, details


def two_threads(path: Path) -> Model | None:
    """The artefact on two threads, or None where the runtime does not offer it."""
    if "threads" not in inspect.signature(Model).parameters:
        return None
    options: dict[str, Any] = {"threads": 2}
    return Model(path, **options)


def measure(folder: Path, preset: str, target: str, rounds: int) -> dict[str, Any]:
    """All figures of one preset and target."""
    torch.set_num_threads(1)
    checkpoint = folder / f"{preset}.pt"
    save_model(checkpoint, initialise(Hand4Whole(PRESETS[preset]), 0), f"hand4whole:{preset}")
    artefact, costs = compile_ours(folder, checkpoint, target)
    sessions, picture, details = peer_sessions(folder, checkpoint)
    missing = []
    with ExitStack() as open_models:
        one = open_models.enter_context(Model(artefact))
        runs: dict[str, Callable[[], object]] = {"bhpe": lambda: one.run(picture)}
        two = two_threads(artefact)
        if two is None:
            missing.append("two threads (Model takes no `threads`)")
        else:
            open_models.enter_context(two)
            other = two.run(picture)
            for name, array in one.run(picture).items():
                if not np.array_equal(array, other[name]):
                    raise SystemExit(f"{name} differs between one thread and two; not timed")
            runs["bhpe_two_threads"] = lambda: two.run(picture)
        runs |= {
            name: lambda session=session: session.run(None, {"image": picture})
            for name, session in sessions.items()
        }
        times = interleave(runs, rounds)
    named = {"whole_vs_ort_fp32": "ort_fp32", "whole_vs_ort_int8": "ort_int8"}
    found = ratios(times, "bhpe", named)
    if two is not None:
        found |= ratios(times, "bhpe_two_threads", {"two_threads": "bhpe"})
    return {
        **facts(),
        **costs,
        **summary(times),
        "preset": preset,
        "target": target,
        "ratios": found,
        "peers": details,
        "missing": missing,
    }


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__, rounds=15)
    arguments.add_argument("--preset", default="full", choices=("full", "tiny"))
    arguments.add_argument("--target", default="native")
    arguments.add_argument("--keep", type=Path, help="keep the artefact in this folder")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as temporary:
        folder = Path(temporary)
        figures = measure(folder, args.preset, args.target, args.rounds)
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            name = f"{args.preset}-{args.target}"
            shutil.copytree(folder / name, args.keep / name, dirs_exist_ok=True)
    report(figures, args.output)


if __name__ == "__main__":
    main()
