"""How long every step of a compiled network takes, as a table by kind and as a drawing.

    python benchmarks/where_time_goes.py [ARTEFACT] [--rounds 25] [--svg docs/images/where-time-goes.svg] [-o FILE]

Without ARTEFACT a seeded full network is compiled for this machine. The steps are run one by one, in order, on the
embedded photograph and on one thread; a figure is the median over the rounds (a call from Python adds 2 microseconds).
`binary` are the kernels on packed bits, `dense` those of layers in full precision, `other` pooling, packing, sampling,
and what TVM generated for the arithmetic between the networks.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import itertools
import json
import statistics
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

from common import facts, parser, report

from bhpe_compile.artifact import load_reference
from bhpe_compile.files import write_atomically
from bhpe_compile.runtime import Model, StepInfo

COLOURS = {"binary": "#2a6fbb", "8-bit": "#3f9c6d", "dense": "#e07b39", "other": "#7a8288"}
INK, FAINT, PAPER = "#1d2327", "#d5dadd", "#ffffff"

PARTS = {
    "backbone": "body trunk",
    "body_position_net": "body joints",
    "box_net": "boxes",
    "hand_roi_net": "hand trunk (two crops)",
    "hand_position_net": "hand joints",
    "hand_rotation_net": "hand pose",
    "body_rotation_net": "body pose",
    "face_roi_net": "face trunk",
    "face_regressor": "face",
}
"""First word of a layer's path -> what the drawing calls it."""

SPACE_FOR_NAME = 6.0
"""Pixels a character of a part's name takes."""

NAMED = 0.25
"""Steps of at least this part of the slowest one are named by the role of their layer."""

LABEL_WIDTH, LABEL_HEIGHT = 46, 12
"""Room a name needs; of two that would overlap, the slower step's is drawn."""


def group_of(step: StepInfo) -> str:
    """binary, 8-bit, dense or other."""
    prefixes = {"Binary": "binary", "Int8": "8-bit", "Quantize": "8-bit", "Dense": "dense"}
    return next((group for prefix, group in prefixes.items() if step.kind.startswith(prefix)), "other")


