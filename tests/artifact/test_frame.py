"""A camera's frame becomes the input in C with the bits that runtime/picture.py computes; what is refused, and why."""

from __future__ import annotations

import ctypes as c
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bhpe_compile.artifact import check_artifact, write_artifact
from bhpe_compile.errors import UsageError
from bhpe_compile.networks.interface import Crop, Input, Interface
from bhpe_compile.runtime import load_picture
from bhpe_compile.runtime.library import CTensor, Library
from bhpe_compile.runtime.picture import View
from tests.artifact.folders import HOST, on_host
from tests.artifact.programs import X, small_program
from tests.shared import made_once

pytestmark = on_host

OK, BAD_ARGUMENT = 0, -1


class CFrame(c.Structure):
    """bhpe_frame of bhpe.h."""

    _fields_ = (("x", c.c_double), ("y", c.c_double), ("scale", c.c_double))


@dataclass(frozen=True)
class Camera:
    """A model whose input is a picture."""

    library: c.CDLL
    model: c.c_void_p
    input: CTensor

    def set_frame(self, frame: NDArray[np.uint8], box: Any = None, **sizes: int) -> tuple[int, CFrame]:
        """`frame` is RGB or RGBA."""
        height, width, channels = frame.shape
        sizes = {"width": width, "height": height, "stride": frame.strides[0], **sizes}
        place = CFrame()
        function = self.library.bhpe_set_frame_rgba if channels == 4 else self.library.bhpe_set_frame
        status = function(
            self.model,
            c.c_void_p(frame.ctypes.data),
            c.c_int32(sizes["width"]),
            c.c_int32(sizes["height"]),
            c.c_int64(sizes["stride"]),
            (c.c_double * 4)(*box) if box is not None else None,
            c.byref(place),
        )
        return int(status), place

    @property
    def image(self) -> NDArray[np.float32]:
        found = np.frombuffer(c.string_at(self.input.data, self.input.nbytes), np.float32)
        return found.reshape(self.input.shape[: self.input.ndim])

    def error(self) -> str:
        self.library.bhpe_last_error.restype = c.c_char_p
        return bytes(self.library.bhpe_last_error()).decode()


def open_camera(folder: Path) -> Iterator[Camera]:
    library = Library(folder, check_artifact(folder))
    handle, tensor = c.c_void_p(), CTensor()
    assert library.create_from_path(bytes(folder / "weights.bin"), c.byref(handle)) == OK
    assert library.get_input(handle, 0, c.byref(tensor)) == OK
    yield Camera(c.CDLL(str(folder / "model.so")), handle, tensor)
    library.destroy(handle)
    library.close()


CROPS = {
    "camera": Crop(1.25),
    "normalised": Crop(1.1, 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bgr"),
}

SIZES = {"camera": (8, 4), "normalised": (5, 150)}
"""Rows and columns of the inputs; columns are done 64 at a time."""


def port(name: str) -> Input:
    return Input("x", (1, 3, *SIZES[name]), "picture", CROPS[name])


def make_camera(name: str, factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        program = small_program(HOST)
        slots = [*program.tensors]
        shape = port(name).shape
        slots[X] = replace(slots[X], shape=shape, nbytes=4 * math.prod(shape))
        arena = slots[X].offset + slots[X].nbytes
        program = replace(
            program, tensors=tuple(slots), arena_bytes=arena, interface=Interface(inputs=(port(name),))
        )
        write_artifact(folder / "model", program, HOST, b"", {}, None, {})

    return made_once(factory, name, make) / "model"


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Camera]:
    yield from open_camera(make_camera("camera", tmp_path_factory))


@pytest.fixture(scope="module")
def normalised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Camera]:
    yield from open_camera(make_camera("normalised", tmp_path_factory))


def expected(rgb: NDArray[np.uint8], box: Any, name: str = "camera") -> View:
    return load_picture(rgb, box).seen_by(port(name))


