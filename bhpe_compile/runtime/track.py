"""Following people from frame to frame by their own joints: a box once, then each frame's joints give the next one's.

A track's box is that around its joints, enlarged as the first box was about its first joints, moved on as it moved
before. Where one person's crop holds another one, networks mix them up: sizes, speeds and colours (of patches at the
joints) stay what they were, colours and places say who was seen, and of two tracks that see one person the one it fits
keeps it. The other one waits, moving on as before. A track whose joints jump, shrink or grow beyond what a person
can do in a frame waits, too; one that waits too long, or leaves the picture, is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.boxes import Given
from bhpe_compile.runtime.picture import Box

Points = NDArray[np.float64]

MARGINS = (1.05, 1.6)
"""How many times larger than the box around the joints a track's box may be."""

PLACE, PLACE_NEAR = 0.5, 0.3
"""Part of a box's place that comes from the joints just found, alone and near others; the rest is its prediction."""

SIZE, SPEED, COLOURS = 0.2, 0.2, 0.1
"""The same of a box's size, of its speed and of a track's colours; near others they stay as they are."""

NEAR = 0.15
"""Part of a box in another one's crop from which the two tracks are near each other."""

JUMP, JUMP_NEAR = 0.25, 0.1
"""Heights of its box by which a person's middle may miss its prediction, alone and near others."""

DOUBT = 0.01
"""Heights by which it may miss more for every frame that it was not seen."""

GROWTH = 1.5
"""How many times larger or smaller a person may be than predicted."""

SAME = 0.45
"""From this likeness of joints two tracks see one person; the likeness is exp(-(d / 0.1 height)^2), on average."""

MEET = 0.3
"""Overlap from which a given box is that of a track."""

PATIENCE = 45
"""Frames that a track waits before it is lost."""

OUTSIDE = 0.25
"""A track is lost when less of its box than this is in the picture."""

CLOTHES, WAY = 2.0, 0.5
"""Weights of colours (mean difference, of 1) and of the way from the prediction (in heights) for who was seen."""

CLEARLY = 0.05
"""How much better two people must fit the other way round to be exchanged."""

PATCH = 0.02
"""Half of a patch's side in heights of the box."""


@dataclass(frozen=True)
class Sight:
    """What was found in a track's box: its number among those of the frame, joints [k, 2] of the body in pixels, the
    box around them (middle and size), and colours [k, 3] at them, NaN outside the frame."""

    index: int
    joints: Points
    around: Points
    colours: Points


@dataclass
class Track:
    """A person who is followed. `box` is the one to run on next: middle x, y and width, height, in pixels; `sight` is
    the number of what it saw in the last frame, None where it saw nothing; `waiting` counts frames since it did."""

    id: int
    box: Points
    speed: Points = field(default_factory=lambda: np.zeros(2))
    margin: Points | None = None
    place: Points | None = None
    colours: Points | None = None
    waiting: int = 0
    sight: int | None = None

    @property
    def seen(self) -> bool:
        """Whether it ever saw its person."""
        return self.place is not None

    @property
    def corner_box(self) -> Box:
        """x, y, width, height."""
        x, y, w, h = self.box.tolist()
        return x - w / 2, y - h / 2, w, h

    def follow(self, sight: Sight, *, alone: bool) -> None:
        """Move to where the person is, and on by its speed."""
        assert self.margin is not None
        place = self.box[:2] + (PLACE if alone else PLACE_NEAR) * (sight.around[:2] - self.box[:2])
        if alone:
            self.box[2:] += SIZE * (sight.around[2:] * self.margin - self.box[2:])
            if self.place is not None and not self.waiting:
                self.speed = self.speed + SPEED * (place - self.place - self.speed)
            known = self.colours
            fresh = sight.colours if known is None else known + COLOURS * (sight.colours - known)
            self.colours = fresh if known is None else np.where(np.isfinite(fresh), fresh, known)
        self.place = place
        self.box[:2] = place + self.speed
        self.waiting, self.sight = 0, sight.index


