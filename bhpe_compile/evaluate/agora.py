"""AGORA: rendered scenes of scanned people with SMPL-X poses (Patel et al. 2021), as Hand4Whole prepares it.

    AGORA_validation_SMPLX.json     COCO-like, also AGORA_train_SMPLX.json
    smplx_params_cam/.../0.json     global_orient, body_pose, jaw_pose, leye_pose, reye_pose, left_hand_pose,
                                    right_hand_pose, betas, expression, transl; in camera space
    cam_params/.../NAME.json        focal and princpt, in pixels of 3840x2160
    1280x720/validation/*.png       pictures, or
    3840x2160/validation/*.png      pictures, or
    images_3840x2160/validation_crop/NAME_person_id_0.png and .json     crops of 384x512 and their `affine_mat`

`images` have id, file_name_1280x720 and file_name_3840x2160; `annotations` have image_id, person_id, is_valid,
smplx_param_path, cam_param_path, and boxes x, y, width, height in pixels of 3840x2160: bbox, lhand_bbox, rhand_bbox,
face_bbox (those of the joints, 1.2 times as large). That is what tool/AGORA of Hand4Whole_RELEASE writes and
data/AGORA/AGORA.py reads. The original release has pickled tables instead, which are not read: a pickle is a program.

Poses are SMPL-X's, for the neutral body as in that loader; the hands' mean is added to the hands' poses, for which
the user's own SMPL-X file is needed. The extra shape of children is not applied. The files need a licence from their
authors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.dataset import Float, Labels, boxes_in_crop, to_box, unknown_labels
from bhpe_compile.evaluate.frame import HEIGHT, WIDTH, frame_rgb, framed
from bhpe_compile.reading import MalformedError, read_json
from bhpe_compile.runtime.picture import Box, Picture, load_picture

FULL = (3840, 2160)
"""Pixels that annotations refer to."""

SPLITS = ("train", "validation")

POSES = (
    "global_orient",
    "body_pose",
    "jaw_pose",
    "leye_pose",
    "reye_pose",
    "left_hand_pose",
    "right_hand_pose",
)
SIZES = (3, 63, 3, 3, 3, 45, 45)


def index_path(folder: Path, split: str) -> Path:
    """Where the annotations are."""
    return folder / f"AGORA_{split}_SMPLX.json"


def looks_like(folder: Path) -> bool:
    """Whether the folder holds AGORA."""
    return any(index_path(folder, split).is_file() for split in SPLITS)


@dataclass(frozen=True)
class _Person:
    small: str
    large: str
    number: int
    parameters: str
    camera: str
    boxes: list[Box]


@dataclass(frozen=True)
class _View:
    """A picture, and where pixels of 3840x2160 are in it: scale and shift of x and y. `cropped`: it is the input."""

    picture: Picture
    cropped: bool
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


class AgoraDataset:
    """AGORA. Poses, shapes, camera and boxes are known; keypoints follow from the body."""

    name = "AGORA"

    def __init__(self, folder: Path, split: str = "validation", body: Path | None = None) -> None:
        """`body`: a licensed SMPL-X file, without which there are pictures but no labels.

        Raises UsageError (no such split) and InputError (damaged annotations).
        """
        if split not in SPLITS or not index_path(folder, split).is_file():
            raise UsageError(
                f"{folder}: has no {index_path(folder, split).name}; splits are {', '.join(SPLITS)}"
            )
        self.folder, self.body = folder, body
        self._people = _read_index(index_path(folder, split))
        self._opened: tuple[int, _View] | None = None
        self._hands_mean: Float | None = None

    def __len__(self) -> int:
        return len(self._people)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The crop around the person's box."""
        view = self._view(index)
        return view.picture.rgb if view.cropped else frame_rgb(view.picture)

    def labels(self, index: int) -> Labels:
        """All but the keypoints. Raises UsageError without a body."""
        person, view = self._people[index], self._view(index)
        values = _read_json(self.folder / person.parameters)
        camera = _read_json(self.folder / person.camera)
        parts = [_vector(values, name, size) for name, size in zip(POSES, SIZES, strict=True)]
        pose = np.concatenate(parts).reshape(55, 3)
        pose[25:] += self._mean()
        to_crop = _to_crop(view)
        boxes = [_moved(box, view) for box in person.boxes[1:]]
        return unknown_labels(
            pose=pose,
            betas=_vector(values, "betas")[:10],
            expression=_vector(values, "expression")[:10],
            translation=_vector(values, "transl", 3),
            focal=_vector(camera, "focal", 2) * to_crop[0],
            principal=_vector(camera, "princpt", 2) * to_crop[0] + to_crop[1],
            boxes=_corners(boxes) if view.cropped else boxes_in_crop(view.picture, boxes),
        )

    def vertices(self, index: int) -> Float | None:
        """None: they follow from the pose."""
        return None

    def _mean(self) -> Float:
        if self._hands_mean is None:
            if self.body is None:
                raise UsageError(
                    f"{self.folder}: AGORA's poses are SMPL-X's; name your SMPLX_NEUTRAL.npz with --body"
                )
            from bhpe_compile.evaluate.body_file import read_body_file

            self._hands_mean = read_body_file(self.body).hands_mean.astype(np.float32)
        return self._hands_mean

    def _view(self, index: int) -> _View:
        if self._opened is None or self._opened[0] != index:
            self._opened = index, self._open(self._people[index])
        return self._opened[1]

    def _open(self, person: _Person) -> _View:
        large = Path(person.large)
        crop = (
            self.folder
            / "images_3840x2160"
            / f"{large.parent.name}_crop"
            / f"{large.stem}_person_id_{person.number}.png"
        )
        if crop.is_file():
            affine = np.array(_read_json(crop.with_suffix(".json"))["affine_mat"], np.float64)
            picture = load_picture(crop)
            if picture.rgb.shape != (HEIGHT, WIDTH, 3):
                raise InputError(f"{crop}: is no crop of {WIDTH}x{HEIGHT}; make it again with that size")
            return _View(picture, True, affine.diagonal(), affine[:, 2])
        for name in (person.small, person.large):
            if (self.folder / name).is_file():
                scale = np.array([1 / 3, 1 / 3] if name == person.small else [1.0, 1.0])
                x, y, width, height = (float(v) for v in np.array(person.boxes[0]) * scale[0])
                return _View(
                    load_picture(self.folder / name, (x, y, width, height)), False, scale, np.zeros(2)
                )
        raise InputError(f"{self.folder}: has none of {person.small}, {person.large} and {crop.name}")


