"""`bhpe-compile run ARTEFACT IMAGE`: one picture through a compiled model."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.archive import npz_bytes
from bhpe_compile.cli.arrays import describe_inputs, own_names, read_inputs
from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import board_options, existing, existing_file, threads_option
from bhpe_compile.cli.tables import to_indented_json
from bhpe_compile.compiler.options import ARRAYS
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from bhpe_compile.networks.interface import Interface
    from bhpe_compile.runtime import Picture
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
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--input",
    "arrays",
    multiple=True,
    metavar="NAME=FILE.npy",
    help="An input as an array, of a network that does not take a picture alone.  [repeatable]",
)
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
@click.option(
    "--raw", is_flag=True, help="Print what the network returned, by the names of its outputs, instead."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def run_command(
    artifact: Path,
    image: Path | None,
    arrays: tuple[str, ...],
    box: Box | None,
    output: Path | None,
    overlay: Path | None,
    threads: int,
    board: Board | None,
    raw: bool,
    quiet: bool,
) -> None:
    """Run a compiled model on one picture of one person and print the pose as JSON.

    
    bhpe-compile run dist/model-x86 person.png -o pose.json --overlay pose.png
    bhpe-compile run dist/model-x86 person.png -o outputs.npz
    bhpe-compile run dist/network-x86 --input image=picture.npy -o outputs.npz

    The JSON lists people (one, where the box is), each with the box that was used, joints by name and the boxes of
    hands and face in pixels of the photograph, rotations by joint as axis-angle, the camera in the picture; units
    stand beside. A file that ends in .npz gets the network's outputs as arrays instead, by the names that the model's
    file has for them; so does, without a picture, what is printed. A model for another CPU runs
    under emulation, or with --ssh or --rpc on a board.
    """
    from bhpe_compile.artifact import load_manifest
    from bhpe_compile.runtime import draw_overlay, load_picture, make_feeds, open_session
    from bhpe_compile.runtime.results import to_lists

    manifest = load_manifest(existing(artifact, "artefact"))
    given = read_inputs(arrays, manifest)
    picture = None
    if image is not None:
        picture = load_picture(existing_file(image, "picture"), box)
    elif box is not None or overlay is not None:
        raise UsageError(f"{'--box' if box is not None else '--overlay'} is for a picture: name one")
    elif len(given) < len(manifest["inputs"]):
        raise UsageError(f"IMAGE is missing; or give every input as an array: {describe_inputs(manifest)}")
    if picture is not None and picture.cut is not None:
        used = "{:g},{:g},{:g},{:g}".format(*picture.asked_box)
        LOG.warning(
            "box {:g},{:g},{:g},{:g} sticks out of the picture: it was cut to {used}".format(
                *picture.cut, used=used
            )
        )
    with open_session(artifact, threads=threads, board=board) as session:
        start = time.perf_counter()
        feeds = given if picture is None else make_feeds(session.interface, picture, given)
        outputs = session.execute(feeds).outputs
        spent = time.perf_counter() - start
        executed, interface = session.executed, session.interface
    if output is not None and output.suffix == ARRAYS:
        names = own_names(manifest)
        content = npz_bytes({names.get(name, name): array for name, array in sorted(outputs.items())})
    elif picture is None:
        content = (json.dumps(to_lists(outputs), sort_keys=True) + "\n").encode()
    else:
        content = describe(picture, outputs, interface, raw).encode()
    files: dict[Path, bytes] = {}
    if output is not None:
        files[output] = content
    if overlay is not None and picture is not None:
        stream = io.BytesIO()
        draw_overlay(picture, outputs, interface).save(stream, "PNG")
        files[overlay] = stream.getvalue()
    write_files(files)
    if output is None:
        click.echo(content.decode(), nl=False)
    if not quiet:
        written = f"; wrote {', '.join(map(str, files))}" if files else ""
        LOG.message(f"ran {executed} in {spent * 1000:.0f} ms{written}")


def describe(picture: Picture, outputs: Mapping[str, NDArray[Any]], interface: Interface, raw: bool) -> str:
    """The JSON: what the outputs say of the person, or, `raw`, the outputs themselves."""
    from bhpe_compile.runtime.people import describe_person, pose_document
    from bhpe_compile.runtime.results import to_lists

    if raw:
        return json.dumps(to_lists(outputs), sort_keys=True) + "\n"
    person = describe_person(picture, outputs, interface)
    return to_indented_json(pose_document([person], interface))