class Tracker:
    """Follows everybody in a film. `told` hears of people who are lost."""

    def __init__(self, interface: Interface, told: Callable[[str], None] = lambda _: None) -> None:
        """`interface` has keypoints: their names say which are of fingers, which are not looked at."""
        assert interface.keypoints is not None  # the caller refuses other networks
        names = interface.keypoints.names
        body = [k for k, name in enumerate(names) if name not in interface.skeleton.small]
        self._body = body if len(body) >= 4 else list(range(len(names)))
        port = interface.picture
        assert port is not None
        assert port.crop is not None
        self._aspect, self._enlarge = port.size[1] / port.size[0], port.crop.enlarge
        self._told = told
        self._next = 1
        self.tracks: list[Track] = []

    def begin(self, given: Sequence[Given], size: tuple[int, int]) -> list[Track]:
        """The tracks to run on in a frame of `size` (width, height), the people of `given` boxes among them.

        A box that overlaps a track is its new place; another one is a new person's.
        """
        for one in given:
            box = _middle(one.box)
            track = self._owner(one, box)
            if track is None:
                number = self._free(one.id)
                self.tracks.append(Track(number, box))
            else:
                track.box, track.waiting = box, 0
        kept = []
        for track in self.tracks:
            if _inside(track.corner_box, size) < OUTSIDE:
                self._told(f"person {track.id} left the picture")
            else:
                kept.append(track)
        self.tracks = kept
        return kept

    def _owner(self, given: Given, box: Points) -> Track | None:
        if given.id is not None:
            return next((track for track in self.tracks if track.id == given.id), None)
        likely = max(self.tracks, key=lambda track: _overlap(track.box, box), default=None)
        return likely if likely is not None and _overlap(likely.box, box) > MEET else None

    def _free(self, wanted: int | None) -> int:
        taken = {track.id for track in self.tracks}
        number = wanted if wanted is not None and wanted not in taken else self._next
        self._next = max(self._next, number) + 1 if number >= self._next else self._next
        return number

    def update(
        self, rgb: NDArray[np.uint8], found: Sequence[tuple[Track, Points]], number: int
    ) -> list[Track]:
        """Take the joints [k, 2], in pixels of the frame `rgb`, that were found in each track's box.

        Returns the tracks that saw their person, in order, each with the number of the sight in `found` that is its own
        in `sight`: people who were mixed up are exchanged.
        """
        sights: dict[int, Sight] = {}
        for index, (track, joints) in enumerate(found):
            body = joints[self._body]
            track.sight = None
            if np.isfinite(body).all():
                around = _around(body)
                if track.margin is None:
                    track.margin = (track.box[2:] / np.maximum(around[2:], 1.0)).clip(*MARGINS)
                    track.box = np.concatenate([around[:2], around[2:] * track.margin])
                sights[track.id] = Sight(index, body, around, self._colours(rgb, body, around))
        near = self._near()
        self._decide(sights, near)
        kept, visible = [], []
        for track in self.tracks:
            sight = sights.get(track.id)
            alone = track.id not in near
            if sight is None or not _possible(track, sight, JUMP if alone else JUMP_NEAR):
                track.waiting += 1
                track.box[:2] += track.speed
                if track.waiting > PATIENCE:
                    self._told(f"frame {number}: person {track.id} is lost")
                    continue
            else:
                track.follow(sight, alone=alone)
                visible.append(track)
            kept.append(track)
        self.tracks = kept
        return visible

    def _near(self) -> set[int]:
        """The ids of tracks that have each other in their crops."""
        return {
            track.id
            for one, two in permutations(self.tracks, 2)
            if _share(two.box, self._crop(one.box)) > NEAR
            for track in (one, two)
        }

    def _crop(self, box: Points) -> Points:
        """What the network sees of a box."""
        height = max(float(box[3]), float(box[2]) / self._aspect) * self._enlarge
        return np.array([box[0], box[1], height * self._aspect, height])

    def _decide(self, sights: dict[int, Sight], near: set[int]) -> None:
        """Who is seen where boxes overlap: exchange what fits the other way round; one person is seen by one track."""
        tracks = {track.id: track for track in self.tracks}
        for first, second in combinations(sorted(near & sights.keys()), 2):
            if first not in sights or second not in sights:
                continue
            one, two, a, b = tracks[first], tracks[second], sights[first], sights[second]
            if _likeness(a, b) > SAME:
                mine = _misfit(one, a) + _misfit(one, b) <= _misfit(two, a) + _misfit(two, b)
                del sights[second if mine else first]
            elif _misfit(one, b) + _misfit(two, a) + CLEARLY < _misfit(one, a) + _misfit(two, b):
                sights[first], sights[second] = b, a

    def _colours(self, rgb: NDArray[np.uint8], joints: Points, around: Points) -> Points:
        """[k, 3]: mean colours of patches at the joints, NaN where they are outside the frame."""
        reach = max(1, round(PATCH * float(around[3])))
        height, width = rgb.shape[:2]
        x, y = joints.round().astype(int).T
        inside = (x >= reach) & (x < width - reach) & (y >= reach) & (y < height - reach)
        along = np.arange(-reach, reach + 1)
        rows, columns = y[inside, None, None] + along[:, None], x[inside, None, None] + along
        colours = np.full((len(joints), 3), np.nan)
        colours[inside] = rgb[rows, columns].mean((1, 2))
        return colours


