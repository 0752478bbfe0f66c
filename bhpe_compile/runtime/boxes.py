"""Where the people are, from a file that a detector or an annotator wrote.

    COCO      results [{"image_id", "bbox", "score", "category_id"}, ...] or annotations {"images", "annotations", ...};
              people only (category "person", or 1). An image is found by its file's name; without a list of images by
              its id: the picture's name, the number in it, or the number of the film's frame, from 0
    MOT       lines frame,id,x,y,w,h,confidence,...: frames from 1, in pictures their order; an id above 0 is kept
    JSON      a list of boxes [x, y, w, h] of one picture or of a film's first frame, or one such list a picture or
              frame, in their order, as one list or as lines

Detections that their detector believes less than by a half are left out. x, y, w, h are in pixels of the picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.reading import MalformedError, SpecialFileError, parse_json, read_regular
from bhpe_compile.runtime.film import Frame
from bhpe_compile.runtime.picture import Box

LEAST_SCORE = 0.5
"""Of detections that are used, where the file has scores from 0 to 1."""

PERSON = 1
"""COCO's category of people, and MOT's class of pedestrians."""

MOT_CLASSES = 9
"""Fields of a line of MOT's ground truth, whose seventh says whether it counts and whose eighth is a class."""

MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Given:
    """A person's box, and who it is where the file says."""

    box: Box
    id: int | None = None


@dataclass
class Boxes:
    """The boxes of a file: by the number of the frame, or by the picture's name. `left_out` counts detections below
    `LEAST_SCORE`; `sizes` are the pictures' (width, height) by name, where the file has them."""

    path: Path
    by_number: dict[int, list[Given]] = field(default_factory=dict)
    by_name: dict[str, list[Given]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    left_out: int = 0
    first_only: bool = False
    """Whether the file has one list for all: the first frame's."""

    def at(self, frame: Frame) -> list[Given]:
        """The boxes of a frame; InputError where one is not in it, or the file is of a picture of another size."""
        height, width = frame.rgb.shape[:2]
        name = Path(frame.name).name
        size = self.sizes.get(name)
        if size is not None and size != (width, height):
            raise InputError(
                f"{self.path}: says that {name} has {size[0]}x{size[1]} pixels; it has {width}x{height}: "
                "these are boxes of another picture"
            )
        found = self._of(name, frame)
        for one in found:
            x, y, w, h = one.box
            if x + w <= 1 or y + h <= 1 or x >= width - 1 or y >= height - 1:
                raise InputError(
                    f"{self.path}: box {x:g},{y:g},{w:g},{h:g} of {_called(frame)} lies outside it, which has "
                    f"{width}x{height} pixels: are these boxes of another picture?"
                )
        return found

    def _of(self, name: str, frame: Frame) -> list[Given]:
        if frame.time is not None:
            return self.by_number.get(frame.number, [])
        if self.by_name:
            stem = Path(name).stem
            numbers = re.findall(r"\d+", stem)
            keys = (name, stem, *(str(int(numbers[-1])) for _ in numbers[:1]))
            return next((self.by_name[key] for key in keys if key in self.by_name), [])
        return self.by_number.get(frame.number, [])

    def require_some(self, names: Sequence[Path]) -> None:
        """UsageError where pictures are named and none of these is."""
        if not names or not self.by_name:
            return
        frames = (Frame(str(path), k, None, None) for k, path in enumerate(names))  # type: ignore[arg-type]
        if not any(self._of(Path(frame.name).name, frame) for frame in frames):
            known = ", ".join(sorted(self.by_name)[:3])
            raise UsageError(f"{self.path}: has no boxes of {names[0]}; it has some of {known}")


def _called(frame: Frame) -> str:
    return frame.name if frame.time is None else f"{frame.name}, frame {frame.number}"


def read_boxes(path: Path) -> Boxes:
    """Read a file of boxes. UsageError where there is none; InputError says where it is not what it should be."""
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file of boxes") from None
    except (IsADirectoryError, PermissionError, SpecialFileError) as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except MalformedError as error:
        raise InputError(f"{path}: {error}") from None
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text: neither COCO, MOT nor lists of boxes in JSON") from None
    boxes = Boxes(path)
    if not text.startswith(("[", "{")):
        _read_mot(boxes, text)
        return boxes
    value = _parse(path, text)
    if isinstance(value, dict):
        _read_annotations(boxes, value)
    elif value and all(isinstance(one, dict) for one in value):
        _read_coco(boxes, value, {}, None)
    else:
        _read_lists(boxes, value)
    return boxes


def _parse(path: Path, text: str) -> Any:
    """One JSON value, or one list a line."""
    try:
        return parse_json(text)
    except MalformedError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.strip().startswith("[") for line in lines):
            raise InputError(f"{path}: {error}") from None
    try:
        return [parse_json(line) for line in lines]
    except MalformedError as error:
        raise InputError(f"{path}: {error}") from None


