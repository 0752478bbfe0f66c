"""Pictures: the crop by its definition, the way back, and files that are none."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import bhpe_compile
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import BoxVector, Crop, Input, Interface, Output
from bhpe_compile.runtime import Picture, load_picture, make_feeds
from bhpe_compile.runtime import picture as module
from bhpe_compile.runtime.picture import View

ENLARGE, HEIGHT, WIDTH = 1.25, 512, 384
PORT = Input("image", (1, 3, HEIGHT, WIDTH), "picture", Crop(ENLARGE))

PERSON = Path(bhpe_compile.__file__).parent / "data" / "person.png"


def slow_crop(view: View, u: int, v: int) -> NDArray[np.float64]:
    """One pixel of the network's input, written out."""
    picture = view.picture
    x, y = view.to_picture(np.array([u, v]))
    total = np.zeros(3)
    for i in (int(np.floor(x)), int(np.floor(x)) + 1):
        for j in (int(np.floor(y)), int(np.floor(y)) + 1):
            if 0 <= i < picture.rgb.shape[1] and 0 <= j < picture.rgb.shape[0]:
                total += picture.rgb[j, i] * (1 - abs(x - i)) * (1 - abs(y - j))
    return total / 255


def random_picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


sizes = st.integers(2, 70)


@settings(max_examples=40)
@given(width=sizes, height=sizes, data=st.data())
def test_crop_is_bilinear_sampling(width: int, height: int, data: st.DataObject) -> None:
    left, top = data.draw(st.floats(0, width - 2)), data.draw(st.floats(0, height - 2))
    box = (left, top, data.draw(st.floats(0.5, width)), data.draw(st.floats(0.5, height)))
    view = Picture(random_picture(width, height), box).seen_by(PORT)
    image = view.tensor
    assert image.shape == (1, 3, HEIGHT, WIDTH)
    assert image.dtype == np.float32
    assert 0 <= image.min() <= image.max() <= 1
    for u, v in [(0, 0), (WIDTH // 2, HEIGHT // 2), (WIDTH - 1, HEIGHT - 1), (17, 300)]:
        # a whole level; float32 weights of float64 positions up to 100: 1e-6 of a weight, on values of at most 1
        np.testing.assert_allclose(image[0, :, v, u], slow_crop(view, u, v), atol=0.5 / 255 + 2e-5)
    assert np.isin(image, np.arange(256, dtype=np.float32) / np.float32(255)).all()


@settings(max_examples=60)
@given(
    box=st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 400), st.floats(1, 400)),
)
def test_box_becomes_three_to_four_and_larger(box: tuple[float, float, float, float]) -> None:
    view = Picture(random_picture(2, 2), box).seen_by(PORT)
    corners = view.to_picture(np.array([[0, 0], [WIDTH, HEIGHT]]))
    width, height = corners[1] - corners[0]
    np.testing.assert_allclose(width / height, 3 / 4, rtol=1e-12)
    np.testing.assert_allclose(corners.mean(0), [box[0] + box[2] / 2, box[1] + box[3] / 2], rtol=0, atol=1e-9)
    ratio = max(width / box[2], height / box[3])
    shorter = min(width / box[2], height / box[3])
    np.testing.assert_allclose(shorter, ENLARGE, rtol=1e-12)
    assert ratio >= ENLARGE * (1 - 1e-12)


def test_whole_picture() -> None:
    picture = load_picture(PERSON)
    assert picture.rgb.shape == (512, 384, 3)
    assert picture.box == (0, 0, 383, 511)
    np.testing.assert_allclose(picture.seen_by(PORT).scale, 1.25 * 511 / 512)


