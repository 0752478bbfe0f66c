"""Films and cameras, frame by frame, with the package av (FFmpeg's libraries); memory does not grow with their length.

    with open_film("walk.mp4") as film:
        for frame in film:                    # Frame: number, seconds, uint8 [H, W, 3]
            ...

A film that is cut off or damaged gives the frames before that, then raises InputError.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, ToolchainError, UsageError
from bhpe_compile.runtime.picture import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FILMS = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".wmv",
        ".flv",
        ".3gp",
        ".y4m",
    }
)
"""Suffixes of files that are read as films."""

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "20"}),
    ".mov": ("libx264", {"preset": "veryfast", "crf": "20"}),
    ".mkv": ("libx264", {"preset": "veryfast", "crf": "20"}),
    ".webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "4M"}),
}
"""Suffixes of films that are written: encoder and its options."""

TICKS = 90_000
"""Parts of a second that a written frame's time is counted in."""

USUAL_RATE = 25.0
"""Frames a second of pictures and cameras that tell none."""

LACKING = 2
"""Frames that may be missing at the end of a film: some writers count one that nobody shows."""

PATIENCE = 10.0
"""Seconds that a camera may take to give its next frame."""


@dataclass(frozen=True)
class Frame:
    """A picture to run on. `name` is its file or camera; `number` counts from 0; `time` is in seconds from the film's
    first frame, None for a picture; `rgb` is uint8 [H, W, 3]."""

    name: str
    number: int
    time: float | None
    rgb: NDArray[np.uint8]


