"""Where frames come from: files, folders and globs of pictures, one film, or one camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.files import find_pictures
from bhpe_compile.runtime.film import USUAL_RATE, Frame, is_film, open_camera, open_film
from bhpe_compile.runtime.picture import load_picture

PATTERN = frozenset("*?[")
"""Letters of a pattern."""

Told = Callable[[str], None]


class Frames(Protocol):
    """Frames in order. `count` is how many there are, None where that is not known; `rate` is frames a second."""

    @property
    def count(self) -> int | None: ...

    @property
    def rate(self) -> float: ...

    def __iter__(self) -> Iterator[Frame]: ...


class Pictures:
    """Files of pictures. One that is damaged is told and left out; `damaged` lists them."""

    rate = USUAL_RATE

    def __init__(self, paths: Sequence[Path], told: Told) -> None:
        self.paths = tuple(paths)
        self.damaged: list[Path] = []
        self._told = told

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for number, path in enumerate(self.paths):
            try:
                rgb = load_picture(path).rgb
            except InputError as error:
                self.damaged.append(path)
                self._told(f"{error}: skipped")
                continue
            yield Frame(str(path), number, None, rgb)


def find_inputs(words: Sequence[str], told: Told) -> tuple[Path, ...]:
    """Files behind `words`: files as they are, the pictures of folders, and what matches a pattern (`*`, `?`, `[a-z]`,
    `**`) where no file is called so, by name. UsageError for what is not there, and for a film among other things.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += find_pictures([path], told)
        elif PATTERN & set(word) and not path.exists():
            top = Path(path.anchor)
            matches = sorted(one for one in top.glob(str(path.relative_to(top))) if one.is_file())
            if not matches:
                raise UsageError(f"{word}: no file matches")
            found += matches
        else:
            found.append(path)
    films = [path for path in found if is_film(path)]
    if films and len(found) > 1:
        raise UsageError(
            f"{films[0]}: is a film; run the command for one film at a time, and apart from pictures"
        )
    return tuple(dict.fromkeys(found))


@contextmanager
def open_frames(paths: Sequence[Path], camera: str | None, told: Told) -> Iterator[Frames]:
    """The frames of a camera, of a film, or of pictures; see `open_film` and `open_camera` for errors."""
    if camera is not None:
        with open_camera(camera) as film:
            yield film
    elif len(paths) == 1 and is_film(paths[0]):
        with open_film(paths[0]) as film:
            yield film
    else:
        yield Pictures(paths, told)