def test_crop_of_the_same_size_copies_pixels() -> None:
    """A box of 1/1.25 of the size in the middle is sampled at scale 1, at whole pixels."""
    rgb = random_picture(WIDTH, HEIGHT)
    picture = Picture(rgb, (WIDTH * 0.1, HEIGHT * 0.1, WIDTH * 0.8, HEIGHT * 0.8))
    expected = rgb.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(
        picture.seen_by(PORT).tensor, expected, atol=1e-6
    )  # positions are whole to 1e-13


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_values_are_scaled_and_normalised_channel_by_channel(order: Any) -> None:
    """Against the definition, in float64: float32 arithmetic costs 1e-7 of values up to 3."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    port = Input("image", (1, 3, 64, 48), "picture", Crop(1.0, 255.0, mean, deviation, order))
    picture = Picture(random_picture(70, 90), (3.0, 4.0, 40.0, 60.0))
    plain = picture.seen_by(Input("image", (1, 3, 64, 48), "picture", Crop(1.0))).tensor[0].astype(np.float64)
    if order == "bgr":
        plain = plain[::-1]
    expected = (plain - np.reshape(mean, (3, 1, 1))) / np.reshape(deviation, (3, 1, 1))
    np.testing.assert_allclose(picture.seen_by(port).tensor[0], expected, atol=2e-6)


def test_a_box_vector_says_where_the_box_is() -> None:
    """CLIFF's three numbers (arXiv 2208.00571), written out."""
    port = Input("image", (1, 3, 256, 192), "picture", Crop(1.1))
    vector = BoxVector(2.8, 0.24, 0.06)
    interface = Interface(inputs=(port, Input("bbox", (1, 3), "box", vector=vector)))
    picture = Picture(random_picture(640, 480), (100.0, 50.0, 120.0, 300.0))
    b, f = 1.1 * max(120 * 4 / 3, 300), (640**2 + 480**2) ** 0.5
    expected = [2.8 * (160 - 320) / f, 2.8 * (200 - 240) / f, (b - 0.24 * f) / (0.06 * f)]
    feeds = make_feeds(interface, picture)
    assert list(feeds) == ["image", "bbox"]
    np.testing.assert_allclose(feeds["bbox"], [expected], rtol=1e-6)
    known = make_feeds(interface, replace(picture, focal=1000.0))["bbox"]
    np.testing.assert_allclose(known[0, 2], (b - 240) / 60, rtol=1e-6)


def test_keypoints_of_a_grid_come_back_to_the_picture() -> None:
    picture = Picture(random_picture(640, 480), (100.0, 50.0, 120.0, 300.0))
    view = picture.seen_by(PORT)
    output = Output("points", (1, 2, 3), "keypoints", grid=(6, 8))
    found = view.keypoints(output, np.array([[[3.0, 4.0, 9.0], [0.0, 0.0, 9.0]]]))
    np.testing.assert_allclose(found, [[160, 200], view.to_picture(np.zeros(2))])


def test_what_has_no_value_is_named() -> None:
    picture = Picture(random_picture(64, 48), (1.0, 1.0, 30.0, 30.0))
    interface = Interface(inputs=(PORT, Input("state", (1, 4))))
    with pytest.raises(InputError, match="input state is no picture: give its values"):
        make_feeds(interface, picture)
    assert make_feeds(interface, picture, {"state": np.zeros((1, 4))})["state"].shape == (1, 4)
    with pytest.raises(InputError, match="takes no picture"):
        make_feeds(Interface(inputs=(Input("state", (1, 4)),)), picture)


def test_outside_is_black(tmp_path: Path) -> None:
    Image.new("RGB", (100, 100), "white").save(tmp_path / "white.png")
    image = load_picture(tmp_path / "white.png").seen_by(PORT).tensor
    assert image[0, :, 0].max() == 0
    assert image[0, :, :, 0].max() == 0
    assert image[0, :, HEIGHT // 2, WIDTH // 2].min() == 1


def test_box_is_cut_at_the_border(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "p.png")
    assert load_picture(tmp_path / "p.png", (-10, -20, 50, 60)).box == (0, 0, 39, 39)
    assert load_picture(tmp_path / "p.png", (60, 50, 1000, 1000)).box == (60, 50, 39, 29)


@pytest.mark.parametrize(
    "box",
    [
        (200, 0, 10, 10),
        (0, 200, 10, 10),
        (-20, 0, 10, 10),
        (0, 0, 0, 5),
        (0, 0, 5, -1),
        (0, 0, float("nan"), 5),
        (0, float("inf"), 5, 5),
        (99, 0, 50, 50),
    ],
)
def test_box_without_pixels_is_refused(box: tuple[float, float, float, float], tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "p.png")
    with pytest.raises(UsageError, match="box "):
        load_picture(tmp_path / "p.png", box)


def test_a_box_that_sticks_out_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (100, 80)).save(tmp_path / "p.png")
    assert load_picture(tmp_path / "p.png").cut is None
    inside = load_picture(tmp_path / "p.png", (0, 0, 100, 80))
    assert (inside.cut, inside.asked_box) == (None, (0, 0, 100, 80))
    cut = load_picture(tmp_path / "p.png", (60, 50, 1000, 20))
    assert (cut.cut, cut.asked_box) == ((60, 50, 1000, 20), (60, 50, 40, 20))