class Film:
    """An open film or camera."""

    def __init__(self, container: InputContainer, name: str, *, endless: bool = False) -> None:
        """InputError where there is no picture in it."""
        self.name = name
        self._container = container
        self._endless = endless
        if not container.streams.video:
            container.close()
            raise InputError(f"{name}: has no pictures, only sound or text")
        self._stream = container.streams.video[0]
        codec = self._stream.codec_context
        if codec.width * codec.height > MAX_PIXELS:
            container.close()
            raise InputError(f"{name}: {codec.width}x{codec.height} pixels are too many; scale it down")
        self._stream.thread_type = "AUTO"
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")

    @property
    def rate(self) -> float:
        """Frames a second, on average."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else USUAL_RATE

    @property
    def count(self) -> int | None:
        """How many frames there are, as far as the file says."""
        if self._endless:
            return None
        if self._stream.frames:
            return int(self._stream.frames)
        seconds = _told_seconds(self._stream)
        return None if seconds is None else round(seconds * self.rate)

    def __iter__(self) -> Iterator[Frame]:
        """Every frame; the next one is decoded in a thread while one is used.

        InputError after the last one that can be read, where the file says that there are more.
        """
        frames = self._decoded()
        coming = self._decoder.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = self._decoder.submit(next, frames, None)
            yield frame

    def _decoded(self) -> Iterator[Frame]:
        from av.error import FFmpegError

        first: float | None = None
        number, now = 0, 0.0
        decoded = self._container.decode(self._stream)
        while True:
            try:
                frame = next(decoded, None)
            except (FFmpegError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                if self._endless:
                    raise InputError(f"{self.name}: gives no more frames ({reason})") from None
                raise InputError(
                    f"{self.name}: is damaged or cut off after {number} frames ({reason})"
                ) from None
            if frame is None:
                break
            now = frame.time if frame.time is not None else number / self.rate
            first = now if first is None else first
            yield Frame(self.name, number, round(now - first, 6), _upright(frame))
            number += 1
        if first is None:
            raise InputError(f"{self.name}: has no frames")
        if not self._endless:
            self._require_whole(number, now - first + 1 / self.rate)

    def _require_whole(self, number: int, seconds: float) -> None:
        """InputError where the film says that it has more frames, or is longer."""
        said, told = int(self._stream.frames), _told_seconds(self._stream)
        if said:
            if said - number > max(LACKING, said // 100):
                raise InputError(f"{self.name}: is cut off: it ends after {number} of {said} frames")
        elif told is not None and told - seconds > max(LACKING / self.rate, told / 100):
            raise InputError(
                f"{self.name}: is cut off: it ends after {number} frames, {seconds:.2f} of {told:.2f} seconds"
            )

    def close(self) -> None:
        """Release the file or the camera, once the frame that is being decoded is there."""
        self._decoder.shutdown()
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_film(path: Path) -> bool:
    """Whether a file of this name is read as a film."""
    return path.suffix.lower() in FILMS


def open_film(path: Path) -> Film:
    """Open a film.

    Raises UsageError (no such file), InputError (no film, or cut off before its table) and ToolchainError (no av).
    """
    av = _av()
    if not path.is_file():
        raise UsageError(f"{path}: {'is no regular file' if path.exists() else 'no such film'}")
    try:
        return Film(av.open(str(path)), str(path))
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: is no film, or is cut off or damaged ({reason})") from None


def open_camera(camera: str) -> Film:
    """Open a camera of this machine by its number or its device (Video4Linux).

    UsageError where there is none, or where it cannot be used; ToolchainError without av.
    """
    av = _av()
    device = f"/dev/video{camera}" if camera.isdecimal() else camera
    name = f"camera {camera}"
    try:
        return Film(av.open(device, format="v4l2", timeout=(PATIENCE, PATIENCE)), name, endless=True)
    except FileNotFoundError:
        raise UsageError(f"{name}: {device} is not there ({_cameras()})") from None
    except (OSError, ValueError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: {device} cannot be used ({reason}; {_cameras()})") from None


def _cameras() -> str:
    found = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
    return f"there are {', '.join(found)}" if found else "this machine has no camera"


def _av() -> Any:
    try:
        import av
        import av.error
    except ImportError:
        raise ToolchainError("films and cameras need the package av: pip install '.[video]'") from None
    return av


def _told_seconds(stream: VideoStream) -> float | None:
    """How long the stream is as the file says: not the file, whose sound may be longer."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    with suppress(KeyError, ValueError):  # Matroska
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], turned as the film says: telephones are held upright."""
    rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


class FilmWriter:
    """A film that grows by a frame at a time; it can be played once it is closed, however that comes."""

    def __init__(self, path: Path, rate: float) -> None:
        """UsageError where `path` cannot be written, or where its suffix is no film's."""
        av = _av()
        encoder = ENCODERS.get(path.suffix.lower())
        if encoder is None:
            raise UsageError(f"{path}: films are written as {', '.join(ENCODERS)}")
        self._av, self._path, self._rate = av, path, rate
        self._codec, self._options = encoder
        self._container: OutputContainer | None
        with self._writing():
            path.open("wb").close()  # av opens it with the first frame
            self._container = av.open(str(path), "w")
        self._stream: Any = None
        self._size = (0, 0)
        self._last = -1
        self._count = 0

    def write(self, rgb: NDArray[np.uint8], time: float | None = None) -> None:
        """Add a frame, uint8 [H, W, 3], at `time` seconds, or 1 / rate after the one before.

        Frames of another size than the first are scaled to it, and a last odd row or column is shown twice: films have
        even sizes.
        """
        assert self._container is not None  # write after close
        if self._stream is None:
            self._start(rgb.shape[1], rgb.shape[0])
        frame = self._av.VideoFrame.from_ndarray(self._fitted(rgb), format="rgb24")
        at = self._count / self._rate if time is None else time
        self._last = frame.pts = max(round(at * TICKS), self._last + 1)
        frame.time_base = Fraction(1, TICKS)
        self._count += 1
        self._mux(self._stream.encode(frame))

    def _start(self, width: int, height: int) -> None:
        assert self._container is not None
        self._size = (width + width % 2, height + height % 2)
        rate = Fraction(self._rate).limit_denominator(1001)
        self._stream = self._container.add_stream(self._codec, rate=rate, options=self._options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)

    def _fitted(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        columns, rows = self._size[0] - rgb.shape[1], self._size[1] - rgb.shape[0]
        if columns in (0, 1) and rows in (0, 1):
            return np.pad(rgb, ((0, rows), (0, columns), (0, 0)), "edge") if columns or rows else rgb
        from PIL import Image

        return np.asarray(Image.fromarray(rgb).resize(self._size, Image.Resampling.BILINEAR))

    def _mux(self, packets: Any) -> None:
        assert self._container is not None
        with self._writing():
            for packet in packets:
                self._container.mux(packet)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """UsageError where the file cannot be written."""
        try:
            yield
        except (OSError, self._av.error.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{self._path}: cannot be written ({reason})") from None

    def close(self) -> None:
        """Write what is still to be written; the film can be played then."""
        container = self._container
        if container is None:
            return
        try:
            if self._stream is not None:
                self._mux(self._stream.encode(None))
        finally:
            self._container = None
            with self._writing():
                container.close()
                if self._stream is None and self._path.is_file():
                    self._path.unlink()  # a film without frames is none
