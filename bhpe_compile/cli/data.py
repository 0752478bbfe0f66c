"""`bhpe-compile data`: pictures of people with ground truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import format_option
from bhpe_compile.cli.tables import print_json

if TYPE_CHECKING:
    from bhpe_compile.evaluate.synth.streams import Split

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
body_option = click.option(
    "--body",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A body in the SMPL-X layout [default: an open one, built once].",
)

seed_option = click.option(
    "--seed",
    metavar="S",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Which people.",
)


@click.group("data", short_help="Make and check sets of pictures with ground truth.")
def data_command() -> None:
    """Make and check sets of pictures of people whose pose and shape are known."""


@data_command.command("synth", short_help="Draw people with known poses.")
@click.option(
    "--count", metavar="N", type=click.IntRange(1, 1_000_000), required=True, help="How many pictures."
)
@seed_option
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Two worlds without a person, a colour of clothes or a background in common.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write.",
)
@click.option(
    "--workers",
    metavar="K",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes that draw.",
)
@body_option
@click.option(
    "--film",
    metavar="F",
    type=click.IntRange(1, 10_000),
    default=1,
    help="So many pictures show one person, who moves slowly: films for `eval --jitter`.",
)
@click.option(
    "--generator",
    "version",
    type=click.Choice(["2", "3"]),
    default="2",
    show_default=True,
    help="2: flat light, painted clothes, what the embedded models saw; 3: nearer to photographs.",
)
@click.option(
    "--backgrounds",
    metavar="DIR",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Photographs to put behind the people (generator 3; may be repeated). [default: drawn ones]",
)
@format_option
@quiet_option
def synth_command(
    count: int,
    seed: int,
    split: str,
    folder: Path,
    workers: int,
    body: Path | None,
    film: int,
    version: str,
    backgrounds: tuple[Path, ...],
    style: str,
    quiet: bool,
) -> None:
    """Draw N people with known pose, shape, keypoints and boxes into DIR.

    Every person has 55 joints' rotations, 10 shape and 10 expression coefficients, a true perspective camera, 65
    keypoints and the boxes of hands and face. The same options give the same files, whatever the number of processes.
    Stop it at any moment; the same command goes on where it stopped.

    Generator 3 shows the same people, with light and shadows, folds, hair, and what a camera does to a picture. What
    shows a person or an animal does not belong into the folders of --backgrounds: nobody would have labelled it.

    With --film F, pictures 0 to F-1 are a film of the first person, the next F of the second, and so on: each sways
    slowly before a background that stands still.
    """
    from bhpe_compile.evaluate.default_body import resolve_body
    from bhpe_compile.evaluate.synth.generate import generate

    options = (
        ("folder", str(folder)),
        ("people", f"{count}, {split} split, seed {seed}, generator {version}"),
        ("processes", str(workers)),
    )
    LOG.remains = f"the same command goes on with what is in {folder}"
    with Console(options, quiet=quiet, verbose=False, first_stage="body") as console:
        path = resolve_body(body, lambda step, fraction: console("body", step, 0.0))
        start = time.perf_counter()
        tick = counted(console, "people", count)
        world: Split = "test" if split == "test" else "train"
        config = generate(
            folder,
            path,
            count,
            seed,
            world,
            workers,
            tick,
            film=film,
            version=int(version),
            backgrounds=backgrounds,
        )
    seconds = time.perf_counter() - start
    if style == "json":
        print_json({"folder": str(folder), **config.to_dict(), "seconds": round(seconds, 3)})
    elif not quiet:
        click.echo(f"{folder}: {count} people of the {split} split in {seconds:.1f} s")


@data_command.command("film", short_help="Draw a film of people who walk and pass each other.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--frames", metavar="N", type=click.IntRange(1, 100_000), default=300, show_default=True, help="How long."
)
@click.option(
    "--people", metavar="K", type=click.IntRange(1, 20), default=2, show_default=True, help="How many."
)
@seed_option
@body_option
@quiet_option
def film_command(path: Path, frames: int, people: int, seed: int, body: Path | None, quiet: bool) -> None:
    """Draw a film (.mp4, .mkv, .mov, .webm) of K people, 640x480, 30 frames a second, to try `run` with.

    Beside it stands where everybody is, under the same name with .txt: MOT lines frame,id,x,y,w,h,1,1,1, as
    `run --boxes` reads them.
    """
    from bhpe_compile.cli.files import write_files
    from bhpe_compile.evaluate.body import BodyModel
    from bhpe_compile.evaluate.default_body import resolve_body
    from bhpe_compile.evaluate.synth.film import RATE, draw_film
    from bhpe_compile.evaluate.threads import one_thread
    from bhpe_compile.runtime.film import FilmWriter

    lines = []
    with one_thread(), Console((), quiet=quiet, verbose=False, first_stage="") as console:
        model = BodyModel.load(resolve_body(body, lambda step, fraction: console("body", step, 0.0)))
        writer = FilmWriter(path, RATE)
        tick = counted(console, "frames", frames)
        try:
            for number, scene in enumerate(draw_film(model, frames, people, seed), 1):
                writer.write(scene.rgb)
                lines += [
                    f"{number},{who},{','.join(map(str, box))},1,1,1\n"
                    for who, box in enumerate(scene.boxes, 1)
                    if box is not None
                ]
                tick(1)
        finally:
            writer.close()
    boxes = path.with_suffix(".txt")
    write_files({boxes: "".join(lines).encode()})
    if not quiet:
        click.echo(f"{path}: {frames} frames of {people} people; {boxes}: where they are")


@data_command.command("check", short_help="Compare a set's files with their hashes.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@format_option
@quiet_option
def check_command(folder: Path, style: str, quiet: bool) -> None:
    """Compare every file of a set that `data synth` wrote with its SHA-256."""
    from bhpe_compile.evaluate.synth.store import check, read_manifest

    count = int(read_manifest(folder)["count"])
    with Console((), quiet=quiet, verbose=False) as console:
        tick = counted(console, "check", count)
        tick(0)
        manifest = check(folder, tick)
    if style == "json":
        print_json(
            {"folder": str(folder), "ok": True, **{k: v for k, v in manifest.items() if k != "shards"}}
        )
    elif not quiet:
        click.echo(
            f"{folder}: {count} people, {manifest['split']} split, seed {manifest['seed']}: all as written"
        )


def counted(console: Console, stage: str, length: int) -> Callable[[int], None]:
    """What to call with the number of people just done, to show how many of `length` there are."""
    done = 0

    def tick(number: int) -> None:
        nonlocal done
        done += number
        console(stage, f"{done} of {length}", done / length)

    return tick