def _to_crop(view: _View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and shift from pixels of 3840x2160 to the crop's."""
    if view.cropped:
        return view.scale, view.shift
    affine = framed(view.picture).affine
    return view.scale / affine.diagonal(), (view.shift - affine[:, 2]) / affine.diagonal()


def _moved(box: Box, view: _View) -> Box:
    x, y, width, height = box
    (sx, sy), (dx, dy) = view.scale, view.shift
    return float(x * sx + dx), float(y * sy + dy), float(width * sx), float(height * sy)


def _corners(boxes: list[Box]) -> Float:
    return np.array([(x, y, x + width, y + height) for x, y, width, height in boxes], np.float32)


def _read_index(path: Path) -> list[_Person]:
    data = _read_json(path)
    try:
        images = {image["id"]: image for image in data["images"]}
        people = []
        for a in sorted(data["annotations"], key=lambda a: int(a["id"])):
            if not a["is_valid"]:
                continue
            image = images[a["image_id"]]
            boxes = [to_box(a[name]) for name in ("bbox", "lhand_bbox", "rhand_bbox", "face_bbox")]
            names = str(image["file_name_1280x720"]), str(image["file_name_3840x2160"])
            people.append(
                _Person(
                    *names, int(a["person_id"]), str(a["smplx_param_path"]), str(a["cam_param_path"]), boxes
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: is not an index of AGORA ({type(error).__name__}: {error})") from None
    if not people:
        raise InputError(f"{path}: lists no valid person")
    return people


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MalformedError as error:
        raise InputError(f"{path}: is damaged ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no JSON object")
    return data


def _vector(values: dict[str, Any], name: str, size: int | None = None) -> Float:
    try:
        out = np.asarray(values[name], np.float32).reshape(-1)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"AGORA: {name} is missing or no list of numbers ({error})") from None
    if size is not None and len(out) != size:
        raise InputError(f"AGORA: {name} has {len(out)} numbers instead of {size}")
    return out
