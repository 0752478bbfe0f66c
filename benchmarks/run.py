"""All benchmarks: what `make bench` runs.

    python benchmarks/run.py [--only conv,body,...] [--quick] [--results benchmarks/results/latest.json]

    conv    single convolutions                         convolutions.py
    body    the ResNet-50 body branch                   body.py
    whole   the full network, this machine              whole_network.py --preset full --target native
    x86     the full network, AVX2 (not in --quick)     whole_network.py --preset full --target x86
    tiny    the tiny network, AVX2                      whole_network.py --preset tiny --target x86
    time    where the time of the full network goes     where_time_goes.py, draws docs/images/where-time-goes.svg
    arm     the inner loops on AArch64, by analysis     arm.py
    networks  SPIN, CLIFF, ... (not in --quick)         networks.py
    web     the tiny network in Chromium                web.py
    doors   imported ONNX networks                     doors.py (not in --quick)
    people  five people in a picture against one        people.py
    films   speed, memory and identities in films       films.py (not in --quick)

Each part runs in a process of its own, one after the other, on an otherwise idle machine if the figures are to mean
anything: `disturbed` names what others slowed down (its median is over 1.15 times its fastest run).

The results are merged into one JSON file: `ratios` (how many times faster we are, and what five people cost: the only
figures that carry over to another machine), `arm`, `missing` (peers that were not installed), and everything measured
in `details`. With --only, the other parts keep the figures, the date and the versions they had. A part that fails is
named, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common import facts
from process import environment, script_command

from bhpe_compile.files import write_atomically

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
FIGURE = HERE.parent / "docs" / "images" / "where-time-goes.svg"

RATIOS = {
    "conv": (
        *(
            "conv_bits_vs_ort_fp32",
            "conv_bits_vs_ort_int8",
            "conv_fused_vs_ort_fp32",
            "conv_fused_vs_ort_int8",
        ),
        *("avx2_conv_vs_ort_fp32",),
    ),
    "body": (
        *("body_vs_ort_fp32", "body_vs_ort_int8", "body_vs_openvino_int8"),
        "avx2_body_vs_openvino_int8_avx2",
        "avx2_pairs_body_vs_openvino_int8_avx2",
    ),
    "whole": ("whole_vs_ort_fp32", "whole_vs_ort_int8", "two_threads"),
    "networks": tuple(
        f"{name}_vs_ort_{peer}"
        for name in ("spin", "cliff_r50", "cliff_hr48", "vqhps_r50")
        for peer in ("fp32", "int8")
    ),
    "web": ("web_vs_ort_web_fp32", "web_vs_ort_web_int8"),
    "people": ("five_people_vs_one",),
    "doors": (
        *("doors_int8_vs_ort_int8", "doors_int8_vs_best_int8", "doors_fp32_vs_ort_fp32"),
        *("doors_avx2_vs_openvino_int8_avx2", "doors_avx2_pairs_vs_openvino_int8_avx2"),
        *("depthwise_vs_ort_int8", "depthwise_avx2_vs_ort_int8"),
    ),
}
"""The ratios of each part that stand at the top of the results; the rest stays in its details."""


class PartError(Exception):
    """A part that produced no figures, with the reason."""


def script(name: str, *arguments: str) -> dict[str, Any]:
    """What one benchmark writes."""
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        output = Path(folder) / "figures.json"
        words = script_command(name, *arguments, "-o", str(output))
        done = subprocess.run(
            words,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PartError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return dict(json.loads(output.read_text()))


def arm() -> dict[str, Any]:
    """The analysis for AArch64, where this checkout has it."""
    if find_spec("arm") is None:
        return {"missing": ["arm (no benchmarks/arm.py)"]}
    try:
        return dict(importlib.import_module("arm").measure())
    except (
        Exception,
        SystemExit,
    ) as error:  # the boundary between parts: it is reported, and the others go on
        raise PartError(f"{type(error).__name__}: {error}") from error


def parts(
    quick: bool, artefacts: Path, figure: Path = FIGURE, kept: Path | None = None, models: Path | None = None
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every part by name, in order. kept: where the part `networks` has its files, None: nowhere; models: a folder of
    pretrained networks that `doors` measures as well."""
    kept_networks = () if kept is None else ("--kept", str(kept))
    pretrained = () if models is None else ("--models", str(models.resolve()))

    def rounds(many: int) -> tuple[str, str]:
        return "--rounds", str(max(5, many // 5) if quick else many)

    def network(preset: str, target: str, *more: str) -> dict[str, Any]:
        return script("whole_network.py", "--preset", preset, "--target", target, *rounds(15), *more)

    def time() -> dict[str, Any]:
        kept = artefacts / "full-native"
        given = [str(kept)] if kept.exists() else []
        return script("where_time_goes.py", *given, *rounds(25), "--svg", str(figure))

    return {
        "conv": lambda: script("convolutions.py", *rounds(25)),
        "body": lambda: script("body.py", *rounds(25)),
        "whole": lambda: network("full", "native", "--keep", str(artefacts)),
        "x86": lambda: network("full", "x86"),
        "tiny": lambda: network("tiny", "x86"),
        "time": time,
        "arm": arm,
        "networks": lambda: script("networks.py", *rounds(15), *kept_networks),
        "web": lambda: script("web.py", *rounds(60)),
        "people": lambda: script("people.py", *rounds(25)),
        "films": lambda: script("films.py"),
        "doors": lambda: script("doors.py", *rounds(15), *pretrained),
    }


def merge(before: dict[str, Any], name: str, figures: dict[str, Any], quick: bool) -> dict[str, Any]:
    """`before` with one part's figures in the place of those it had."""
    details = {**before.get("details", {}), name: {"quick": quick, **figures}}
    listed = RATIOS.get(name, ())
    ratios = {key: value for key, value in before.get("ratios", {}).items() if key not in listed}
    ratios |= {key: figures["ratios"][key] for key in listed if key in figures.get("ratios", {})}
    return {
        **facts(),
        "ratios": ratios,
        "arm": figures if name == "arm" else before.get("arm", {}),
        "missing": [f"{part}: {peer}" for part, one in details.items() for peer in one.get("missing", ())],
        "details": details,
    }


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; SystemExit for a part that does not exist."""
    names = list(parts(False, Path()))
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--only", default="", help=f"parts, separated by commas: {','.join(names)}")
    made.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds; not the full network for x86, no other networks, no films",
    )
    made.add_argument("--results", type=Path, default=RESULTS, help="the JSON file to merge into")
    made.add_argument("--figure", type=Path, default=FIGURE, help="the drawing of the part `time`")
    made.add_argument("--kept", type=Path, help="files of the part `networks`, made there once (minutes)")
    made.add_argument("--models", type=Path, help="a folder of pretrained networks for the part `doors`")
    args = made.parse_args(words)
    args.only = [name for name in args.only.split(",") if name]
    unknown = sorted(set(args.only) - set(names))
    if unknown:
        made.error(f"unknown part {', '.join(unknown)}: known are {', '.join(names)}")
    args.only = args.only or [
        name for name in names if not (args.quick and name in ("x86", "networks", "films", "doors"))
    ]
    return args


def main(words: Sequence[str] | None = None) -> None:
    """Run the parts and merge what they found, after each."""
    args = arguments(words)
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        for name, run in parts(args.quick, Path(folder), args.figure, args.kept, args.models).items():
            if name not in args.only:
                continue
            print(f"{name} ...", flush=True)
            try:
                figures = run()
            except PartError as error:
                failed[name] = str(error)
                print(f"{name} failed: {error}", flush=True)
                continue
            for peer in figures.get("missing", []):
                print(f"{name}: missing {peer}")
            if figures.get("disturbed"):
                print(f"{name}: other programs disturbed {', '.join(figures['disturbed'])}; measure again")
            before = json.loads(args.results.read_text()) if args.results.exists() else {}
            after = merge(before, name, figures, args.quick)
            args.results.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.results, (json.dumps(after, indent=2, sort_keys=True) + "\n").encode())
            for key, value in figures.get("ratios", {}).items():
                print(f"  {key:40s} {value:6.2f}")
    print(f"written: {args.results}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
