"""Frames through a compiled model: whose boxes, which people, one frame after the other; nothing is kept but tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from bhpe_compile.artifact.load import check_artifact
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.board import Board
from bhpe_compile.runtime.boxes import Boxes, Given
from bhpe_compile.runtime.film import Frame
from bhpe_compile.runtime.model import Model
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.people import describe_person
from bhpe_compile.runtime.picture import Box, Picture, load_picture, make_feeds
from bhpe_compile.runtime.results import check_finite, to_lists
from bhpe_compile.runtime.session import Session
from bhpe_compile.runtime.simcc import with_points
from bhpe_compile.runtime.smooth import Constants, Smoother
from bhpe_compile.runtime.track import Tracker
from bhpe_compile.targets.host import missing_features

Outputs = Mapping[str, NDArray[Any]]
Told = Callable[[str], None]


class Runner(Protocol):
    """An open artefact. `executed` says where it runs."""

    @property
    def executed(self) -> str: ...

    @property
    def interface(self) -> Interface: ...

    def __call__(self, picture: Picture) -> Outputs: ...


@dataclass(frozen=True)
class _InProcess:
    model: Model
    executed: str = "in this process"

    @property
    def interface(self) -> Interface:
        return self.model.interface

    def __call__(self, picture: Picture) -> Outputs:
        return self.model.run(picture.rgb, picture.asked_box, picture.focal)


@dataclass(frozen=True)
class _InSession:
    session: Session

    @property
    def executed(self) -> str:
        return self.session.executed

    @property
    def interface(self) -> Interface:
        return self.session.interface

    def __call__(self, picture: Picture) -> Outputs:
        outputs = self.session.execute(make_feeds(self.interface, picture)).outputs
        check_finite(outputs)
        return outputs


@contextmanager
def open_runner(path: Path, threads: int = 1, board: Board | None = None) -> Iterator[Runner]:
    """The artefact at `path`: in this process where it can be (frames are cut out by its own C code), else as
    `open_session` opens it. Raises what that raises, and InputError where the network takes no picture alone."""
    manifest = check_artifact(path)
    kinds = {port.kind for port in Interface.from_dict(manifest["network"]).inputs}
    if "picture" not in kinds or "tensor" in kinds:
        raise InputError(f"{path}: this network does not take a picture alone; run it from Python")
    target = manifest["target"]
    if board is None and not missing_features(target["family"], target["requires"]):
        with Model(path, threads) as model:
            yield _InProcess(model)
    else:
        with open_session(path, threads=threads, board=board) as session:
            yield _InSession(session)


@dataclass(frozen=True)
class Person:
    """Somebody who was found in a frame: the frame with the box, the network's outputs, and who it is where that is
    known."""

    picture: Picture
    outputs: Outputs
    id: int | None = None

    @property
    def name(self) -> str:
        """The id as text, "" where there is none."""
        return "" if self.id is None else str(self.id)


@dataclass(frozen=True)
class Where:
    """Where people are looked for: in one box, in a file's, in those that joints of the frame before give, or, where
    nothing is said, in the whole picture. focal: of every frame, in pixels; None: not known."""

    box: Box | None = None
    boxes: Boxes | None = None
    track: bool = False
    focal: float | None = None


class Finder:
    """Finds the people of frames, in order. `told` hears of people who are lost, and of the first box that is cut."""

    def __init__(
        self, runner: Runner, where: Where, smooth: Constants | None = None, told: Told = lambda _: None
    ) -> None:
        """UsageError where the network finds no joints to follow people by, or has no use for a focal length."""
        self._runner, self._where, self._told = runner, where, told
        self._said_cut = False
        interface = runner.interface
        if where.track and interface.keypoints is None:
            raise UsageError(
                "--track follows people by their joints, and this network finds none: give --boxes"
            )
        if where.focal is not None and all(port.kind != "box" for port in interface.inputs):
            raise UsageError(
                "--focal is for networks that are told where the box is in the picture: leave it out"
            )
        self._tracker = Tracker(interface, told) if where.track else None
        self._smoother = None if smooth is None else Smoother(interface, smooth)

    def __call__(self, frame: Frame) -> list[Person]:
        """The people of the next frame. InputError for boxes that are not in it."""
        given = self._given(frame)
        people = self._tracked(frame, given) if self._tracker is not None else self._plain(frame, given)
        if self._smoother is None:
            return people
        if frame.time is None:
            raise UsageError("--smooth is for films and cameras: pictures have no time between them")
        if len(people) > 1 and any(one.id is None for one in people):
            raise UsageError("--smooth must know who is who: add --track, or give boxes with ids")
        return [
            replace(one, outputs=self._smoother(one.id or 0, frame.time, one.picture, one.outputs))
            for one in people
        ]

    def _given(self, frame: Frame) -> list[Given]:
        if self._where.boxes is not None:
            if self._where.boxes.first_only and frame.number and self._tracker is None:
                raise UsageError(
                    f"{self._where.boxes.path}: has boxes of the first frame only; add --track to follow these people"
                )
            return self._where.boxes.at(frame)
        if self._tracker is not None and frame.number:
            return []
        if self._where.box is not None:
            return [Given(self._where.box)]
        height, width = frame.rgb.shape[:2]
        return [Given((0.0, 0.0, float(width), float(height)))]

    def _plain(self, frame: Frame, given: list[Given]) -> list[Person]:
        people = []
        for one in given:
            picture = load_picture(frame.rgb, one.box, self._where.focal)
            if picture.cut is not None and not self._said_cut:
                self._said_cut = True
                used = "{:g},{:g},{:g},{:g}".format(*picture.asked_box)
                self._told(
                    "box {:g},{:g},{:g},{:g} sticks out of the picture: it was cut to {used}".format(
                        *picture.cut, used=used
                    )
                )
            people.append(Person(picture, self._runner(picture), one.id))
        return people

    def _tracked(self, frame: Frame, given: list[Given]) -> list[Person]:
        assert self._tracker is not None
        height, width = frame.rgb.shape[:2]
        tracks = self._tracker.begin(given, (width, height))
        port, keypoints = self._runner.interface.picture, self._runner.interface.keypoints
        assert port is not None
        assert keypoints is not None
        people, found = [], []
        for track in tracks:
            picture = load_picture(frame.rgb, track.corner_box, self._where.focal)
            outputs = self._runner(picture)
            people.append(Person(picture, outputs))
            values = with_points(self._runner.interface, outputs)[keypoints.name]
            found.append((track, picture.seen_by(port).keypoints(keypoints, values)))
        visible = self._tracker.update(frame.rgb, found, frame.number)
        return [replace(people[track.sight], id=track.id) for track in visible if track.sight is not None]


def describe_frame(
    frame: Frame, people: list[Person], interface: Interface, *, raw: bool = False
) -> dict[str, Any]:
    """A frame as plain data, a line of `run`'s JSON Lines; `raw`: people as the network's outputs."""
    where: dict[str, Any] = {"frame": frame.number}
    where |= {"file": frame.name} if frame.time is None else {"time": frame.time}
    return where | {"people": [describe(one, interface, raw=raw) for one in people]}


def describe(person: Person, interface: Interface, *, raw: bool = False) -> dict[str, Any]:
    """A person as plain data, the id first where there is one; `raw`: the network's outputs."""
    said = to_lists(person.outputs) if raw else describe_person(person.picture, person.outputs, interface)
    return said if person.id is None else {"id": person.id, **said}
