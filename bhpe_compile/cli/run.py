"""`bhpe-compile run ARTEFACT PICTURE...`: pictures, a film or a camera through a compiled model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.arrays import describe_inputs, run_arrays
from bhpe_compile.cli.options import OutwardOption, board_options, existing, existing_file, threads_option
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.runtime.board import Board

Box = tuple[float, float, float, float]

LINES = (".jsonl", ".ndjson")
"""Suffixes of files that get an object a line, even of one picture."""


def parse_box(context: click.Context, parameter: click.Parameter, value: str | None) -> Box | None:
    """`x,y,w,h` -> four numbers; whether they make a box in the picture is for `load_picture` to say."""
    if value is None:
        return None
    try:
        x, y, width, height = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four numbers x,y,w,h") from None
    return x, y, width, height


def parse_pair(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, float] | None:
    """`cutoff,speed` -> two numbers."""
    if value is None:
        return None
    try:
        cutoff, speed = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not two numbers CUTOFF,SPEED") from None
    return cutoff, speed


@click.command("run", short_help="Run a compiled model on pictures, a film or a camera.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.argument("images", metavar="[PICTURE|FOLDER|PATTERN|FILM]...", nargs=-1)
@click.option(
    "--input",
    "arrays",
    multiple=True,
    metavar="NAME=FILE.npy",
    help="An input as an array, of a network that does not take a picture alone.  [repeatable]",
)
@click.option(
    "--camera",
    cls=OutwardOption,
    metavar="N",
    help="Read a camera of this machine: its number, or its device. Ctrl-C ends it.",
)
@click.option("--frames", metavar="N", type=click.IntRange(1), help="Stop after N frames.")
@click.option(
    "--box",
    metavar="X,Y,W,H",
    callback=parse_box,
    help="Where the person is, in pixels.  [default: the whole picture]",
)
@click.option(
    "--boxes",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where people are: COCO results or annotations, MOT lines, or a JSON list of boxes for each picture.",
)
@click.option(
    "--focal",
    metavar="PIXELS",
    type=click.FloatRange(0, min_open=True),
    help="The camera's focal length, for networks that are told where the box is.  [default: the diagonal]",
)
@click.option("--track", is_flag=True, help="Follow people from frame to frame by their own joints.")
@click.option("--smooth", is_flag=True, help="Smooth joints and rotations of a film (one-euro filter).")
@click.option(
    "--smooth-by",
    metavar="CUTOFF,SPEED",
    callback=parse_pair,
    help="The filter's two constants: hertz at rest, and how much speed adds.  [default: 1.5,1]",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Write the pose there; of several pictures JSON Lines, an object a frame.  [default: stdout]",
)
@click.option(
    "--overlay",
    type=click.Path(path_type=Path),
    help="Write the picture there with what was found drawn on it (PNG); of several a folder or a film (.mp4).",
)
@click.option(
    "--draw",
    type=click.Choice(["skeleton", "mesh"]),
    help="What --overlay draws.  [default: skeleton]",
)
@click.option(
    "--mesh",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="Write the people's meshes: .glb, .obj, .ply; of a film a folder, or one .glb that moves.",
)
@click.option(
    "--body",
    metavar="FILE|open",
    help="The body that is posed for meshes: a licensed file of the network's family, or the open body.",
)
@click.option(
    "--decoder",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For --mesh of networks that tell a mesh as codes: the checkpoint of their decoder (Mesh-VQ-VAE).",
)
@click.option(
    "--tables",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The connection tables of that decoder.",
)
@threads_option
@board_options
@click.option(
    "--raw", is_flag=True, help="Print what the network returned, by the names of its outputs, instead."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def run_command(
    artifact: Path,
    images: tuple[str, ...],
    arrays: tuple[str, ...],
    camera: str | None,
    frames: int | None,
    box: Box | None,
    boxes: Path | None,
    focal: float | None,
    track: bool,
    smooth: bool,
    smooth_by: tuple[float, float] | None,
    output: Path | None,
    overlay: Path | None,
    draw: str | None,
    mesh: Path | None,
    body: str | None,
    decoder: Path | None,
    tables: Path | None,
    threads: int,
    board: Board | None,
    raw: bool,
    quiet: bool,
) -> None:
    """Run a compiled model on pictures of people and print their poses as JSON.

    \b
    bhpe-compile run dist/model-x86 person.png -o pose.json --overlay pose.png
    bhpe-compile run dist/model-x86 person.png -o outputs.npz
    bhpe-compile run dist/model-x86 photos/ --boxes detections.json -o poses.jsonl --overlay drawn/
    bhpe-compile run dist/model-x86 walk.mp4 --track --smooth -o poses.jsonl --overlay walk-poses.mp4
    bhpe-compile run dist/model-x86 --camera 0 --track
    bhpe-compile run dist/network-x86 --input image=picture.npy -o outputs.npz

    The JSON of one picture lists people, each with the box that was used, joints by name and the boxes of
    hands and face in pixels of the photograph, rotations by joint as axis-angle, the camera in the picture; units
    stand beside. A file that ends in .npz gets the network's outputs as arrays instead, by the names that the model's
    file has for them; with --input that, or the arrays as JSON, is what there is. Of several pictures, a
    film or a camera, there is one such object a line, with the frame's number and its file or time. A model for
    another CPU runs under emulation, or with --ssh or --rpc on a board.
    """
    from bhpe_compile.artifact import load_manifest
    from bhpe_compile.cli.running import Request, run_frames, run_picture
    from bhpe_compile.runtime.film import is_film
    from bhpe_compile.runtime.frames import find_inputs
    from bhpe_compile.runtime.smooth import Constants

    existing(artifact, "artefact")
    if arrays:
        pictures = (box, boxes, focal, overlay, mesh, camera, smooth_by) != (None,) * 7 or track or smooth
        if pictures or len(images) > 1:
            raise UsageError(
                "--input is for one run on arrays, with one picture at most: leave the others out"
            )
        run_arrays(artifact, arrays, images[0] if images else None, output, threads, board, quiet=quiet)
        return
    if camera is not None and images:
        raise UsageError(f"--camera {camera} and {images[0]}: run on the one or on the other")
    if camera is None and not images:
        raise UsageError(
            "name a picture, a folder, a film, or --camera N; or give every input as an array: "
            + describe_inputs(load_manifest(artifact))
        )
    if box is not None and boxes is not None:
        raise UsageError("--box and --boxes: give one of them")
    constants = (
        Constants() if smooth and smooth_by is None else None if smooth_by is None else Constants(*smooth_by)
    )
    meshing = (("--body", body), ("--decoder", decoder), ("--tables", tables))
    for name, given, needs in (
        ("--draw", draw, overlay),
        *((option, given, mesh or (draw == "mesh" or None)) for option, given in meshing),
    ):
        if given is not None and needs is None:
            raise UsageError(
                f"{name} is for {'--overlay' if name == '--draw' else '--mesh and --draw mesh'}: add it"
            )
    request = Request(
        artifact=artifact,
        camera=camera,
        frames=frames,
        box=box,
        boxes=boxes,
        focal=focal,
        track=track,
        smooth=constants,
        output=output,
        overlay=overlay,
        mesh=mesh,
        draw_mesh=draw == "mesh",
        body=body,
        decoder=decoder,
        tables=tables,
        threads=threads,
        board=board,
        raw=raw,
        quiet=quiet,
    )
    single = len(images) == 1 and Path(images[0]).is_file() and not is_film(Path(images[0]))
    if camera is None and len(images) == 1 and not single:
        word = Path(images[0])
        if not word.is_dir() and not any(letter in images[0] for letter in "*?["):
            existing_file(word, "film" if is_film(word) else "picture")
    if single and not track and constants is None and (output is None or output.suffix not in LINES):
        run_picture(request, Path(images[0]))
    else:
        run_frames(request, find_inputs(images, request.told) if camera is None else ())
