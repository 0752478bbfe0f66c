"""Films: frames a second, where a frame's time goes, memory over 10,000 frames, and identities of people who cross.

    python benchmarks/films.py [ARTEFACT] [--frames 300] [--long 10000] [--seeds 0,1,2]

Without an artefact the embedded student is compiled for `x86`. The film is drawn: two people of 640x480 who cross three
times in 300 frames. One thread runs the network; FFmpeg decodes and encodes with threads of its own.

    frames_per_second   one person tracked: lines of JSON alone, and with a drawn film
    share               of a frame's time without drawing: waiting for its decoding, which a thread does meanwhile,
                        cutting out, the network, following the person, saying what was found
    memory_kb           resident after 1,000 frames and after `--long`, without and with a drawn film
    switches            identities exchanged, by seed, as CLEAR MOT counts them (Bernardin, Stiefelhagen, 2008); `seen`
                        is the part of people and frames in which somebody was told of
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import Progress, facts, parser, report
from process import status_kb

import bhpe_compile
from bhpe_compile.api import compile_model
from bhpe_compile.artifact.wheel_module import Frame as CFrame
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.default_body import default_body
from bhpe_compile.evaluate.synth.film import RATE, Box, draw_film
from bhpe_compile.evaluate.threads import one_thread
from bhpe_compile.runtime.boxes import Boxes, Given
from bhpe_compile.runtime.film import FilmWriter, Frame, open_film
from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.overlay import draw_people
from bhpe_compile.runtime.stream import Finder, Person, Where, describe_frame, open_runner

DATA = Path(bhpe_compile.__file__).parent / "data"

EARLY = 1000
"""Frames after which memory is read first."""

HALF = 0.5
"""Overlap from which a box is that of a person."""


def draw(folder: Path, frames: int, seed: int) -> tuple[Path, list[tuple[Box | None, ...]]]:
    """The film, and everybody's box in each frame."""
    path, boxes = folder / f"walk-{seed}.mp4", []
    writer = FilmWriter(path, RATE)
    with one_thread():
        for scene in draw_film(BodyModel.load(default_body()), frames, seed=seed):
            writer.write(scene.rgb)
            boxes.append(scene.boxes)
    writer.close()
    return path, boxes


def first_boxes(boxes: list[tuple[Box | None, ...]], people: int) -> Where:
    """Follow so many of the people of the first frame."""
    given = [Given(tuple(map(float, box))) for box in boxes[0][:people] if box is not None]
    return Where(boxes=Boxes(Path("first"), by_number={0: given}, first_only=True), track=True)


def speed(artefact: Path, film: Path, where: Where, output: Path | None) -> tuple[float, dict[str, float]]:
    """Frames a second, and the median milliseconds of each part of a frame."""
    spent: dict[str, list[float]] = {"decode": [], "find": [], "say": [], "draw": []}
    with (
        open_runner(artefact) as runner,
        open_film(film) as frames,
        (output or Path("/dev/null")).open("w") as lines,
    ):
        find = Finder(runner, where)
        writer = None if output is None else FilmWriter(output.with_suffix(".mp4"), frames.rate)
        begin = last = time.perf_counter()

        def lap(part: str) -> None:
            nonlocal last
            now = time.perf_counter()
            spent[part].append((now - last) * 1e3)
            last = now

        for frame in frames:
            lap("decode")
            people = find(frame)
            lap("find")
            lines.write(json.dumps(describe_frame(frame, people, runner.interface)) + "\n")
            lap("say")
            if writer is not None:
                seen = [(one.picture, one.outputs, one.name) for one in people]
                writer.write(np.asarray(draw_people(frame.rgb, seen, runner.interface)), frame.time)
                lap("draw")
        if writer is not None:
            writer.close()
        whole = time.perf_counter() - begin
    return len(spent["decode"]) / whole, {k: statistics.median(v) for k, v in spent.items() if v}


def network_ms(artefact: Path, rounds: int = 50) -> float:
    """The network alone."""
    with Model(artefact) as model:
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            model.execute()
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def crop_ms(artefact: Path, film: Path, box: Box) -> float:
    """Cutting the box out of every frame of the film, and scaling it, alone."""
    times = []
    with Model(artefact) as model, open_film(film) as frames:
        place, asked = CFrame(), (ctypes.c_double * 4)(*box)
        for frame in frames:
            height, width = frame.rgb.shape[:2]
            pixels = ctypes.c_void_p(frame.rgb.ctypes.data)
            size = ctypes.c_int32(width), ctypes.c_int32(height), ctypes.c_int64(3 * width)
            start = time.perf_counter()
            model._library.set_frame(model._handle, pixels, *size, asked, ctypes.byref(place))
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def memory(artefact: Path, film: Path, where: Where, frames: int, output: Path | None) -> list[int]:
    """Resident kB after 1,000 frames and after `frames`; the film is shown again and again."""

    def endless() -> Iterator[Frame]:
        number = 0
        while True:
            with open_film(film) as opened:
                for frame in opened:
                    yield Frame(frame.name, number, number / RATE, frame.rgb)
                    number += 1

    found = []
    writer = None if output is None else FilmWriter(output, RATE)
    with open_runner(artefact) as runner:
        find = Finder(runner, where)
        for frame in endless():
            people = find(frame)
            json.dumps(describe_frame(frame, people, runner.interface))
            if writer is not None:
                seen = [(one.picture, one.outputs, one.name) for one in people]
                writer.write(np.asarray(draw_people(frame.rgb, seen, runner.interface)), frame.time)
            if frame.number + 1 in (EARLY, frames):
                found.append(status_kb("self", "VmRSS"))
            if frame.number + 1 == frames:
                break
    if writer is not None:
        writer.close()
    return found