def random_frame(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Whatever its last channel."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)


def check(camera: Camera, rgba: NDArray[np.uint8], box: Any, name: str = "camera") -> None:
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    check_frame(camera, rgb, rgb, box, name)
    check_frame(camera, rgba, rgb, box, name)


def check_frame(
    camera: Camera, handed: NDArray[np.uint8], rgb: NDArray[np.uint8], box: Any, name: str
) -> None:
    c.memset(camera.input.data, 255, camera.input.nbytes)
    status, frame = camera.set_frame(handed, box)
    try:
        want = expected(rgb, box, name)
    except UsageError:
        assert status == BAD_ARGUMENT
        return
    assert status == OK, camera.error()
    assert np.array_equal(camera.image, want.tensor)
    assert [frame.x, frame.y, frame.scale] == [*want.affine[:, 2], want.scale]
    x, y = c.c_double(3.25), c.c_double(-1.5)
    camera.library.bhpe_to_frame(c.byref(frame), c.byref(x), c.byref(y))
    assert [x.value, y.value] == want.to_picture(np.array([3.25, -1.5])).tolist()


@settings(max_examples=200)
@given(
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    box=st.one_of(
        st.none(),
        st.tuples(st.floats(-20, 45), st.floats(-20, 45), st.floats(0.5, 60), st.floats(0.5, 60)),
        st.tuples(*[st.integers(-2, 12)] * 2, *[st.integers(1, 12)] * 2).map(
            lambda box: tuple(map(float, box))
        ),
    ),
    seed=st.integers(0, 100),
)
def test_the_same_bits_as_in_python(
    camera: Camera, normalised: Camera, size: tuple[int, int], box: Any, seed: int
) -> None:
    check(camera, random_frame(*size, seed), box)
    check(normalised, random_frame(*size, seed), box, "normalised")


def test_white_stays_white(camera: Camera) -> None:
    """Four rounded weights may sum to a little more than 1."""
    white = np.full((37, 23, 4), 255, np.uint8)
    for k in range(40):
        check(camera, white, (3 + k / 7, 4 + k / 11, 11.3, 17.7))
        assert camera.image.max() == 1


def test_rows_may_be_longer_than_the_frame(camera: Camera) -> None:
    wide = random_frame(30, 12)
    box = (0.0, 0.0, 9.0, 12.0)
    want = expected(np.ascontiguousarray(wide[:, :9, :3]), box).tensor
    for frame in (wide, np.ascontiguousarray(wide[:, :, :3])):
        assert camera.set_frame(frame[:, :9], box)[0] == OK
        assert np.array_equal(camera.image, want)


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((np.nan, 0, 1, 1), "the box is not four finite numbers"),
        ((0, 0, 1, np.inf), "the box is not four finite numbers"),
        ((0, 0, 0, 5), "the box has no size"),
        ((0, 0, 5, -1), "the box has no size"),
        ((10, 0, 5, 5), "the box lies outside the frame"),
        ((0, -9, 5, 5), "the box lies outside the frame"),
        ((9, 3, 5, 5), "the box lies outside the frame"),  # the centre of its first pixel is the last
        ((3, 3, 1, 5), "the box lies outside the frame"),  # one column has no width between centres
    ],
)
def test_boxes_that_are_none(camera: Camera, box: Any, says: str) -> None:
    status, _ = camera.set_frame(random_frame(10, 10), box)
    assert (status, camera.error()) == (BAD_ARGUMENT, says)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"width": 1}, "bhpe_set_frame: the frame is too small"),
        ({"height": 1}, "bhpe_set_frame: the frame is too small"),
        ({"stride": 29}, "bhpe_set_frame: stride is shorter than a row"),
    ],
)
def test_frames_that_are_none(camera: Camera, sizes: dict[str, int], says: str) -> None:
    rgba = random_frame(10, 10)
    rgb = np.ascontiguousarray(rgba[:, :, :3])
    wider = {**sizes, "stride": 39} if "stride" in sizes else sizes
    for frame, said in ((rgb, sizes), (rgba, wider)):
        assert (camera.set_frame(frame, **said)[0], camera.error()) == (BAD_ARGUMENT, says)
        assert camera.set_frame(random_frame(2, 2))[0] == OK


@pytest.mark.parametrize("focal", [-1.0, np.nan, np.inf])
def test_focal_lengths_that_are_none(camera: Camera, focal: float) -> None:
    set_focal = camera.library.bhpe_set_focal
    assert set_focal(camera.model, c.c_double(focal)) == BAD_ARGUMENT
    assert camera.error() == "bhpe_set_focal: not a focal length in pixels"
    assert set_focal(None, c.c_double(1.0)) == BAD_ARGUMENT
    assert set_focal(camera.model, c.c_double(0.0)) == OK


def test_a_frame_that_is_null(camera: Camera) -> None:
    library = camera.library
    data = c.c_void_p(random_frame(9, 9).ctypes.data)
    for function, stride in ((library.bhpe_set_frame, 27), (library.bhpe_set_frame_rgba, 36)):
        assert function(camera.model, None, 9, 9, c.c_int64(stride), None, None) == BAD_ARGUMENT
        assert camera.error() == "bhpe_set_frame: the frame is NULL"
        assert function(camera.model, data, 9, 9, c.c_int64(stride), None, None) == OK
    x = c.c_double(2.0)
    library.bhpe_to_frame(None, c.byref(x), c.byref(x))
    library.bhpe_to_frame(c.byref(CFrame(1, 1, 1)), c.byref(x), None)
    assert x.value == 2.0


def test_a_model_that_takes_no_picture(artifact: Path) -> None:
    for camera in open_camera(artifact):
        assert camera.set_frame(random_frame(9, 9))[0] == BAD_ARGUMENT
        assert camera.error() == "bhpe_set_frame: the model takes no picture"
