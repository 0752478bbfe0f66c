"""What `run` does with its options: one picture becomes one document, everything else a line a frame."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import numpy as np
from PIL import Image

from bhpe_compile.archive import npz_bytes
from bhpe_compile.artifact import load_manifest
from bhpe_compile.cli.arrays import own_names
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.signals import stoppable
from bhpe_compile.cli.tables import to_indented_json
from bhpe_compile.errors import InputError, StoppedError, UsageError
from bhpe_compile.files import PICTURES
from bhpe_compile.runtime.boxes import LEAST_SCORE, Boxes, read_boxes
from bhpe_compile.runtime.film import ENCODERS, FILMS, FilmWriter, Frame
from bhpe_compile.runtime.frames import Frames, Pictures, open_frames
from bhpe_compile.runtime.overlay import draw_people
from bhpe_compile.runtime.people import pose_document
from bhpe_compile.runtime.picture import Box, load_picture
from bhpe_compile.runtime.results import to_lists
from bhpe_compile.runtime.smooth import Constants
from bhpe_compile.runtime.stream import Finder, Person, Runner, Where, describe, describe_frame, open_runner

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bhpe_compile.evaluate.mesh_files import Writer
    from bhpe_compile.evaluate.meshes import Mesher
    from bhpe_compile.runtime.board import Board

ARRAYS = ".npz"
"""The suffix of files that hold arrays."""

PNG_LEVEL = 1
"""How hard overlays of many pictures are compressed: little, they are many."""

Painter = Callable[["NDArray[np.uint8]", list[Person]], "NDArray[np.uint8]"]


@dataclass(frozen=True)
class Request:
    """The command line."""

    artifact: Path
    camera: str | None
    frames: int | None
    box: Box | None
    boxes: Path | None
    focal: float | None
    track: bool
    smooth: Constants | None
    output: Path | None
    overlay: Path | None
    mesh: Path | None
    draw_mesh: bool
    body: str | None
    decoder: Path | None
    tables: Path | None
    threads: int
    board: Board | None
    raw: bool
    quiet: bool

    def told(self, text: str) -> None:
        """Say something that --quiet silences."""
        if not self.quiet:
            LOG.message(text)

    def read_boxes(self) -> Boxes | None:
        """The file of boxes; what is left out of it is said."""
        if self.boxes is None:
            return None
        boxes = read_boxes(self.boxes)
        if boxes.left_out:
            self.told(
                f"{self.boxes}: {boxes.left_out} detections with a score below {LEAST_SCORE:g} are left out"
            )
        return boxes

    @contextmanager
    def mesher(self, runner: Runner) -> Iterator[Mesher | None]:
        """What makes and draws meshes, where some are asked for."""
        if self.mesh is None and not self.draw_mesh:
            yield None
            return
        from bhpe_compile.cli.meshes import Decoding, open_mesher

        decoding = Decoding(self.decoder, self.tables)
        with open_mesher(self.artifact, self.body, runner.interface, decoding, quiet=self.quiet) as mesher:
            yield mesher


def run_picture(request: Request, path: Path) -> None:
    """One picture and its document, or the outputs' arrays."""
    boxes = request.read_boxes()
    rgb = load_picture(path).rgb
    frame = Frame(str(path), 0, None, rgb)
    _one_file(request.overlay, "overlay")
    with ExitStack() as stack:
        runner = stack.enter_context(open_runner(request.artifact, request.threads, request.board))
        mesher = stack.enter_context(request.mesher(runner))
        find = Finder(runner, Where(request.box, boxes, focal=request.focal), told=LOG.warning)
        if boxes is not None:
            boxes.require_some([path])
        start = time.perf_counter()
        people = find(frame)
        spent = time.perf_counter() - start
        files: dict[Path, bytes] = {}
        content = _document(request, people, runner)
        if request.output is not None:
            files[request.output] = content
        if request.overlay is not None:
            stream = io.BytesIO()
            Image.fromarray(_painter(request, runner, mesher)(rgb, people)).save(stream, "PNG")
            files[request.overlay] = stream.getvalue()
        if request.mesh is not None:
            assert mesher is not None
            from bhpe_compile.evaluate.mesh_files import to_file

            files[request.mesh] = to_file(mesher, people, request.mesh)
        write_files(files)
    if request.output is None:
        click.echo(content.decode(), nl=False)
    written = f"; wrote {', '.join(map(str, files))}" if files else ""
    codes = any(one.kind == "codes" for one in runner.interface.outputs) and mesher is None
    stays = "; the mesh stays codes: --mesh decodes it with --decoder, --tables and --body" if codes else ""
    request.told(f"ran {runner.executed} in {spent * 1000:.0f} ms{written}{stays}")


