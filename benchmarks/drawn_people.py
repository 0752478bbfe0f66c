"""Are drawn people like photographed ones? How many of their joints a network finds that learned from photographs.

    python benchmarks/drawn_people.py --judge PYTHON [--count N] [-o FILE] NAME=DIR...

Every DIR is a set that `data synth` wrote; PYTHON is the interpreter of an environment with mediapipe==0.10.21
(`photographs_judge.py`). PCK@0.1: the share of joints that are at most a tenth of the body's size away from where the
labels say; the size is the larger side of the box around the joints. Twelve joints count (shoulders, elbows, wrists,
hips, knees, ankles), those that are in the picture and behind nothing. `pck_at_0.05` is the same with half of the
distance. Of a person whom the judge does not find, all are missed. The intervals are the bootstrap's 95 %, over people.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import facts, report
from numpy.typing import NDArray
from photographs import HERE, JOINTS, NEAR, Points, judged

from bhpe_compile.evaluate.dataset import SynthDataset
from bhpe_compile.evaluate.synth.store import image_path
from bhpe_compile.networks.hand4whole.keypoints import KEYPOINTS

Array = NDArray[np.float64]

RESAMPLED = 2000
"""Times that people are drawn anew for an interval."""


def shares(found: list[Points | None], joints: Array, visible: NDArray[np.bool_]) -> Array:
    """[N, 3]: of each person, how many joints the judge finds within NEAR and half of it, and how many there are.
    `joints` [N, 12, 2]."""
    rows = []
    for seen, places, there in zip(found, joints, visible, strict=True):
        if not there.any():
            continue
        size = np.ptp(places[there], axis=0).max()
        hits = np.zeros(2)
        if seen is not None:
            answers = np.array([seen[joint][:2] for joint in JOINTS])
            apart = np.linalg.norm(answers - places, axis=1)[there] / size
            hits = np.array([(apart <= reach).sum() for reach in (NEAR, NEAR / 2)])
        rows.append([*hits, there.sum()])
    return np.array(rows, np.float64)


def figures(found: list[Points | None], counts: Array) -> dict[str, Any]:
    """PCK, its interval, and the share of people found."""
    drawn = np.random.default_rng(0).integers(0, len(counts), (RESAMPLED, len(counts)))
    again = counts[drawn].sum(1)
    low, high = np.percentile(again[:, 0] / again[:, 2], (2.5, 97.5))
    hits, close, joints = counts.sum(0)
    return {
        "people": len(found),
        "joints": int(joints),
        "people_found": round(sum(seen is not None for seen in found) / len(found), 3),
        "pck": round(float(hits / joints), 3),
        "pck_at_0.05": round(float(close / joints), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


def measure(folder: Path, python: Path, count: int) -> dict[str, Any]:
    """One set."""
    data = SynthDataset(folder)
    indices = range(min(count, len(data)))
    labels = [data.labels(index) for index in indices]
    at = [KEYPOINTS.index(joint) for joint in JOINTS]
    boxes = []
    for one in labels:
        low, high = (f(one.keypoints[one.visible, :2], axis=0) for f in (np.min, np.max))
        boxes.append([*low.tolist(), *(high - low).tolist()])
    found = judged(python, [(image_path(folder, i), box) for i, box in zip(indices, boxes, strict=True)])
    joints = np.stack([one.keypoints[at, :2] for one in labels]).astype(np.float64)
    counts = shares(found, joints, np.stack([one.visible[at] for one in labels]))
    manifest = {name: data.manifest[name] for name in ("generator", "split", "seed")}
    return {**manifest, "backgrounds": len(data.manifest.get("backgrounds", [])), **figures(found, counts)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--judge", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "drawn_people.json")
    arguments = parser.parse_args()
    rows = {}
    for one in arguments.sets:
        name, _, folder = one.partition("=")
        rows[name] = measure(Path(folder), arguments.judge, arguments.count)
    judge = "MediaPipe 0.10.21, pose network of medium size"
    report({"judge": judge, "pck_at": NEAR, "sets": rows, **facts()}, arguments.output)


if __name__ == "__main__":
    main()
