"""EHF and AGORA on tiny made-up files in their layouts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from bhpe_compile.errors import BhpeError, InputError, ToolchainError, UsageError
from bhpe_compile.evaluate.agora import AgoraDataset
from bhpe_compile.evaluate.ehf import CAMERA, EhfDataset, read_vertices, to_camera
from bhpe_compile.evaluate.frame import framed
from bhpe_compile.evaluate.open import open_dataset
from bhpe_compile.runtime.picture import load_picture
from tests.evaluate.bodies import random_fields, write

MESH = np.array([[0.5, -1, 2], [3.25, 4, -5], [6, 7, 8.125]], np.float32)  # exact in float32 and in text

ROTATIONS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def ply(style: str) -> bytes:
    """A mesh with a colour and a face, which are to be ignored."""
    header = (
        f"ply\nformat {style} 1.0\ncomment made up\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property double z\nproperty uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if style == "ascii":
        rows = "".join(f"{x} {y} {z} 7\n" for x, y, z in MESH)
        return (header + rows + "3 0 1 2\n").encode()
    order = ROTATIONS[style]
    table = np.zeros(
        3, np.dtype([(n, order + k) for n, k in (("x", "f4"), ("y", "f4"), ("z", "f8"), ("red", "u1"))])
    )
    table["x"], table["y"], table["z"] = MESH.T
    face = np.array([0, 1, 2], order + "i4").tobytes()
    return header.encode() + table.tobytes() + b"\x03" + face


@pytest.mark.parametrize("style", ["ascii", *ROTATIONS])
def test_ply(style: str, tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(ply(style))
    assert (read_vertices(tmp_path / "a.ply") == MESH).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ply\n",
        b"obj",
        ply("ascii")[:-30],
        ply("binary_little_endian")[:-60],
        ply("ascii").replace(b"float", b"word"),
        ply("ascii").replace(b"vertex 3", b"vertex -3"),
        ply("binary_big_endian").replace(b"vertex 3", b"vertex 99999999999999"),
        ply("binary_big_endian").replace(b"vertex 3", b"vertex %d" % 10**30),
        ply("ascii").replace(b"vertex 3", b"vertex 0"),
        ply("ascii").replace(b"double z", b"double w"),
        ply("ascii").replace(b"made up", b"\xff"),
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        b"0 nan 0\n",
        b"ply\nformat ascii 1.0\nelement face 0\nproperty list uchar int vertex_indices\nend_header\n",
    ],
)
def test_damaged_ply(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.ply: is no PLY mesh"):
        read_vertices(tmp_path / "a.ply")
    with pytest.raises(InputError, match="cannot be read"):
        read_vertices(tmp_path / "b.ply")


def photograph(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)


BOXES = {
    "body": [40, 20, 90, 120],
    "lefthand": [100, 60, 20, 16],
    "righthand": [50, 70, 18, 20],
    "face": [70, 22, 24, 30],
}
ORDER = ("lefthand", "righthand", "face")


def mapped(box: list[float], affine: NDArray[np.float64]) -> list[float]:
    """x, y, w, h of the picture -> corners in the crop, by hand: picture = scale * crop + shift."""
    x, y, w, h = box
    (sx, _, dx), (_, sy, dy) = affine
    return [(x - dx) / sx, (y - dy) / sy, (x + w - dx) / sx, (y + h - dy) / sy]


@pytest.fixture
def ehf(tmp_path: Path) -> Path:
    for number in ("01", "02"):
        photograph(tmp_path / f"{number}_img.png", 200, 160, int(number))
        (tmp_path / f"{number}_align.ply").write_bytes(ply("binary_little_endian"))
    images = [{"id": i, "file_name": f"0{i + 1}_img.png", "width": 200, "height": 160} for i in range(2)]
    boxes = {f"{part}_bbox": box for part, box in BOXES.items()}
    annotations = [{"id": i, "image_id": i, **boxes} for i in (1, 0)]
    (tmp_path / "EHF.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return tmp_path


def test_ehf_with_hand4wholes_index(ehf: Path) -> None:
    data = open_dataset(ehf)
    assert isinstance(data, EhfDataset)
    assert (data.name, len(data), data.body) == ("EHF", 2, None)
    picture = load_picture(ehf / "02_img.png", (40.0, 20.0, 90.0, 120.0))
    expected = framed(picture).tensor[0].transpose(1, 2, 0) * 255
    assert np.abs(data.image(1) - expected).max() <= 0.5001
    labels = data.labels(1)
    wanted = [mapped(BOXES[part], framed(picture).affine) for part in ORDER]
    np.testing.assert_allclose(labels.boxes, wanted, rtol=1e-5)
    assert np.isnan(labels.pose).all()
    assert not labels.visible.any()
    turned = data.vertices(1)
    assert turned is not None
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned, MESH @ to_camera().T, rtol=1e-6)


@pytest.mark.parametrize("package", ["plyfile", "scipy.spatial.transform"])
def test_ehf_without_a_package(ehf: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ToolchainError, match=rf"package {package.partition('.')[0]}: pip install '\.\[eval\]'"
    ):
        open_dataset(ehf)


def test_ehf_is_turned_upside_down() -> None:
    """The scanner's y points up, the camera's down."""
    R = to_camera()
    x, y, z = CAMERA
    exponential = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]]).double())
    np.testing.assert_allclose(R, exponential, atol=1e-6)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert R[1, 1] < -0.95
    assert R[2, 2] < -0.95


def test_ehf_as_released(ehf: Path) -> None:
    (ehf / "EHF.json").unlink()
    with pytest.raises(InputError, match=r"01_2Djnt\.json: is missing"):
        open_dataset(ehf)

    def points(box: list[float]) -> list[float]:
        x, y, w, h = box
        return [x, y, 0.9, x + w, y + h, 0.5, 0.0, 0.0, 0.0]  # the last was not found

    keys = {"pose": "pose", "lefthand": "hand_left", "righthand": "hand_right", "face": "face"}
    person = {
        f"{keys[part]}_keypoints_2d": points(BOXES["body" if part == "pose" else part]) for part in keys
    }
    for number in ("01", "02"):
        (ehf / f"{number}_2Djnt.json").write_text(json.dumps({"people": [person]}))
    data = open_dataset(ehf)
    picture = load_picture(ehf / "01_img.png", (40.0, 20.0, 90.0, 120.0))
    np.testing.assert_allclose(
        data.labels(0).boxes, [mapped(BOXES[p], framed(picture).affine) for p in ORDER], rtol=1e-5
    )
    assert data.image(0).shape == (512, 384, 3)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [], "annotations": [{"id": 1}]}'])
def test_damaged_ehf_index(text: str, ehf: Path) -> None:
    (ehf / "EHF.json").write_text(text)
    with pytest.raises(InputError, match=r"EHF"):
        open_dataset(ehf)


PARAMETERS: dict[str, Any] = {
    **{
        "global_orient": [0.1, 0.2, 0.3],
        "body_pose": np.linspace(-1, 1, 63).tolist(),
        "jaw_pose": [0.1, 0, 0],
    },
    **{"leye_pose": [0, 0.1, 0], "reye_pose": [0, 0, 0.1], "left_hand_pose": [0.01] * 45},
    **{"right_hand_pose": [0.02] * 45, "betas": np.arange(11).tolist(), "expression": np.arange(10).tolist()},
    "transl": [0.5, -0.25, 6],
}
CAMERA_FILE = {"focal": [3000.0, 3010.0], "princpt": [1920.0, 1080.0]}
PERSON = [900.0, 600.0, 300.0, 600.0]
PART_BOXES = {
    "lhand_bbox": [1000.0, 700, 60, 50],
    "rhand_bbox": [950.0, 720, 55, 50],
    "face_bbox": [990.0, 610, 90, 120],
}


@pytest.fixture
def agora(tmp_path: Path) -> Path:
    folder = tmp_path / "agora"
    photograph(folder / "1280x720/validation/a_1280x720.png", 1280, 720)
    names = {
        "smplx_param_path": "smplx_params_cam/validation/a/0.json",
        "cam_param_path": "cam_params/validation/a.json",
    }
    for name, content in zip(names.values(), (PARAMETERS, CAMERA_FILE), strict=True):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(content))
    image = {
        "file_name_1280x720": "1280x720/validation/a_1280x720.png",
        "file_name_3840x2160": "3840x2160/validation/a.png",
    }
    person = {"image_id": 4, "person_id": 0, "is_valid": True, "bbox": PERSON, **PART_BOXES, **names}
    annotations = [{"id": 7, **person}, {"id": 3, **person, "is_valid": False}]
    index = {"images": [{"id": 4, **image}], "annotations": annotations}
    (folder / "AGORA_validation_SMPLX.json").write_text(json.dumps(index))
    return folder


def smplx_file(folder: Path) -> tuple[Path, NDArray[np.float64]]:
    fields = random_fields()
    mean = np.concatenate([fields["hands_meanl"], fields["hands_meanr"]]).reshape(30, 3)
    return write(folder / "SMPLX_NEUTRAL.npz", fields), mean


def test_agora_small_pictures(agora: Path, tmp_path: Path) -> None:
    body, mean = smplx_file(tmp_path)
    data = open_dataset(agora, body=body)
    assert isinstance(data, AgoraDataset)
    assert (data.name, len(data), data.body, data.vertices(0)) == ("AGORA", 1, body, None)
    picture = load_picture(agora / "1280x720/validation/a_1280x720.png", (300.0, 200.0, 100.0, 200.0))
    assert np.abs(data.image(0) - framed(picture).tensor[0].transpose(1, 2, 0) * 255).max() <= 0.5001
    labels = data.labels(0)
    np.testing.assert_allclose(labels.pose[0], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(labels.pose[1:22].ravel(), np.linspace(-1, 1, 63), rtol=1e-6)
    np.testing.assert_allclose(labels.pose[22:25], [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(
        labels.pose[25:] - mean, np.repeat([[0.01], [0.02]], 15, 0) * np.ones(3), atol=1e-6
    )
    assert labels.betas.tolist() == list(range(10))  # the eleventh is the child's
    assert labels.translation.tolist() == [0.5, -0.25, 6]

    def crop(x: float, y: float) -> NDArray[np.float64]:
        """Pixels of 3840x2160 -> of the crop, through the small picture."""
        return (np.array([x, y]) / 3 - framed(picture).affine[:, 2]) / framed(picture).affine.diagonal()

    x, y, w, h = PART_BOXES["rhand_bbox"]
    np.testing.assert_allclose(labels.boxes[1], [*crop(x, y), *crop(x + w, y + h)], rtol=1e-5)
    X = np.array([0.3, -0.4, 5.0])  # a point in camera space falls where the full picture's camera puts it
    full = np.array(CAMERA_FILE["focal"]) * X[:2] / X[2] + CAMERA_FILE["princpt"]
    np.testing.assert_allclose(labels.focal * X[:2] / X[2] + labels.principal, crop(*full), rtol=1e-5)


def test_agora_prepared_crops(agora: Path, tmp_path: Path) -> None:
    crop = agora / "images_3840x2160/validation_crop/a_person_id_0.png"
    photograph(crop, 384, 512, 3)
    affine = [[0.5, 0, -400.0], [0, 0.5, -200.0]]
    crop.with_suffix(".json").write_text(
        json.dumps({"affine_mat": affine, "resized_height": 512, "resized_width": 384})
    )
    data = open_dataset(agora, "validation", smplx_file(tmp_path)[0])
    assert (data.image(0) == np.asarray(Image.open(crop))).all()
    labels = data.labels(0)
    np.testing.assert_allclose(labels.focal, [1500, 1505])
    np.testing.assert_allclose(labels.principal, [560, 340])
    np.testing.assert_allclose(labels.boxes[0], [100, 150, 130, 175])
    photograph(crop, 100, 100)
    with pytest.raises(InputError, match="is no crop of 384x512"):
        open_dataset(agora, "validation", smplx_file(tmp_path)[0]).image(0)


def test_agora_says_what_it_lacks(agora: Path, tmp_path: Path) -> None:
    without = open_dataset(agora)
    assert without.image(0).shape == (512, 384, 3)
    with pytest.raises(UsageError, match="--body"):
        without.labels(0)
    with pytest.raises(UsageError, match="AGORA_train_SMPLX"):
        open_dataset(agora, "train")
    (agora / "cam_params/validation/a.json").write_text('{"focal": [1]}')
    with pytest.raises(InputError, match="focal has 1 numbers"):
        open_dataset(agora, body=smplx_file(tmp_path)[0]).labels(0)
    (agora / "1280x720/validation/a_1280x720.png").unlink()
    with pytest.raises(InputError, match="has none of"):
        open_dataset(agora).image(0)
    (agora / "AGORA_validation_SMPLX.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InputError, match="no valid person"):
        open_dataset(agora)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "holds neither"), (tmp_path / "none", "no such folder")):
        with pytest.raises(UsageError, match=message) as caught:
            open_dataset(path)
        assert isinstance(caught.value, BhpeError)
