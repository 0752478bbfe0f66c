"""The body branch alone, a ResNet-50 of 1 x 3 x 256 x 192: our binary network against full-precision peers.

    python benchmarks/body.py [--rounds 25] [-o results.json]

A seeded Hand4Whole gives its `backbone`, once binarized (BiDRN; the stem stays in full precision) and compiled for
this machine (`bhpe`) and for any x86-64-v3 CPU (`bhpe_x86`, AVX2; `bhpe_x86_pairs` with `--pair-safe`), once with its
four 1x1 shortcuts binary as well (`bhpe_shortcuts`, not BiDRN, but what binary networks of other papers are), and in
full precision for

    ort_fp32           ONNX Runtime
    ort_int8           ONNX Runtime: QDQ, U8 activations, S8 weights with a scale per channel, calibrated
    openvino_nncf      OpenVINO on the model that NNCF quantized
    openvino_qdq       OpenVINO on the QDQ model of ort_int8
    openvino_fp32      OpenVINO on the FP32 model

`body_vs_openvino_int8` is against the faster of OpenVINO's two INT8 models; `avx2_body_vs_openvino_int8_avx2` puts
`bhpe_x86` against the faster one where OpenVINO is held to AVX2, in processes of their own (medians over several), and
`avx2_pairs_body_vs_openvino_int8_avx2` `bhpe_x86_pairs`. All
run the same picture on one thread, in turn. Nothing is timed before its result is checked: peers against torch (FP32
within 1e-4, INT8 within 0.35 relative error, untrained networks being hard on INT8), ours by `verify` (all integers bit
for bit, floats against ONNX Runtime). Sizes, load times and memory are measured in fresh processes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from common import facts, interleave, medians, parser, ratios, report, require_close, summary
from numpy.typing import NDArray
from peers import missing, nncf_quantize, openvino_run, ort_session, quantize
from process import AVX2_ONLY, footprint, output_of, script_command

from bhpe_compile.check.verify import verify
from bhpe_compile.compiler.compile import compile_graph
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.networks.hand4whole.initialise import initialise, textured_pictures
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import PRESETS
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, trace
from bhpe_compile.runtime import Model
from bhpe_compile.targets import get_target, host_runs

Array = NDArray[Any]

CALIBRATION = 8
"""Pictures that the INT8 peers are calibrated on; the one they run comes first."""

FP32_TOLERANCE, INT8_TOLERANCE = 1e-4, 0.35
OUTPUT = "features"
HELD = 5
"""Processes in which OpenVINO is held to AVX2."""

OURS: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    ("bhpe", "native", (), False),
    ("bhpe_x86", "x86", (), False),
    ("bhpe_x86_pairs", "x86", (), True),
    ("bhpe_shortcuts", "native", ("*.downsample.0",), False),
)
"""Name, target, layers that are binary beyond the scheme, and whether 8-bit weights are pair-safe."""

AVX2_SIDES = {
    "bhpe_x86": "avx2_body_vs_openvino_int8_avx2",
    "bhpe_x86_pairs": "avx2_pairs_body_vs_openvino_int8_avx2",
}
"""Ours that stand against OpenVINO held to AVX2, and the names of the ratios."""


class Body(torch.nn.Module):
    """The backbone with a named output, as the compiler wants it."""

    def __init__(self, model: Hand4Whole) -> None:
        super().__init__()
        self.backbone = model.backbone

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """image [1, 3, 256, 192] -> features [1, 2048, 8, 6]."""
        return {OUTPUT: self.backbone(image)}


def pictures(preset: Any) -> list[Array]:
    """The embedded photograph and textured ones, as the body branch sees them."""
    from importlib.resources import as_file, files

    from bhpe_compile.evaluate.frame import framed
    from bhpe_compile.runtime import load_picture

    with as_file(files("bhpe_compile") / "data" / "person.png") as path:
        photograph = torch.from_numpy(framed(load_picture(path)).tensor)
    clouds = textured_pictures(CALIBRATION - 1, preset.image, torch.Generator().manual_seed(1))
    step = preset.image[0] // preset.body[0]
    return [p[None, :, ::step, ::step].contiguous().numpy() for p in (*photograph, *clouds)]


def compile_ours(model: Body, picture: Array, folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Artefacts by name with what is to be told of each; SystemExit where one does not verify."""
    made = {}
    for name, target, forced, pair_safe in OURS:
        if not host_runs(get_target(target)):
            continue
        graph, _ = binarize(model, BinarizeOptions(binarize=forced))
        path = folder / name
        options = CompileOptions(target, pair_safe=pair_safe)
        compiled = compile_graph(freeze(graph), {"image": picture}, path, options)
        found = verify(path)
        if not found.binary_exact or not found.ok:
            raise SystemExit(f"{name} does not compute its network: {found.first_difference}; not timed")
        size = {file: (path / file).stat().st_size for file in ("model.so", "weights.bin")}
        made[name] = (
            path,
            {
                "bytes": {**size, "library_and_weights": sum(size.values())},
                "compile_s": round(sum(compiled.seconds.values()), 1),
                "footprint": footprint("bhpe", path),
                "verify": {
                    "binary_layers": found.binary_layers,
                    "max_abs_error": found.max_abs_error,
                    "equal": found.equal,
                },
            },
        )
    return made


