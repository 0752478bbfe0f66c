"""EHF: 100 photographs of one person with SMPL-X meshes fitted to scans (Pavlakos et al. 2019).

Two layouts of the published files, each a flat folder:

    Hand4Whole's        EHF.json, 01_img.*, 01_align.ply, ...
    the release itself  01_img.*, 01_align.ply, 01_2Djnt.json, ...

EHF.json is COCO-like: `images` with id and file_name, `annotations` with image_id and boxes x, y, width, height:
body_bbox, lefthand_bbox, righthand_bbox, face_bbox (as data/EHF/EHF.py of Hand4Whole_RELEASE reads them). NN_2Djnt.json
is OpenPose's output; boxes are then those of its points that were found. Meshes are in the scanner's axes; ROTATION
turns them into the camera's, as that loader does. Their place is not restored: metrics align the pelvis.

The files are not ours to give: they need a licence from their authors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, ToolchainError
from bhpe_compile.evaluate.dataset import Float, Labels, boxes_in_crop, to_box, unknown_labels
from bhpe_compile.evaluate.frame import frame_rgb
from bhpe_compile.reading import open_regular, read_json
from bhpe_compile.runtime.picture import Box, Picture, load_picture

INDEX = "EHF.json"

CAMERA = (-2.98747896, 0.01172457, -0.05704687)
"""Axis-angle from the scanner's axes to the camera's: EHF's calibration."""

PARTS = ("lefthand", "righthand", "face")

OPENPOSE = {
    "lefthand": "hand_left_keypoints_2d",
    "righthand": "hand_right_keypoints_2d",
    "face": "face_keypoints_2d",
}

FOUND = 0.1
"""Confidence above which a point of OpenPose counts."""


def looks_like(folder: Path) -> bool:
    """Whether the folder holds EHF."""
    return (folder / INDEX).is_file() or next(folder.glob("*_align.ply"), None) is not None


def to_camera() -> NDArray[np.float64]:
    """[3, 3]: from the scanner's axes to the camera's."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(CAMERA).as_matrix())


def read_vertices(path: Path) -> NDArray[np.float32]:
    """float32 [V, 3] of a PLY mesh, finite. Raises InputError where the file is missing, damaged or no mesh."""
    from plyfile import PlyData, PlyParseError

    try:
        with open_regular(path) as file:
            vertices = PlyData.read(file)["vertex"]
            with np.errstate(over="ignore"):
                mesh = np.stack([vertices[axis] for axis in "xyz"], 1).astype(np.float32)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (PlyParseError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise InputError(f"{path}: is no PLY mesh that can be read ({error})") from None
    if not mesh.size or not np.isfinite(mesh).all():
        raise InputError(
            f"{path}: is no PLY mesh that can be read (no vertices, or some that are not finite)"
        )
    return mesh


class EhfDataset:
    """EHF. Ground truth is the mesh: `vertices`; of the labels only the boxes are known."""

    name = "EHF"
    body = None

    def __init__(self, folder: Path) -> None:
        """Raises InputError (a damaged index, or nobody in it) and ToolchainError (a package is missing)."""
        try:
            import plyfile  # noqa: F401
            import scipy.spatial.transform  # noqa: F401
        except ImportError as error:
            package = str(error.name).partition(".")[0]
            raise ToolchainError(
                f"{folder}: EHF's meshes are read with the package {package}: pip install '.[eval]'"
            ) from None
        self.folder = folder
        index = folder / INDEX
        self._people = _from_index(index) if index.is_file() else _from_release(folder)
        if not self._people:
            raise InputError(f"{folder}: has no person of EHF in it")
        self._opened: tuple[int, Picture] | None = None

    def __len__(self) -> int:
        return len(self._people)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The crop around the person's box."""
        return frame_rgb(self._picture(index))

    def labels(self, index: int) -> Labels:
        """The boxes of hands and face, [NaN] where a part was not found."""
        return unknown_labels(boxes=boxes_in_crop(self._picture(index), self._people[index][1][1:]))

    def vertices(self, index: int) -> Float | None:
        """[V, 3] metres in camera directions."""
        name = self._people[index][0].split("_")[0]
        mesh = read_vertices(self.folder / f"{name}_align.ply")
        return (mesh @ to_camera().T).astype(np.float32)

    def _picture(self, index: int) -> Picture:
        if self._opened is None or self._opened[0] != index:
            file, boxes = self._people[index]
            self._opened = index, load_picture(self.folder / file, boxes[0])
        return self._opened[1]


def _from_index(path: Path) -> list[tuple[str, list[Box]]]:
    """(file of the picture, boxes of body, left hand, right hand, face) of each person."""
    try:
        data = read_json(path)
        files = {image["id"]: str(image["file_name"]) for image in data["images"]}
        return [
            (files[a["image_id"]], [to_box(a[f"{part}_bbox"]) for part in ("body", *PARTS)])
            for a in sorted(data["annotations"], key=lambda a: int(a["id"]))
        ]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not an index of EHF ({type(error).__name__}: {error})") from None


def _from_release(folder: Path) -> list[tuple[str, list[Box]]]:
    people = []
    for mesh in sorted(folder.glob("*_align.ply")):
        number = mesh.name.split("_")[0]
        picture = next(iter(sorted(folder.glob(f"{number}_img.*"))), None)
        if picture is None:
            raise InputError(f"{folder}: {mesh.name} has no picture {number}_img.*")
        people.append((picture.name, _openpose_boxes(folder / f"{number}_2Djnt.json")))
    return people


def _openpose_boxes(path: Path) -> list[Box]:
    try:
        person = read_json(path)["people"][0]
        parts = {name: np.array(person[key], np.float64).reshape(-1, 3) for name, key in OPENPOSE.items()}
        body = np.array(person["pose_keypoints_2d"], np.float64).reshape(-1, 3)
    except FileNotFoundError:
        raise InputError(
            f"{path}: is missing; without it or {INDEX} nobody knows where the person is"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{path}: is not OpenPose's output ({type(error).__name__}: {error})") from None
    everything = np.concatenate([body, *parts.values()])
    return [_around(everything), *(_around(parts[name]) for name in PARTS)]


def _around(points: NDArray[np.float64]) -> Box:
    seen = points[points[:, 2] > FOUND, :2]
    if not len(seen):
        return (np.nan,) * 4
    (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
    return float(x0), float(y0), float(x1 - x0), float(y1 - y0)
