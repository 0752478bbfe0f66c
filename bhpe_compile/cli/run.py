"""`bhpe-compile run ARTEFACT IMAGE`: one picture through a compiled model."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import board_options, existing, existing_file, threads_option

if TYPE_CHECKING:
    from bhpe_compile.runtime.board import Board

Box = tuple[float, float, float, float]


def parse_box(context: click.Context, parameter: click.Parameter, value: str | None) -> Box | None:
    """`x,y,w,h` -> four numbers; whether they make a box in the picture is for `load_picture` to say."""
    if value is None:
        return None
    try:
        x, y, width, height = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four numbers x,y,w,h") from None
    return x, y, width, height


@click.command("run", short_help="Run a compiled model on a picture.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--box",
    metavar="X,Y,W,H",
    callback=parse_box,
    help="Where the person is, in pixels.  [default: the whole picture]",
)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Write the pose there.  [default: stdout]"
)
@click.option(
    "--overlay",
    type=click.Path(path_type=Path),
    help="Write the picture there with joints and boxes drawn on it (PNG).",
)
@threads_option
@board_options
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def run_command(
    artifact: Path,
    image: Path,
    box: Box | None,
    output: Path | None,
    overlay: Path | None,
    threads: int,
    board: Board | None,
    quiet: bool,
) -> None:
    """Run a compiled model on one picture of one person and print the pose as JSON.

    The JSON has the outputs of the network by name: SMPL-X parameters (rotations as axis-angle, in radians),
    the camera, 65 joints in heat-map cells, and the boxes of hands and face in pixels of the 384x512 crop. A
    model for another CPU runs under emulation, or with --ssh or --rpc on a board.
    """
    from bhpe_compile.runtime import draw_overlay, load_picture, make_feeds, open_session, to_lists

    existing(artifact, "artefact")
    existing_file(image, "picture")
    picture = load_picture(image, box)
    with open_session(artifact, threads=threads, board=board) as session:
        start = time.perf_counter()
        outputs = session.execute(make_feeds(session.interface, picture)).outputs
        spent = time.perf_counter() - start
        executed, interface = session.executed, session.interface
    pose = json.dumps(to_lists(outputs), sort_keys=True) + "\n"
    files: dict[Path, bytes] = {}
    if output is not None:
        files[output] = pose.encode()
    if overlay is not None:
        stream = io.BytesIO()
        draw_overlay(picture, outputs, interface).save(stream, "PNG")
        files[overlay] = stream.getvalue()
    write_files(files)
    if output is None:
        click.echo(pose, nl=False)
    if not quiet:
        written = f"; wrote {', '.join(map(str, files))}" if files else ""
        LOG.message(f"ran {executed} in {spent * 1000:.0f} ms{written}")