def make_peers(folder: Path, calibration: list[Array]) -> tuple[dict[str, tuple[str, Path]], list[str]]:
    """(program, model file) by name of the peer, and the peers that are not installed."""
    fp32, int8, nncf = folder / "body.onnx", folder / "body-int8.onnx", folder / "body-nncf.xml"
    quantize(fp32, int8, "image", calibration)
    peers = {"ort_fp32": ("onnxruntime", fp32), "ort_int8": ("onnxruntime", int8)}
    absent = missing("openvino", "nncf")
    if "openvino" not in absent:
        peers |= {"openvino_fp32": ("openvino", fp32), "openvino_qdq": ("openvino", int8)}
        if "nncf" not in absent:
            nncf_quantize(fp32, nncf, calibration)
            peers["openvino_nncf"] = ("openvino", nncf)
    return peers, absent


def runner(program: str, path: Path) -> Callable[[Array], Array]:
    """A function from the picture to the features."""
    if program == "openvino":
        return openvino_run(path)
    session = ort_session(path)
    return lambda picture: np.asarray(session.run(None, {"image": picture})[0])


def held_once(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of our AVX2 code and of OpenVINO's INT8 models, in turn in this process: medians, and quarters that
    are faster, which other guests on the cores of a virtual machine disturb less."""
    picture = np.load(folder / "picture.npy")
    runs: dict[str, Callable[[], object]] = {}
    for path in sorted(folder.glob("held-*")):
        run = openvino_run(path.resolve())
        runs[path.stem.removeprefix("held-")] = lambda run=run: run(picture)  # type: ignore[misc]
    with ExitStack() as opened:
        for name in AVX2_SIDES:
            model = opened.enter_context(Model(folder / name))
            runs[name] = lambda model=model: model.run(picture)  # type: ignore[misc]
        times = interleave(runs, rounds)
        quarters = {name: statistics.quantiles(values, n=4)[0] for name, values in times.items()}
        return {"median": medians(times), "lower_quartile": quarters}


def held(folder: Path, peers: dict[str, Path], picture: Array, rounds: int) -> dict[str, Any]:
    """Our AVX2 code against OpenVINO held to AVX2, in HELD processes; nothing without OpenVINO.

    peers: OpenVINO's INT8 models by name; `folder` holds our artefacts.
    """
    if not peers:
        return {}
    np.save(folder / "picture.npy", picture)
    for name, path in peers.items():
        (folder / f"held-{name}{path.suffix}").symlink_to(path)
    words = script_command("body.py", "--held", str(folder), "--rounds", str(rounds))
    found = [dict(output_of(words, **AVX2_ONLY)) for _ in range(HELD)]

    def middle(kind: str) -> dict[str, float]:
        return {n: round(statistics.median(one[kind][n] for one in found), 3) for n in found[0][kind]}

    def each(kind: str) -> dict[str, list[float]]:
        return {
            ratio: sorted(round(min(one[kind][peer] for peer in peers) / one[kind][name], 2) for one in found)
            for name, ratio in AVX2_SIDES.items()
        }

    return {
        "median_ms": middle("median"),
        "lower_quartile_ms": middle("lower_quartile"),
        "best": min(peers, key=middle("median").__getitem__),
        "ratios": {ratio: statistics.median(values) for ratio, values in each("median").items()},
        "ratios_of_each_process": each("median"),
        "ratios_of_lower_quartiles": each("lower_quartile"),
    }


@dataclass(frozen=True)
class Prepared:
    """Everything that is timed: artefacts with what is told of them, (program, file) of the peers, what torch says."""

    picture: Array
    reference: Array
    ours: dict[str, tuple[Path, dict[str, Any]]]
    peers: dict[str, tuple[str, Path]]
    absent: list[str]


def prepare(folder: Path) -> Prepared:
    """Make all files in `folder`; SystemExit where an artefact does not verify."""
    torch.set_num_threads(1)
    preset = PRESETS["full"]
    model = Body(initialise(Hand4Whole(preset), 0)).eval()
    calibration = pictures(preset)
    picture = calibration[0]
    original = freeze(trace(model))
    plain = Compilation.of_graph(original, {"image": picture}, CompileOptions(target=""))
    ir.save(plain.exported, folder / "body.onnx")
    ours = compile_ours(model, picture, folder)
    return Prepared(picture, plain.run.arrays()[OUTPUT], ours, *make_peers(folder, calibration))


def measure(made: Prepared, folder: Path, rounds: int) -> dict[str, Any]:
    """All figures."""
    picture, ours, peers = made.picture, made.ours, made.peers
    details: dict[str, Any] = {name: told for name, (_, told) in ours.items()}
    runs: dict[str, Callable[[], object]] = {}
    for name, (program, path) in peers.items():
        run = runner(program, path)
        tolerance = FP32_TOLERANCE if name.endswith("fp32") else INT8_TOLERANCE
        error = require_close(name, run(picture), made.reference, tolerance)
        files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
        size = sum(file.stat().st_size for file in files)
        details[name] = {"relative_error": error, "bytes": size, "footprint": footprint(program, path)}
        runs[name] = lambda run=run: run(picture)  # type: ignore[misc]
    models = {name: Model(path) for name, (path, _) in ours.items()}
    runs = {name: lambda m=m: m.run(picture) for name, m in models.items()} | runs  # type: ignore[misc]
    times = interleave(runs, rounds)
    for one in models.values():
        one.close()
    middle = medians(times)
    openvino = min((n for n in ("openvino_nncf", "openvino_qdq") if n in middle), key=middle.get, default="")
    named = {
        "body_vs_ort_fp32": "ort_fp32",
        "body_vs_ort_int8": "ort_int8",
        "body_vs_openvino_fp32": "openvino_fp32",
        "body_vs_openvino_int8": openvino,
    }
    found: dict[str, float] = {}
    for own, prefix in (("bhpe", "body"), ("bhpe_x86", "avx2_body"), ("bhpe_shortcuts", "shortcuts_body")):
        if own in middle:
            found |= ratios(times, own, {key.replace("body", prefix): peer for key, peer in named.items()})
    int8 = {name: path for name, (_, path) in peers.items() if name in ("openvino_nncf", "openvino_qdq")}
    avx2 = held(folder, int8 if "bhpe_x86" in ours else {}, picture, rounds)
    if avx2:
        found |= avx2["ratios"]
    return {
        **facts(),
        **summary(times),
        "ratios": found,
        "held_to_avx2": avx2,
        "openvino_int8": openvino or None,
        "details": details,
        "missing": made.absent,
    }


def main() -> None:
    """Measure, print, write."""
    made = parser(__doc__, rounds=25)
    made.add_argument("--held", type=Path, help=argparse.SUPPRESS)
    args = made.parse_args()
    if args.held:
        print(json.dumps(held_once(args.held, args.rounds)))
        return
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        report(measure(prepare(Path(folder)), Path(folder), args.rounds), args.output)


if __name__ == "__main__":
    main()
