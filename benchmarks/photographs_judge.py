"""Twelve joints of people in pictures, by MediaPipe's pose network. Needs mediapipe==0.10.21 (newer wheels hold no
networks, and it wants numpy < 2), so it runs in an environment of its own; `photographs.py` starts it.

Standard input: a JSON list of [picture, [x, y, width, height]]. Standard output: a JSON list, for each person
{joint: [x, y, visibility]} in pixels of the picture, or null where the network finds nobody.
"""

import json
import os
import sys
from pathlib import Path

import mediapipe
import numpy as np
from PIL import Image

JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
FIRST = {"shoulder": 11, "elbow": 13, "wrist": 15, "hip": 23, "knee": 25, "ankle": 27}
"""MediaPipe's number of the left joint; the right one follows it."""
MARGIN = 0.15
"""What the cut-out has around the box, in shares of its larger side."""
SIDE = 512
"""Small cut-outs are enlarged to this many pixels: the network was made for near people."""


def find(network, picture, box):
    x, y, width, height = box
    margin = MARGIN * max(width, height)
    left, top = int(x - margin), int(y - margin)
    cut = (
        Image.open(picture)
        .convert("RGB")
        .crop((left, top, int(x + width + margin), int(y + height + margin)))
    )
    scale = max(1.0, SIDE / max(cut.size))
    large = cut.resize((round(cut.width * scale), round(cut.height * scale)), Image.Resampling.BICUBIC)
    landmarks = network.process(np.asarray(large)).pose_landmarks
    if landmarks is None:
        return None
    found = {}
    for joint in JOINTS:
        for right, side in enumerate(("left", "right")):
            point = landmarks.landmark[FIRST[joint] + right]
            found[f"{side}_{joint}"] = [
                left + point.x * cut.width,
                top + point.y * cut.height,
                point.visibility,
            ]
    return found


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MediaPipe prints
    people = json.load(sys.stdin)
    results = []
    for picture, box in people:
        with mediapipe.solutions.pose.Pose(
            static_image_mode=True, model_complexity=1, min_detection_confidence=0.3
        ) as network:
            results.append(find(network, Path(picture), box))
    json.dump(results, answers)
    answers.flush()


if __name__ == "__main__":
    main()