def measure(artefact: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of every step, and the sums by group."""
    recorded = load_reference(artefact).inputs
    rows = json.loads((artefact / "report.json").read_bytes())["layers"]
    roles = {row["name"]: row["role"] for row in rows}
    with Model(artefact) as model:
        times: list[list[float]] = [[] for _ in model.steps]
        whole: list[float] = []
        for _ in range(rounds + 2):
            for index, port in enumerate(model.inputs):
                model.input(index)[...] = recorded[port.name]
            for step, listed in enumerate(times):
                start = time.perf_counter()
                model.execute_step(step)
                listed.append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            model.execute()
            whole.append((time.perf_counter() - start) * 1e3)
        steps = [
            {
                "layer": s.layer,
                "role": roles.get(s.layer, ""),
                "kind": s.kind,
                "group": group_of(s),
                "ms": statistics.median(listed[2:]),
            }
            for s, listed in zip(model.steps, times, strict=True)
        ]
    sums = {g: sum(s["ms"] for s in steps if s["group"] == g) for g in COLOURS}
    counts = {g: sum(s["group"] == g for s in steps) for g in COLOURS}
    return {
        "network_ms": round(statistics.median(whole[2:]), 3),
        "sum_ms": {group: round(value, 3) for group, value in sums.items()},
        "steps": counts,
        "slowest": sorted(
            ({**s, "ms": round(s["ms"], 3)} for s in steps), key=lambda s: float(s["ms"]), reverse=True
        )[:20],
        "all": steps,
    }


def parts_of(steps: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """(name, first step, steps) of the parts of the network in order; steps of no layer go with those before."""
    words: list[str] = []
    for step in steps:
        word = step["layer"].partition(".")[0]
        words.append(word if word in PARTS else words[-1] if words else next(iter(PARTS)))
    runs, first = [], 0
    for word, members in itertools.groupby(words):
        count = len(list(members))
        runs.append((PARTS[word], first, count))
        first += count
    return runs


def nice_step(largest: float) -> float:
    """A round distance of grid lines, four to eight of them up to `largest`."""
    return next(
        unit * factor
        for unit in (0.001, 0.01, 0.1, 1, 10, 100, 1000)
        for factor in (1, 2, 5)
        if largest / (unit * factor) <= 8
    )


def draw(figures: dict[str, Any], title: str) -> str:
    """The steps as bars, as SVG."""
    steps, sums = figures["all"], figures["sum_ms"]
    left, top, width, height, bottom = 70, 120, 1150, 320, 125
    largest = max(s["ms"] for s in steps)
    grid = nice_step(largest)
    scale = height / (grid * -(-largest // grid))
    pitch = width / len(steps)
    base = top + height
    out: list[str] = []

    def text(x: float, y: float, words: str, size: int = 13, extra: str = "") -> None:
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {extra}>{escape(words)}</text>')

    def box(x: float, y: float, w: float, h: float, colour: str) -> None:
        out.append(f'<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}" fill="{colour}"/>')

    text(left, 32, title, 18, 'font-weight="600"')
    total, x = sum(sums.values()), float(left)
    for group, colour in COLOURS.items():  # one bar of the sums, its parts named below
        part = sums[group] / total
        box(x, 48, part * width, 16, colour)
        x += part * width
    x = float(left)
    for group, colour in COLOURS.items():
        words = f"{group}: {sums[group]:.1f} ms ({sums[group] / total:.0%}), {figures['steps'][group]} steps"
        box(x, 76, 12, 12, colour)
        text(x + 18, 87, words)
        x += 280
    value = 0.0
    while value * scale <= height + 1e-6:
        y = base - value * scale
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="{FAINT}"/>')
        text(left - 8, y + 4, f"{value:g}", 12, 'text-anchor="end"')
        value += grid
    middle = top + height / 2
    text(
        18,
        middle,
        "milliseconds of one step",
        13,
        f'text-anchor="middle" transform="rotate(-90 18 {middle})"',
    )
    for i, step in enumerate(steps):
        tall, x = max(step["ms"] * scale, 0.5), left + i * pitch
        box(x, base - tall, max(pitch - 0.8, 0.6), tall, COLOURS[step["group"]])
    labels: list[tuple[float, float]] = []
    for i, step in sorted(enumerate(steps), key=lambda pair: -pair[1]["ms"]):
        x, y = left + (i + 0.5) * pitch, base - step["ms"] * scale - 4
        free = all(abs(x - other) > LABEL_WIDTH or abs(y - level) > LABEL_HEIGHT for other, level in labels)
        if step["ms"] >= NAMED * largest and free:
            labels.append((x, y))
            text(x, y, step["role"], 11, 'text-anchor="middle"')
    for name, first, count in parts_of(steps):
        start, wide = left + first * pitch, count * pitch
        spent = sum(s["ms"] for s in steps[first : first + count])
        out.append(f'<line x1="{start:.1f}" y1="{top}" x2="{start:.1f}" y2="{base + 8}" stroke="{FAINT}"/>')
        words, centre = f"{name}, {spent:.1f} ms", start + wide / 2
        if spent < 0.005 * total:
            continue
        if wide > SPACE_FOR_NAME * len(words):
            text(centre, base + 20, words, 12, 'text-anchor="middle"')
        else:
            turn = f'text-anchor="end" transform="rotate(-40 {centre:.1f} {base + 18})"'
            text(centre, base + 18, words, 12, turn)
    out.append(f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}" stroke="{INK}"/>')
    text(
        left + width / 2,
        base + bottom - 14,
        "steps in the order in which they run",
        13,
        'text-anchor="middle"',
    )
    size = f"{left + width + 30} {base + bottom}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" fill="{INK}">'
    )
    return "\n".join([head, f'<rect width="100%" height="100%" fill="{PAPER}"/>', *out, "</svg>", ""])


def compile_full(folder: Path) -> Path:
    """A seeded full network, compiled for this machine."""
    from bhpe_compile.compiler.compile import compile_model
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.checkpoint import save_model
    from bhpe_compile.networks.hand4whole.initialise import initialise
    from bhpe_compile.networks.hand4whole.module import Hand4Whole
    from bhpe_compile.networks.hand4whole.presets import PRESETS

    checkpoint, artefact = folder / "full.pt", folder / "full-native"
    save_model(checkpoint, initialise(Hand4Whole(PRESETS["full"]), 0), "hand4whole:full")
    compile_model(checkpoint, artefact, CompileOptions("native"))
    return artefact


def main() -> None:
    """Measure, print, draw, write."""
    arguments = parser(__doc__, rounds=25)
    arguments.add_argument("artefact", type=Path, nargs="?")
    arguments.add_argument("--svg", type=Path, help="draw the steps into this file")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        figures = measure(args.artefact or compile_full(Path(folder)), args.rounds)
    context = facts()
    if args.svg is not None:
        title = f"BinaryHPE, one picture, one thread of {context['cpu']}: {figures['network_ms']:.1f} ms"
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.svg, draw(figures, title).encode())
    del figures["all"]
    report({**context, **figures}, args.output)


if __name__ == "__main__":
    main()
