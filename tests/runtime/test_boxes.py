"""Files of boxes: who is where in which frame, and one line for what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.runtime.boxes import Boxes, Given, read_boxes
from bhpe_compile.runtime.film import Frame

RGB = np.zeros((100, 200, 3), np.uint8)


def boxes(tmp_path: Path, content: object) -> Boxes:
    path = tmp_path / "boxes"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_boxes(path)


def film(number: int) -> Frame:
    return Frame("film.mp4", number, number / 25, RGB)


def picture(name: str, number: int = 0) -> Frame:
    return Frame(f"photos/{name}", number, None, RGB)


def test_mot(tmp_path: Path) -> None:
    found = boxes(tmp_path, "1,7,10,20,30,40,1,1,1\n1,-1,50,20,30,40,0.9,-1,-1,-1\n3,7,12,20,30,40\n")
    assert found.at(film(0)) == [Given((10, 20, 30, 40), 7), Given((50, 20, 30, 40))]
    assert found.at(film(1)) == []
    assert found.at(film(2)) == [Given((12, 20, 30, 40), 7)]
    assert found.at(picture("x.png", 2)) == found.at(film(2))


def test_mot_leaves_out_what_does_not_count(tmp_path: Path) -> None:
    found = boxes(
        tmp_path,
        "1,1,10,20,30,40,0,1,1\n1,2,10,20,30,40,1,3,1\n1,3,10,20,30,40,1,1,1\n1,-1,9,20,30,40,0.3,-1,-1,-1\n",
    )
    assert found.at(film(0)) == [Given((10, 20, 30, 40), 3)]
    assert found.left_out == 1


def test_coco_annotations(tmp_path: Path) -> None:
    found = boxes(
        tmp_path,
        {
            "images": [{"id": 5, "file_name": "a/one.jpg", "width": 200, "height": 100}],
            "annotations": [
                {"image_id": 5, "bbox": [1, 2, 30, 40], "category_id": 9},
                {"image_id": 5, "bbox": [1, 2, 30, 40], "category_id": 9, "iscrowd": 1},
                {"image_id": 5, "bbox": [5, 5, 5, 5], "category_id": 1},
            ],
            "categories": [{"id": 9, "name": "person"}, {"id": 1, "name": "dog"}],
        },
    )
    assert found.at(picture("one.jpg")) == [Given((1, 2, 30, 40))]
    assert found.at(picture("two.jpg")) == []
    small = Frame("one.jpg", 0, None, RGB[:50])
    with pytest.raises(InputError, match=r"says that one\.jpg has 200x100 pixels; it has 200x50"):
        found.at(small)


@pytest.mark.parametrize("name", ["000000000139.jpg", "139.png", "img_139.png"])
def test_coco_results_find_a_picture_by_its_number(tmp_path: Path, name: str) -> None:
    found = boxes(
        tmp_path,
        [
            {"image_id": 139, "bbox": [1, 2, 30, 40], "score": 0.9, "category_id": 1},
            {"image_id": 139, "bbox": [1, 2, 30, 40], "score": 0.4, "category_id": 1},
            {"image_id": 139, "bbox": [1, 2, 30, 40], "score": 0.9, "category_id": 2},
        ],
    )
    assert found.at(picture(name)) == [Given((1, 2, 30, 40))]
    assert found.at(film(139)) == found.at(picture(name))
    assert found.left_out == 1


def test_lists_in_json(tmp_path: Path) -> None:
    whole = [[[1, 2, 30, 40]], [], None, [[5, 5, 5, 5], [9, 9, 9, 9]]]
    lines = "[[1, 2, 30, 40]]\n[]\n[]\n[[5, 5, 5, 5], [9, 9, 9, 9]]\n"
    for content in (whole, lines):
        found = boxes(tmp_path, content)
        assert [len(found.at(film(k))) for k in range(5)] == [1, 0, 0, 2, 0]
        assert not found.first_only
    one = boxes(tmp_path, [[1, 2, 30, 40], [5, 5, 5, 5]])
    assert one.first_only
    assert len(one.at(picture("x.png"))) == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[[1, 2, 3, NaN]]", "NaN is no number"),
        ("1,2,3,nan,5,6", "line 1: box 3,nan,5,6 is not four finite numbers"),
        ("1,2,3,4,inf,6", "line 1"),
        ("[[1, 2, 3, 0]]", "entry 0, box 0"),
        ("[[[1, 2, 3]]]", "entry 0, box 0: a box is four numbers"),
        ("hello", "line 1: is no line frame,id,x,y,w,h"),
        ("0,1,3,4,5,6", "MOT counts frames from 1"),
        ('{"images": []}', "no lists `images` and `annotations`"),
        ('[{"bbox": [1, 2, 3, 4]}]', "entry 0: has no image_id"),
        ("[[1, 2, 3, 4]", "no JSON"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        boxes(tmp_path, content)
    assert str(tmp_path / "boxes") in str(caught.value)


def test_boxes_of_another_picture(tmp_path: Path) -> None:
    found = boxes(tmp_path, [[[250, 10, 30, 40]]])
    with pytest.raises(InputError, match=r"box 250,10,30,40 of .*one.jpg lies outside it.*another picture"):
        found.at(picture("one.jpg"))
    named = boxes(tmp_path, [{"image_id": "other.jpg", "bbox": [1, 2, 3, 4]}])
    with pytest.raises(UsageError, match=r"has no boxes of one\.jpg; it has some of other\.jpg"):
        named.require_some([Path("one.jpg")])
    named.require_some([Path("one.jpg"), Path("other.jpg")])
    with pytest.raises(UsageError, match="no such file of boxes"):
        read_boxes(tmp_path / "missing")