def _box(boxes: Boxes, values: object, where: str) -> Box:
    """Four finite numbers, width and height above 0; InputError otherwise."""
    try:
        x, y, w, h = (float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InputError(
            f"{boxes.path}: {where}: a box is four numbers x, y, w, h, not {values!r:.60}"
        ) from None
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise InputError(
            f"{boxes.path}: {where}: box {x:g},{y:g},{w:g},{h:g} is not four finite numbers with a size"
        )
    return x, y, w, h


def _read_lists(boxes: Boxes, value: list[Any]) -> None:
    flat = bool(value) and all(
        isinstance(one, list) and not any(isinstance(v, list) for v in one) for one in value
    )
    boxes.first_only = flat and any(value)
    for number, one in enumerate([value] if boxes.first_only else value):
        if not isinstance(one, list | None):
            raise InputError(f"{boxes.path}: entry {number}: is no list of boxes")
        boxes.by_number[number] = [
            Given(_box(boxes, box, f"entry {number}, box {k}")) for k, box in enumerate(one or [])
        ]


def _read_mot(boxes: Boxes, text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.replace(",", " ").split()
        try:
            values = [float(word) for word in words]
            frame, who = int(values[0]), int(values[1])
        except (ValueError, OverflowError, IndexError):
            raise InputError(
                f"{boxes.path}: line {number}: is no line frame,id,x,y,w,h,... as MOT's files have them"
            ) from None
        box = _box(boxes, values[2:6], f"line {number}")
        if frame < 1:
            raise InputError(f"{boxes.path}: line {number}: frame {frame}: MOT counts frames from 1")
        if len(values) == MOT_CLASSES and (values[6] == 0 or values[7] != PERSON):
            continue
        score = values[6] if len(values) > MOT_CLASSES else 1.0
        if 0 <= score < LEAST_SCORE:
            boxes.left_out += 1
            continue
        boxes.by_number.setdefault(frame - 1, []).append(Given(box, who if who > 0 else None))


def _read_annotations(boxes: Boxes, value: Mapping[str, Any]) -> None:
    images, annotations = value.get("images"), value.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise InputError(f"{boxes.path}: has no lists `images` and `annotations`, as COCO's files have them")
    names: dict[Any, str] = {}
    for image in images:
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise InputError(f"{boxes.path}: images: {image!r:.60} has no id and file_name")
        name = names[image["id"]] = Path(image["file_name"]).name
        width, height = image.get("width"), image.get("height")
        if isinstance(width, int) and isinstance(height, int):
            boxes.sizes[name] = width, height
    categories = value.get("categories")
    people = {
        one.get("id")
        for one in categories or []
        if isinstance(one, dict) and str(one.get("name", "")).lower() in ("person", "people", "pedestrian")
    }
    _read_coco(boxes, annotations, names, people or None)


def _read_coco(
    boxes: Boxes, entries: Iterable[Any], names: Mapping[Any, str], people: set[Any] | None
) -> None:
    for number, one in enumerate(entries):
        where = f"entry {number}"
        if not isinstance(one, dict) or "image_id" not in one or "bbox" not in one:
            raise InputError(f"{boxes.path}: {where}: has no image_id and bbox, as COCO's entries have them")
        category = one.get("category_id", PERSON)
        if category not in (people or {PERSON}) or one.get("iscrowd"):
            continue
        given = Given(_box(boxes, one["bbox"], where), _whole(one.get("track_id")))
        score = one.get("score", 1.0)
        if not isinstance(score, int | float) or score < LEAST_SCORE:
            boxes.left_out += 1
            continue
        image = one["image_id"]
        boxes.by_name.setdefault(names.get(image, str(image)), []).append(given)
        frame = _whole(image)
        if frame is not None:
            boxes.by_number.setdefault(frame, []).append(given)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
