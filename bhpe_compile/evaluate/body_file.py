"""Reading a body in the layout of SMPL-X or SMPL, and nothing of it that could run code.

A published SMPLX_*.npz holds pickled objects beside its arrays. Members of an npz are read one by one, so only the
arrays named here are opened, with `allow_pickle=False`.

    v_template [V,3]  f [F,3]  shapedirs [V,3,K]  posedirs [V,3,486]  J_regressor [55,V]  weights [V,55]
    kintree_table [2,55]  hands_meanl [45]  hands_meanr [45]
    keypoint_vertices [21] (name, vertex): only in bodies made here

K is 400 (300 shape, then 100 expression coefficients) or at least 20 (10 and 10), as the smplx package reads it.

A body of SMPL has 24 joints, posedirs [V,3,207], at least 10 coefficients of shape and no others, and no hands. Its
published file is a pickle, of which `pickled.py` reads the arrays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.pickled import Pickled
from bhpe_compile.evaluate.skeleton import JOINT_COUNT, LANDMARKS
from bhpe_compile.reading import MalformedError
from bhpe_compile.reading_arrays import open_archive

COEFFICIENTS = 10
"""Shape and expression coefficients that are used, of each."""

FULL_SHAPE, FULL = 300, 400
"""Where expressions begin in a file that has all coefficients, and how many that are."""

SMPL_X, SMPL = "SMPL-X", "SMPL"

FAMILIES = {5: "FLAME", 16: "MANO", 24: SMPL, 52: "SMPL-H", JOINT_COUNT: SMPL_X}
"""Families of bodies by the number of their joints."""

JOINTS = {name: count for count, name in FAMILIES.items()}

KEYPOINT_DTYPE = np.dtype([("name", "U16"), ("vertex", "<i8")])


@dataclass(frozen=True)
class BodyFile:
    """The arrays of a body as they are computed with: float64 (int64 for indices), checked shapes, finite."""

    source: Path
    template: NDArray[np.float64]  # [V,3] metres
    faces: NDArray[np.int64]  # [F,3]
    shape_dirs: NDArray[np.float64]  # [V,3,10]
    expression_dirs: NDArray[np.float64]  # [V,3,10]
    pose_dirs: NDArray[np.float64] | None  # [V,3,486], None where all are zero
    joint_regressor: NDArray[np.float64]  # [55,V]
    weights: NDArray[np.float64]  # [V,55]
    parents: tuple[int, ...]  # [55], the root's is -1
    hands_mean: NDArray[np.float64]  # [30,3] radians
    landmarks: dict[str, int] | None  # keypoint -> vertex, None where the file has none


def read_body_file(path: Path, family: str = SMPL_X) -> BodyFile:
    """Read and check `path`, a body of SMPL-X or SMPL.

    Raises UsageError where there is no file, InputError for anything but a body of that family.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'is a folder, not a body model' if path.is_dir() else 'no such file'}")
    try:
        if family == SMPL and path.suffix == ".pkl":
            return _Reader(path, Pickled(path), family).body()
        with open_archive(path) as archive:
            return _Reader(path, archive, family).body()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MalformedError as error:
        kind = "a pickle of arrays" if path.suffix == ".pkl" else "an npz file"
        raise InputError(f"{path}: not {kind}, so no body model in the {family} layout") from error


class Arrays(Protocol):
    """An open file with arrays: names with .npy behind them."""

    @property
    def names(self) -> Collection[str]: ...

    def array(self, name: str, kinds: str) -> NDArray[Any]: ...