def overlap(one: Box, two: Box) -> float:
    """Intersection over union."""
    across = min(one[0] + one[2], two[0] + two[2]) - max(one[0], two[0])
    down = min(one[1] + one[3], two[1] + two[3]) - max(one[1], two[1])
    shared = max(0, across) * max(0, down)
    return shared / (one[2] * one[3] + two[2] * two[3] - shared)


def identities(artefact: Path, film: Path, boxes: list[tuple[Box | None, ...]]) -> tuple[int, float]:
    """Switches, and the part of people and frames that were told of.

    A match of the frame before holds while it overlaps by a half; the others are matched anew, the nearest first.
    """
    last: dict[int, int] = {}
    switches = told = there = 0
    with open_runner(artefact) as runner, open_film(film) as frames:
        find = Finder(runner, first_boxes(boxes, len(boxes[0])))
        for frame, truth in zip(frames, boxes, strict=True):
            left = {k: box for k, box in enumerate(truth) if box is not None}
            people = find(frame)
            there, told = there + len(left), told + len(people)
            for person in sorted(people, key=lambda one: not _holds(one, left, last)):
                number, box = person.id or 0, person.picture.asked_box
                if _holds(person, left, last):
                    del left[last[number]]
                    continue
                near = max(left, key=lambda k: overlap(left[k], box), default=None)
                if near is None or overlap(left[near], box) <= HALF:
                    continue
                del left[near]
                switches += number in last and last[number] != near
                last[number] = near
    return switches, round(told / there, 3)


def _holds(person: Person, left: dict[int, Box], last: dict[int, int]) -> bool:
    box = left.get(last.get(person.id or 0, -1))
    return box is not None and overlap(box, person.picture.asked_box) > HALF


def measure(artefact: Path, folder: Path, frames: int, long: int, seeds: list[int]) -> dict[str, Any]:
    """All figures."""
    tell: Callable[[str, float], None] = Progress()
    films = {}
    for k, seed in enumerate(seeds):
        films[seed] = draw(folder, frames, seed)
        tell("films drawn", (k + 1) / len(seeds))
    film, boxes = films[seeds[0]]
    one = first_boxes(boxes, 1)
    plain, parts = speed(artefact, film, one, None)
    drawn, drawn_parts = speed(artefact, film, one, folder / "lines")
    network = network_ms(artefact)
    first = boxes[0][0]
    assert first is not None
    crop = crop_ms(artefact, film, first)
    whole = sum(parts.values())
    found = {seed: identities(artefact, *films[seed]) for seed in seeds}
    tell("speed and identities", 1.0)
    return {
        **facts(),
        "frames_per_second": {"lines": round(plain, 1), "drawing": round(drawn, 1)},
        "part_ms": {k: round(v, 3) for k, v in {**drawn_parts, **parts}.items()},
        "network_ms": round(network, 3),
        "crop_ms": round(crop, 3),
        "share": {
            "decode": round(parts["decode"] / whole, 3),
            "crop": round(crop / whole, 3),
            "network": round(network / whole, 3),
            "follow": round(max(0.0, parts["find"] - network - crop) / whole, 3),
            "say": round(parts["say"] / whole, 3),
        },
        "memory_kb": {
            "lines": memory(artefact, film, one, long, None),
            "drawing": memory(artefact, film, one, long, folder / "long.mp4"),
        },
        "switches": {str(seed): switches for seed, (switches, _) in found.items()},
        "seen": {str(seed): seen for seed, (_, seen) in found.items()},
        "ratios": {},
    }


def main() -> None:
    """Measure, print, write."""
    arguments: argparse.ArgumentParser = parser(__doc__, rounds=1)
    arguments.add_argument("artefact", nargs="?", type=Path)
    arguments.add_argument("--frames", type=int, default=300)
    arguments.add_argument("--long", type=int, default=10_000)
    arguments.add_argument("--seeds", default="0,1,2")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as temporary:
        folder = Path(temporary)
        artefact = args.artefact
        if artefact is None:
            artefact = folder / "model"
            compile_model(DATA / "model-bidrn.pt", target="x86", output=artefact)
        seeds = [int(seed) for seed in args.seeds.split(",")]
        report(measure(artefact, folder, args.frames, args.long, seeds), args.output)


if __name__ == "__main__":
    main()
