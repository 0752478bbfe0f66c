"""What more people in a picture cost: `run` on one picture with five boxes against one, in this process.

    python benchmarks/people.py [ARTEFACT] [--rounds 25]

Without an artefact the embedded student is compiled for `x86`. A run cuts the person out, runs the network and says
what it found; decoding the picture is not timed, because it happens once for all. `ratios`: five people over one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import facts, interleave, medians, parser, report, summary

import bhpe_compile
from bhpe_compile.api import compile_model
from bhpe_compile.runtime.boxes import Boxes, Given
from bhpe_compile.runtime.film import Frame
from bhpe_compile.runtime.picture import load_picture
from bhpe_compile.runtime.stream import Finder, Where, describe_frame, open_runner

DATA = Path(bhpe_compile.__file__).parent / "data"

MANY = 5


def boxes_of(count: int, width: int, height: int) -> Boxes:
    """So many boxes side by side, each a third as wide as the picture: as detectors give them, they overlap."""
    across = (width - width / 3) / max(1, MANY - 1)
    given = [Given((k * across, height * 0.05, width / 3, height * 0.9)) for k in range(count)]
    return Boxes(Path("boxes"), by_number={0: given})


def measure(artefact: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of one person and of five, taken in turns."""
    rgb = load_picture(DATA / "drawn.jpg").rgb
    frame = Frame("drawn.jpg", 0, 0.0, np.ascontiguousarray(rgb))
    height, width = rgb.shape[:2]
    with open_runner(artefact) as runner:
        finders = {
            name: Finder(runner, Where(boxes=boxes_of(count, width, height)))
            for name, count in (("one", 1), ("five", MANY))
        }
        runs = {
            name: lambda find=find: describe_frame(frame, find(frame), runner.interface)
            for name, find in finders.items()
        }
        times = interleave(runs, rounds)
    middle = medians(times)
    return {
        **facts(),
        **summary(times),
        "ratios": {"five_people_vs_one": round(middle["five"] / middle["one"], 2)},
    }


def main() -> None:
    """Measure, print, write."""
    arguments: argparse.ArgumentParser = parser(__doc__, rounds=25)
    arguments.add_argument("artefact", nargs="?", type=Path)
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as folder:
        artefact = args.artefact
        if artefact is None:
            artefact = Path(folder) / "model"
            compile_model(DATA / "model-bidrn.pt", target="x86", output=artefact)
        report(measure(artefact, args.rounds), args.output)


if __name__ == "__main__":
    main()