def test_a_picture_may_be_an_array_or_a_string(tmp_path: Path) -> None:
    rgb = random_picture(40, 30)
    Image.fromarray(rgb).save(tmp_path / "p.png")
    box = (3.0, 4.0, 20.0, 10.0)
    from_file, from_array = load_picture(str(tmp_path / "p.png"), box), load_picture(rgb, box)
    assert from_file.box == from_array.box
    np.testing.assert_array_equal(from_file.rgb, from_array.rgb)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((4, 4, 3), np.float32), r"uint8 \[H, W, 3\], not float32 \[4, 4, 3\]"),
        (np.zeros((4, 4), np.uint8), r"not uint8 \[4, 4\]"),
        (np.zeros((1, 4, 3), np.uint8), "hold no person"),
        ([[1, 2]], "a path or an array"),
    ],
)
def test_values_that_are_no_picture(value: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_picture(value)
    with pytest.raises(UsageError, match="four numbers"):
        load_picture(random_picture(8, 8), (1, 2, 3))


def encoded(mode: str, form: str) -> bytes:
    colour: dict[str, object] = {
        "L": 100,
        "LA": (100, 255),
        "P": 3,
        "RGBA": (10, 20, 30, 255),
        "CMYK": (0, 0, 0, 99),
    }
    stream = io.BytesIO()
    Image.new(mode, (30, 40), colour.get(mode, 0)).save(stream, form)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("RGB", form) for form in ("JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM")),
        ("CMYK", "JPEG"),
    ],
)
def test_every_kind_of_pixels(mode: str, form: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(encoded(mode, form))
    picture = load_picture(tmp_path / "p")
    assert picture.rgb.shape == (40, 30, 3)
    assert picture.rgb.dtype == np.uint8


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257], [257 * 100, 65535]], np.uint16)).save(tmp_path / "p.png")
    np.testing.assert_array_equal(load_picture(tmp_path / "p.png").rgb[:, :, 0], [[0, 1], [100, 255]])


def test_transparency_shows_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "p.png")
    assert load_picture(tmp_path / "p.png").rgb.min() == 255


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "p.jpg", exif=exif)
    assert load_picture(tmp_path / "p.jpg").rgb.shape == (40, 30, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"GIF89a",
        b"BM" + bytes(60),
        b"P6 10 10 255 ",
        b"II*\0\x08\0\0\0",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_file_that_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.png: ") as caught:
        load_picture(tmp_path / "bad.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_truncated_picture(form: str, part: float, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(random_picture(64, 64)).save(stream, form)
    content = stream.getvalue()
    (tmp_path / "bad").write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match="bad: "):
        load_picture(tmp_path / "bad")


def test_places_that_hold_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such picture"):
        load_picture(tmp_path / "gone.png")
    with pytest.raises(UsageError, match="cannot be read"):
        load_picture(tmp_path)


def test_huge_picture_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """A PNG header that promises 10^9 pixels and another above our own limit; a file of a few bytes each."""
    header = bytearray(encoded("L", "PNG"))
    for width, height in ((40_000, 40_000), (10_000, 10_000)):
        header[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
        (tmp_path / "p.png").write_bytes(header)
        with pytest.raises(InputError, match="too many"):
            load_picture(tmp_path / "p.png")
    told = [
        one for one in recwarn if not issubclass(one.category, ResourceWarning)
    ]  # of other tests' garbage
    assert told == []
    monkeypatch.setattr(module, "MAX_PIXELS", 1200)
    (tmp_path / "p.png").write_bytes(encoded("L", "PNG"))
    load_picture(tmp_path / "p.png")
    monkeypatch.setattr(module, "MAX_PIXELS", 1199)
    with pytest.raises(InputError, match="30x40 pixels are too many"):
        load_picture(tmp_path / "p.png")


def test_picture_too_small(tmp_path: Path) -> None:
    Image.new("RGB", (1, 50)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="1x50 pixels hold no person"):
        load_picture(tmp_path / "p.png")


def tiff(tags: dict[int, tuple[int, ...]], planes: list[bytes]) -> bytes:
    """A little-endian TIFF of 4x3 pixels; each of `planes` is one strip."""
    places = [8 + sum(map(len, planes[:i])) for i in range(len(planes))]
    sizes = tuple(map(len, planes))
    entries = {256: (4,), 257: (3,), 259: (1,), 273: tuple(places), 278: (3,), 279: sizes, **tags}
    data = b"".join(planes)
    start = 8 + len(data) + 2 + 12 * len(entries) + 4
    directory, extra = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", start + len(extra)), extra + packed
        directory += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4) + extra


RAMP = np.linspace(0, 1, 12).reshape(3, 4)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2)


