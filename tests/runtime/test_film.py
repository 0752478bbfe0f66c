"""Films in and out: every frame at its time, and what is cut off, empty or no film at all says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.runtime.film import ENCODERS, FilmWriter, Frame, open_camera, open_film
from bhpe_compile.runtime.frames import find_inputs, open_frames
from tests.films import shade

av = pytest.importorskip("av")


def write(path: Path, count: int, size: tuple[int, int] = (64, 48), rate: float = 25.0) -> Path:
    writer = FilmWriter(path, rate)
    for number in range(count):
        writer.write(shade(number, size))
    writer.close()
    return path


@pytest.mark.parametrize("suffix", ENCODERS)
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    with open_film(write(tmp_path / f"film{suffix}", 20)) as film:
        frames = list(film)
        assert film.count in (20, None)
    assert [frame.number for frame in frames] == list(range(20))
    # Matroska counts milliseconds
    np.testing.assert_allclose([frame.time or 0.0 for frame in frames], np.arange(20) / 25, atol=1e-3)
    means = [float(frame.rgb.mean()) for frame in frames]
    np.testing.assert_allclose(means, [40 + 5 * k for k in range(20)], atol=3)  # it is compressed


def test_times_are_kept(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4", 25.0)
    times = [0.0, 0.1, 0.15, 0.9]
    for number, time in enumerate(times):
        writer.write(shade(number), time)
    writer.close()
    with open_film(tmp_path / "film.mp4") as film:
        np.testing.assert_allclose([frame.time or 0.0 for frame in film], times, atol=1e-4)


def test_odd_sizes_and_frames_of_other_sizes(tmp_path: Path) -> None:
    writer = FilmWriter(tmp_path / "film.mp4", 25.0)
    for size in ((63, 47), (63, 47), (126, 94)):
        writer.write(shade(0, size))
    writer.close()
    with open_film(tmp_path / "film.mp4") as film:
        assert [frame.rgb.shape for frame in film] == [(48, 64, 3)] * 3


@pytest.mark.parametrize("name", ["film.mkv", "fast.mp4"])
def test_a_film_that_is_cut_off_gives_the_frames_before_that(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0)
    container = av.open(str(path), "w", options={"movflags": "faststart"} if name == "fast.mp4" else {})
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for _ in range(50):
        picture = av.VideoFrame.from_ndarray(noise.integers(0, 255, (48, 64, 3), np.uint8), format="rgb24")
        for packet in stream.encode(picture):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)
    container.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen: list[Frame] = []
    with open_film(path) as film, pytest.raises(InputError, match=r"cut off.* after \d+") as caught:
        seen.extend(film)
    assert 5 < len(seen) < 45
    assert f"after {len(seen)} " in str(caught.value)


def test_what_is_no_film(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no film")
    with pytest.raises(InputError, match=r"text\.mp4: is no film"):
        open_film(text)
    with pytest.raises(UsageError, match="no such film"):
        open_film(tmp_path / "missing.mp4")
    whole = write(tmp_path / "whole.mp4", 5)
    whole.write_bytes(whole.read_bytes()[:300])  # the table stands at the end
    with pytest.raises(InputError, match="cut off or damaged"):
        open_film(whole)


def test_sound_without_pictures_and_films_without_frames(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mkv"
    container = av.open(str(sound), "w")
    stream = container.add_stream("pcm_s16le", rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
    frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), 0
    for packet in stream.encode(frame):
        container.mux(packet)
    container.close()
    with pytest.raises(InputError, match="has no pictures"):
        open_film(sound)
    empty = tmp_path / "empty.y4m"
    empty.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip C420\n")
    with pytest.raises(InputError, match=r"empty\.y4m"), open_film(empty) as film:
        list(film)


def test_a_telephone_is_held_upright(tmp_path: Path) -> None:
    """The film says by how much its pictures are turned: a bright left half comes out above or below."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rgb = np.zeros((48, 64, 3), np.uint8)
        rgb[:, :32] = 255
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")), *stream.encode(None)]:
            container.mux(packet)
    content = bytearray(path.read_bytes())
    straight = b"".join(n.to_bytes(4, "big") for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(
        n.to_bytes(4, "big", signed=True) for n in (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    )
    at = content.rfind(straight)  # the track's, behind the film's
    content[at : at + len(turned)] = turned  # a quarter to the right, as a telephone writes it
    path.write_bytes(content)
    with open_film(path) as film:
        (frame,) = film
    assert frame.rgb.shape == (64, 48, 3)
    assert frame.rgb[:20].mean() > 200
    assert frame.rgb[-20:].mean() < 50


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"camera 97: /dev/video97 is not there"):
        open_camera("97")
    with pytest.raises(UsageError, match="camera /dev/null: /dev/null cannot be used"):
        open_camera("/dev/null")


def test_films_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4"):
        FilmWriter(tmp_path / "film.gif", 25.0)
    with pytest.raises(UsageError, match="cannot be written"):
        FilmWriter(tmp_path / "no" / "film.mp4", 25.0)


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png", "c.jpg"):
        Image.fromarray(shade(1)).save(folder / name)
    told: list[str] = []
    names = [path.name for path in find_inputs([str(folder)], told.append)]
    assert names == ["a.png", "b.png", "c.jpg"]
    assert [path.name for path in find_inputs([f"{folder}/*.png"], told.append)] == ["a.png", "b.png"]
    assert [path.name for path in find_inputs([f"{tmp_path}/**/*.jpg"], told.append)] == ["c.jpg"]
    Image.fromarray(shade(1)).save(tmp_path / "[1].png")
    assert [path.name for path in find_inputs([f"{tmp_path}/[1].png"], told.append)] == ["[1].png"]
    with pytest.raises(UsageError, match="no file matches"):
        find_inputs([f"{folder}/*.bmp"], told.append)
    film = write(tmp_path / "film.mp4", 3)
    with pytest.raises(UsageError, match="one film at a time"):
        find_inputs([str(film), str(folder)], told.append)


def test_a_damaged_picture_is_told_and_left_out(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.fromarray(shade(1)).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:-30])
    told: list[str] = []
    with open_frames([tmp_path / "a.png", tmp_path / "b.png"], None, told.append) as frames:
        assert [(frame.number, frame.time) for frame in frames] == [(0, None)]
    assert len(told) == 1
    assert "b.png: is a damaged picture" in told[0]


def test_a_film_is_closed_while_its_next_frame_is_decoded(tmp_path: Path) -> None:
    film = open_film(write(tmp_path / "film.mp4", 30))
    frames = iter(film)
    assert next(frames).number == 0
    film.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(frames)