def _possible(track: Track, sight: Sight, reach: float) -> bool:
    """Whether a person can be there, given where it was; `reach` is how many heights it may miss its prediction."""
    if not track.seen:
        return True
    assert track.margin is not None
    height = max(float(track.box[3]), 1.0)
    jump = float(np.linalg.norm(sight.around[:2] - track.box[:2])) / height
    growth = float(sight.around[3] * track.margin[1]) / height
    return jump < reach + DOUBT * track.waiting and 1 / GROWTH < growth < GROWTH


def _misfit(track: Track, sight: Sight) -> float:
    """How little a sight is like the track, 0 for the same."""
    way = float(np.linalg.norm(sight.around[:2] - track.box[:2])) / max(float(track.box[3]), 1.0)
    if track.colours is None:
        return WAY * way
    gap = np.abs(sight.colours - track.colours).mean(1) / 255
    known = gap[np.isfinite(gap)]
    return CLOTHES * (float(known.mean()) if len(known) else 0.3) + WAY * way


def _around(joints: Points) -> Points:
    low, high = joints.min(0), joints.max(0)
    return np.concatenate([(low + high) / 2, high - low])


def _middle(box: Box) -> Points:
    x, y, w, h = box
    return np.array([x + w / 2, y + h / 2, w, h], np.float64)


def _likeness(one: Sight, two: Sight) -> float:
    """Of two sights' joints, from 0 to 1."""
    height = max(1.0, float(one.around[3] + two.around[3]) / 2)
    squared = ((one.joints - two.joints) ** 2).sum(1)
    return float(np.exp(-squared / (0.1 * height) ** 2).mean())


def _overlap(one: Points, two: Points) -> float:
    """Intersection over union of two boxes given by middle and size."""
    low = np.maximum(one[:2] - one[2:] / 2, two[:2] - two[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, two[:2] + two[2:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / max(float(np.prod(one[2:]) + np.prod(two[2:])) - shared, 1e-9)


def _share(box: Points, of: Points) -> float:
    """The part of a box, given by middle and size, that is in another one."""
    low = np.maximum(box[:2] - box[2:] / 2, of[:2] - of[2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, of[:2] + of[2:] / 2)
    return float(np.prod(np.maximum(high - low, 0)) / max(float(np.prod(box[2:])), 1e-9))


def _inside(box: Box, size: tuple[int, int]) -> float:
    """The part of a box that is in a picture of (width, height)."""
    x, y, w, h = box
    across = min(x + w, size[0]) - max(x, 0)
    down = min(y + h, size[1]) - max(y, 0)
    return max(across, 0) * max(down, 0) / max(w * h, 1e-9)