def _document(request: Request, people: list[Person], runner: Runner) -> bytes:
    """The JSON: what the outputs say of people, or, `raw`, the outputs themselves; or arrays."""
    arrays = request.output is not None and request.output.suffix == ARRAYS
    if arrays or request.raw:
        if len(people) != 1:
            raise UsageError(
                f"--raw and {ARRAYS} are for one person in a picture, and there are {len(people)}"
            )
        (person,) = people
        if arrays:
            names = own_names(load_manifest(request.artifact))
            return npz_bytes({names.get(name, name): one for name, one in sorted(person.outputs.items())})
        return (json.dumps(to_lists(person.outputs), sort_keys=True) + "\n").encode()
    said = [describe(one, runner.interface) for one in people]
    return to_indented_json(pose_document(said, runner.interface)).encode()


def _one_file(path: Path | None, what: str) -> None:
    if path is not None and (path.is_dir() or path.suffix.lower() in ENCODERS):
        kind = "a folder" if path.is_dir() else "a film"
        raise UsageError(f"--{what} {path}: is {kind}, and there is one picture: name a picture (.png)")


def _painter(request: Request, runner: Runner, mesher: Mesher | None) -> Painter:
    if request.draw_mesh:
        assert mesher is not None
        return mesher.draw
    interface = runner.interface
    return lambda rgb, people: np.asarray(
        draw_people(rgb, [(one.picture, one.outputs, one.name) for one in people], interface)
    )


def run_frames(request: Request, paths: Sequence[Path]) -> None:
    """Several pictures, a film or a camera: a line of JSON and a drawn picture for each frame, as they come.

    InputError at the end where pictures were damaged, and where a film is; StoppedError after Ctrl-C. What was written
    before is whole.
    """
    boxes = request.read_boxes()
    if request.output is not None and request.output.suffix == ARRAYS:
        raise UsageError(
            f"{request.output}: arrays are written of one picture; several give JSON Lines (.jsonl)"
        )
    if boxes is not None:
        boxes.require_some(paths)
    with ExitStack() as stack:
        frames = stack.enter_context(open_frames(paths, request.camera, LOG.warning))
        runner = stack.enter_context(open_runner(request.artifact, request.threads, request.board))
        mesher = stack.enter_context(request.mesher(runner))
        find = Finder(
            runner, Where(request.box, boxes, request.track, request.focal), request.smooth, LOG.warning
        )
        if request.box is None and boxes is None:
            request.told("no box is given: people are looked for in the whole picture (see --box, --boxes)")
        if request.smooth is not None:
            request.told(f"smoothing lags {request.smooth.lag * 1000:.0f} ms behind at rest, less in motion")
        stop = stack.enter_context(stoppable())
        console = stack.enter_context(Console((), quiet=request.quiet, verbose=False, first_stage="open"))
        results = Results(request, frames, runner, mesher, paths)
        count = (
            frames.count if request.frames is None else min(request.frames, frames.count or request.frames)
        )
        start = time.perf_counter()
        try:
            for frame in islice(frames, request.frames):
                results.add(frame, find(frame))
                rate = results.count / (time.perf_counter() - start)
                total = "" if count is None else f" of {count}"
                fraction = None if count is None else min(1.0, results.count / count)
                console("run", f"{results.count}{total}, {rate:.1f} frames/s", fraction)
                if stop.asked:
                    break
        finally:
            results.close()
        spent = time.perf_counter() - start
    said = f"{results.count} frames {runner.executed} in {spent:.1f} s, {results.count / spent:.1f} frames/s"
    written = f"wrote {', '.join(map(str, results.files))}" if results.files else ""
    if stop.asked:
        raise StoppedError(f"interrupted after {said}; {written or 'every line is whole'}")
    request.told("; ".join(filter(None, (said, written))))
    damaged = frames.damaged if isinstance(frames, Pictures) else []
    if damaged:
        raise InputError(
            f"{len(damaged)} of {frames.count} pictures are damaged and were skipped, the first is {damaged[0]}"
        )