@pytest.mark.parametrize(
    ("tags", "stored", "means"),
    [
        ({258: (8,), 262: (0,)}, np.uint8(255 - RAMP * 255), RAMP),
        ({258: (16,), 262: (1,)}, np.uint16(RAMP * 65535), RAMP),
        ({258: (16,), 262: (0,)}, np.uint16(65535 - RAMP * 65535), RAMP),
        ({258: (8,) * 3, 262: (2,), 277: (3,)}, np.uint8(COLOURS * 255), COLOURS),
        ({258: (16,) * 3, 262: (2,), 277: (3,)}, np.uint16(COLOURS * 65535), COLOURS),
        ({258: (16,) * 3, 262: (2,), 277: (3,), 339: (1,) * 3}, np.uint16(COLOURS * 65535), COLOURS),
        (
            {258: (8,) * 3, 262: (2,), 277: (3,), 284: (2,)},
            np.uint8(COLOURS * 255).transpose(2, 0, 1),
            COLOURS,
        ),
    ],
)
def test_a_tiff_means_what_it_says(
    tags: dict[int, tuple[int, ...]], stored: NDArray[Any], means: NDArray[np.float64], tmp_path: Path
) -> None:
    """A level off at most: which of two neighbours a value between them is, is rounding."""
    planes = [plane.tobytes() for plane in stored] if 284 in tags else [stored.tobytes()]
    (tmp_path / "x.tif").write_bytes(tiff(tags, planes))
    rgb = load_picture(tmp_path / "x.tif").rgb.astype(int)
    wanted = means if means.ndim == 3 else means[:, :, None]
    assert np.abs(rgb - wanted * 255).max() <= 1


@pytest.mark.parametrize(
    ("tags", "stored", "says"),
    [
        ({258: (32,), 262: (1,), 339: (3,)}, np.float32(RAMP), "floats"),
        ({258: (64,), 262: (1,), 339: (3,)}, np.float64(RAMP), "floats|known format"),
        ({258: (16,), 262: (1,), 339: (2,)}, np.int16(RAMP * 32767), "signed integers"),
        ({258: (8,), 262: (1,), 339: (2,)}, np.int8(RAMP * 127), "signed integers"),
        ({258: (32,), 262: (1,)}, np.uint32(RAMP * (2**32 - 1)), "32-bit integers"),
        ({258: (32,), 262: (1,), 339: (2,)}, np.int32(RAMP * (2**31 - 1)), "signed integers"),
        ({258: (32,) * 3, 262: (2,), 277: (3,), 339: (3,) * 3}, np.float32(COLOURS), "known format|floats"),
        ({258: (12,), 262: (1,)}, np.zeros(18, np.uint8), "12-bit integers"),
    ],
)
def test_a_tiff_whose_numbers_have_no_agreed_brightness(
    tags: dict[int, tuple[int, ...]], stored: NDArray[Any], says: str, tmp_path: Path
) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(tags, [stored.tobytes()]))
    with pytest.raises(InputError, match=says):
        load_picture(tmp_path / "x.tif")


def test_a_tiff_of_planes_with_sixteen_bits(tmp_path: Path) -> None:
    tags = {258: (16,) * 3, 262: (2,), 277: (3,), 284: (2,)}
    planes = [plane.tobytes() for plane in np.uint16(COLOURS * 65535).transpose(2, 0, 1)]
    (tmp_path / "x.tif").write_bytes(tiff(tags, planes))
    with pytest.raises(InputError, match="planes of their own"):
        load_picture(tmp_path / "x.tif")


def test_given_inputs_are_finite() -> None:
    interface = Interface(inputs=(PORT, Input("more", (1, 2))))
    picture = load_picture(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match="input more: has NaN"):
        make_feeds(interface, picture, {"more": np.array([[0, np.nan]], np.float32)})