class _Reader:
    """Takes arrays out of an open archive and complains in one line."""

    def __init__(self, path: Path, archive: Arrays, family: str) -> None:
        self._path, self._archive, self._family = path, archive, family
        self._joints = JOINTS[family]

    def body(self) -> BodyFile:
        """All that is needed."""
        template = self._floats("v_template", None, 3)
        V = len(template)
        self._check_family(V)
        directions = self._floats("shapedirs", V, 3, None)
        count = directions.shape[2]
        whole = self._family == SMPL_X
        if count < (2 if whole else 1) * COEFFICIENTS:
            and_more = " and 10 of expression" if whole else ""
            self._fail("shapedirs", f"has {count} coefficients; 10 of shape{and_more} are needed")
        expression = (FULL_SHAPE if count >= FULL else COEFFICIENTS) if whole else count
        pose_dirs = self._floats("posedirs", V, 3, 9 * (self._joints - 1))
        hands = (
            [self._floats(name, 45) for name in ("hands_meanl", "hands_meanr")] if whole else [np.zeros(0)]
        )
        return BodyFile(
            source=self._path,
            template=template,
            faces=self._indices("f", V, None, 3),
            shape_dirs=directions[..., :COEFFICIENTS],
            expression_dirs=directions[..., expression : expression + COEFFICIENTS],
            pose_dirs=pose_dirs if pose_dirs.any() else None,
            joint_regressor=self._floats("J_regressor", self._joints, V),
            weights=self._floats("weights", V, self._joints),
            parents=self._parents(),
            hands_mean=np.concatenate(hands).reshape(-1, 3),
            landmarks=self._landmarks(V),
        )

    def _check_family(self, vertices: int) -> None:
        """InputError for a body of another family, by its name."""
        joints = self._read("weights", "fiu", (vertices, None)).shape[1]
        if joints != self._joints and joints in FAMILIES:
            raise InputError(
                f"{self._path}: is a body of {FAMILIES[joints]} ({joints} joints), and one of {self._family} "
                f"({self._joints} joints) is needed"
            )

    def _fail(self, name: str, what: str) -> None:
        raise InputError(f"{self._path}: field {name} {what}: not a body model in the {self._family} layout")

    def _read(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """The array `name`, of a dtype kind in `kinds`; None in `shape` stands for any positive number."""
        if f"{name}.npy" not in self._archive.names:
            self._fail(name, "is missing")
        try:
            array = self._archive.array(name, "biufcVUS")
        except (MalformedError, MemoryError) as error:
            raise InputError(f"{self._path}: field {name} cannot be read: {_first_line(error)}") from error
        if array.dtype.kind not in kinds:
            self._fail(name, f"holds {array.dtype}, not numbers")
        fits = array.ndim == len(shape) and all(
            n > 0 and want in (None, n) for n, want in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("?" if n is None else str(n) for n in shape)
            self._fail(name, f"has shape {list(array.shape)} instead of [{wanted}]")
        return array

    def _floats(self, name: str, *shape: int | None) -> NDArray[np.float64]:
        array = self._read(name, "fiu", shape).astype(np.float64, copy=False)
        with np.errstate(over="ignore"):
            if not np.isfinite(array.astype(np.float32)).all():
                self._fail(name, "holds values that are not finite")
        return array

    def _indices(self, name: str, below: int, *shape: int | None) -> NDArray[np.int64]:
        array = self._read(name, "iu", shape).astype(np.int64)
        if array.min() < 0 or array.max() >= below:
            self._fail(name, f"points at vertices that do not exist (there are {below})")
        return array

    def _parents(self) -> tuple[int, ...]:
        """The kinematic tree; files write the root's parent as -1 or as the largest unsigned number."""
        parents = [int(p) for p in self._read("kintree_table", "iu", (2, self._joints))[0]]
        if not all(0 <= parent < joint for joint, parent in enumerate(parents) if joint):
            self._fail("kintree_table", "is no tree in which parents come first")
        return (-1, *parents[1:])

    def _landmarks(self, below: int) -> dict[str, int] | None:
        name = "keypoint_vertices"
        if f"{name}.npy" not in self._archive.names:
            return None
        table = self._read(name, "V", (None,))
        if table.dtype != KEYPOINT_DTYPE:
            self._fail(name, "is no list of names and vertices")
        landmarks = {str(row["name"]): int(row["vertex"]) for row in table}
        missing = [landmark for landmark in LANDMARKS if not 0 <= landmarks.get(landmark, -1) < below]
        if missing:
            self._fail(name, f"has no valid vertex for {missing[0]}")
        return landmarks


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
