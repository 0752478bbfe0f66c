"""`bhpe-compile run ARTEFACT IMAGE`: one picture through a compiled model."""

from __future__ import annotations

import math
from pathlib import Path

import click

from bhpe_compile.cli.options import existing, existing_file
from bhpe_compile.errors import UsageError


Box = tuple[float, float, float, float]


def parse_box(context: click.Context, parameter: click.Parameter, value: str | None) -> Box | None:
    """`x,y,w,h` in pixels of the picture -> four finite numbers, width and height above 0."""
    if value is None:
        return None
    try:
        x, y, width, height = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not four numbers x,y,w,h") from None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise click.BadParameter(f"{value!r}: four finite numbers, width and height above 0")
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
    "--overlay", type=click.Path(path_type=Path), help="Write the picture with joints and boxes drawn on it."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def run_command(
    artifact: Path,
    image: Path,
    box: Box | None,
    output: Path | None,
    overlay: Path | None,
    quiet: bool,
) -> None:
    """Run a compiled model on one picture of one person and print the pose as JSON.

    The JSON has the outputs of the network by name: SMPL-X parameters (rotations as axis-angle, in radians),
    the camera, 65 joints in heat-map cells, and the boxes of hands and face in pixels of the 384x512 crop. A
    model for another CPU runs under emulation.
    """
    raise NotImplementedError