class Results:
    """Where the frames' results go. Files are begun with the first frame: what cannot be read replaces nothing."""

    def __init__(
        self,
        request: Request,
        frames: Frames,
        runner: Runner,
        mesher: Mesher | None,
        paths: Sequence[Path],
    ) -> None:
        """UsageError for an overlay or a mesh that is one file where there are many frames."""
        self.count = 0
        self.files: list[Path] = []
        self._request, self._frames, self._runner, self._mesher = request, frames, runner, mesher
        self._inputs = {path.resolve() for path in paths}
        self._lines: IO[str] | None = None
        self._film: FilmWriter | None = None
        self._names: set[str] = set()
        self._paint = _painter(request, runner, mesher) if request.overlay is not None else None
        overlay = request.overlay
        self._as_film = overlay is not None and overlay.suffix.lower() in ENCODERS
        for path in (request.output, overlay, request.mesh):
            if path is not None and path.resolve() in self._inputs:
                raise UsageError(f"{path}: is what is read; name another file")
        one_file = overlay is not None and (overlay.is_file() or overlay.suffix.lower() in PICTURES | FILMS)
        if overlay is not None and one_file and not self._as_film and not overlay.is_dir():
            raise UsageError(
                f"--overlay {overlay}: there are many frames: name a folder, or a film ({', '.join(ENCODERS)})"
            )
        self._meshes: Writer | None = None
        if mesher is not None and request.mesh is not None:
            from bhpe_compile.evaluate.mesh_files import writer

            self._meshes = writer(mesher, request.mesh, frames.rate)

    def add(self, frame: Frame, people: list[Person]) -> None:
        """Write what was found in the next frame."""
        if not self.count:
            self._begin()
        said = describe_frame(frame, people, self._runner.interface, raw=self._request.raw)
        if not self.count:
            network = self._runner.interface
            said = {**said, "network": network.network, "units": pose_document([], network)["units"]}
        line = json.dumps(said)
        if self._lines is None:
            click.echo(line)
        else:
            with self._writing():
                self._lines.write(line + "\n")
                self._lines.flush()
        if self._paint is not None:
            self._draw(frame, self._paint(frame.rgb, people))
        if self._meshes is not None:
            self._meshes.add(frame, people)
        self.count += 1

    def _begin(self) -> None:
        request = self._request
        if request.output is not None:
            with self._writing():
                self._lines = request.output.open("w", encoding="utf-8")
            self.files.append(request.output)
        if request.overlay is not None:
            if self._as_film:
                self._film = FilmWriter(request.overlay, self._frames.rate)
            else:
                try:
                    request.overlay.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise UsageError(f"{request.overlay}: cannot be written ({error.strerror})") from error
            self.files.append(request.overlay)
        if self._meshes is not None:
            assert request.mesh is not None
            self.files.append(request.mesh)

    def _draw(self, frame: Frame, drawn: NDArray[np.uint8]) -> None:
        if self._film is not None:
            self._film.write(drawn, frame.time)
            return
        assert self._request.overlay is not None
        name = f"{frame.number:06d}" if frame.time is not None else Path(frame.name).stem
        if name in self._names:
            name = f"{name}-{frame.number}"
        self._names.add(name)
        path = self._request.overlay / f"{name}.png"
        if path.resolve() in self._inputs:
            raise UsageError(f"{path}: is one of the pictures; name another folder with --overlay")
        stream = io.BytesIO()
        Image.fromarray(drawn).save(stream, "PNG", compress_level=PNG_LEVEL)
        write_files({path: stream.getvalue()})

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """UsageError where the lines cannot be written."""
        try:
            yield
        except OSError as error:
            raise UsageError(f"{self._request.output}: cannot be written ({error.strerror})") from error

    def close(self) -> None:
        """Finish every file; what was written is whole."""
        with ExitStack() as stack:
            for one in (self._meshes, self._film):
                if one is not None:
                    stack.callback(one.close)
            if self._lines is not None:
                stack.enter_context(self._writing())
                self._lines.close()
