"""`bhpe-compile verify ARTEFACT`: does the compiled library compute what the network computes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.bisect import bisect_artifact
from bhpe_compile.cli.compiling import OPTIONS
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import board_options, existing, existing_file, format_option
from bhpe_compile.cli.tables import print_json, render_duration, render_pairs
from bhpe_compile.errors import InputError, UsageError, VerificationError
from bhpe_compile.files import find_pictures
from bhpe_compile.reading import MalformedError, parse_json

if TYPE_CHECKING:
    from bhpe_compile.check.verify import VerificationResult
    from bhpe_compile.runtime.board import Board


REPORT = "report.json"

DEFAULT_PICTURES = 2
"""Pictures that are computed on where none is named."""

WORTH_SAYING = 60
"""Seconds of emulation that are announced."""

PROVEN = "the library computes what model.onnx computes, for {pictures}"
"""What a verification says, and no more."""


@click.command("verify", short_help="Check that a compiled model computes the right thing.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.option(
    "--pictures",
    "--picture",
    "pictures",
    metavar="PATH",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Pictures to compute on, or folders of them.  [default: the recorded one, and one that comes along]",
)
@click.option(
    "--model",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What it was compiled from, a checkpoint or an ONNX file: model.onnx is made again, and must agree as well.",
)
@click.option(
    "--bisect",
    "bisecting",
    is_flag=True,
    help="Find the first step that differs, and why; with --model from that file on, else from model.onnx on.",
)
@click.option(
    "--repro",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write there the layer that differs, its inputs and how to run it.  [with --bisect]",
)
@OPTIONS["calibrate"]
@board_options
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print the difference of each output.")
def verify_command(
    artifact: Path,
    pictures: tuple[Path, ...],
    model: Path | None,
    bisecting: bool,
    repro: Path | None,
    calibrate: tuple[Path, ...],
    board: Board | None,
    style: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Check that a compiled model computes what its network computes.

    Pictures go through the library and through its model.onnx in ONNX Runtime. Every sign, every 8-bit level and every
    box must be equal, bit for bit, and outputs that are computed from them within 1e-5; a model with float layers
    (--scheme float, --dense fp32) is held to a stated tolerance. A library for another CPU runs under emulation, or
    with --ssh or --rpc on a board: that one is checked then, not this machine's emulator.

    With --bisect the first step that differs is named, and whether its constants, its machine code or its lowering is
    wrong. With --model the model is made again with the options its manifest records; pictures that it was calibrated
    on are not in there, --calibrate names them. Of an ONNX file the ranges in the artefact are taken where --calibrate
    is left out, and how far the artefact is from the file is measured in ONNX Runtime.

    Exit code 4 when they differ; the first step that does is named.
    """
    existing(artifact, "artefact")
    if model is not None:
        existing_file(model, "model")
    if bisecting:
        if board is not None:
            raise UsageError("--bisect runs on this machine: leave --ssh and --rpc out")
        if calibrate and model is None:
            raise UsageError("--calibrate is for making the model again: add --model")
        shown = find_pictures(pictures, LOG.message)
        if len(shown) > 1:
            raise UsageError(f"--bisect takes one picture, not {len(shown)}")
        picture = shown[0] if shown else None
        calibrated = find_pictures(calibrate, LOG.message)
        bisect_artifact(
            artifact, model, picture, repro, calibrated, style=style, quiet=quiet, verbose=verbose
        )
        return
    if calibrate and model is None:
        raise UsageError("--calibrate is for making the model again: add --model")
    if repro is not None:
        raise UsageError("--repro is for --bisect: add it")
    result = run_verification(
        artifact,
        find_pictures(pictures, LOG.message),
        model,
        board,
        find_pictures(calibrate, LOG.message),
        quiet=quiet,
        verbose=verbose,
    )
    if style == "json":
        print_json(result.to_json())
    elif not quiet:
        click.echo(render_verification(result, verbose=verbose))
    require_verified(artifact, result)


def run_verification(
    artifact: Path,
    pictures: tuple[Path, ...] = (),
    model: Path | None = None,
    board: Board | None = None,
    calibrate: tuple[Path, ...] = (),
    *,
    quiet: bool,
    verbose: bool,
) -> VerificationResult:
    """Verify with progress on stderr."""
    from bhpe_compile.check.verify import verify

    again = None
    if model is not None:
        from bhpe_compile.check.bisect.remake import Again

        again = Again(model, artifact, calibrate)
    if board is None:
        announce_emulation(artifact, max(len(pictures), 1) if pictures else DEFAULT_PICTURES)
    with Console([], quiet=quiet, verbose=verbose, first_stage="check hashes") as console:
        return verify(
            artifact,
            pictures=pictures,
            network=again,
            same=again.same if again else None,
            original=again.original if again else None,
            board=board,
            tick=lambda step: console(step, "", None),
        )


def announce_emulation(artifact: Path, runs: int) -> None:
    """Say beforehand how long an artefact for another CPU takes here, where that is worth saying."""
    from bhpe_compile.artifact.load import read_file
    from bhpe_compile.artifact.manifest import load_manifest
    from bhpe_compile.runtime.emulate import emulated_seconds

    manifest = load_manifest(artifact)
    if REPORT not in manifest["files"]:
        return
    try:
        report = parse_json(read_file(artifact, manifest, REPORT))
    except MalformedError as error:
        raise InputError(f"{artifact / REPORT}: damaged ({error}); compile the model again") from None
    seconds = emulated_seconds(manifest, report)
    if seconds is not None and runs * seconds >= WORTH_SAYING:
        LOG.message(
            f"{artifact} is for another CPU and is emulated: about {render_duration(runs * seconds)} "
            "(--ssh and --rpc verify on a board)"
        )


def render_verification(result: VerificationResult, *, verbose: bool) -> str:
    """What was found, one line each."""
    pictures = "1 input" if result.pictures == 1 else f"{result.pictures} inputs"
    pairs = [
        ("verified", f"yes: {PROVEN.format(pictures=pictures)}" if result.ok else "NO"),
        ("accuracy", f"not checked here: bhpe-compile eval {_to_evaluate(result.artefact)}"),
        ("executed", result.executed),
        *_what_is_equal(result),
        *_what_is_chosen(result),
        *_what_the_file_says(result),
    ]
    if verbose:
        pairs += [(f"  {name}", f"{gap:.2e}") for name, gap in result.outputs.items()]
    return render_pairs(pairs)


def _to_evaluate(artefact: str) -> str:
    """The words that measure the accuracy of this artefact: millimetres are for whole bodies."""
    from bhpe_compile.artifact.manifest import load_manifest
    from bhpe_compile.networks.interface import Interface

    if Interface.from_dict(load_manifest(Path(artefact))["network"]).body is not None:
        return artefact
    return f"{artefact} --against FILE --images PICTURES"


def _what_is_equal(result: VerificationResult) -> list[tuple[str, str]]:
    layers = _counted((result.binary_layers, "binary"), (result.int8_layers, "8-bit"))
    words = (f"{result.max_abs_error:.2g} {result.largest_unit}".rstrip(), result.largest_output)
    largest = ", ".join(filter(None, words))
    if not result.binary_layers + result.int8_layers:
        return [("float layers", "all"), ("largest difference", largest)]
    if not result.values and not result.boxes:  # `--scheme float`: there is nothing that has to be equal
        count = len(result.outputs)
        return [("compared", f"{count} outputs of float layers"), ("largest difference", largest)]
    if result.equal:
        boxes = f", {result.boxes} boxes" if result.boxes else ""
        same, count = sum(gap == 0 for gap in result.outputs.values()), len(result.outputs)
        if same == count:
            return [("equal", f"all {layers} layers{boxes}, {count} outputs: every value, bit for bit")]
        text = f"all {layers} layers{boxes}, {same} of {count} outputs"
        return [("equal", f"{text}; largest difference of what follows the last level {largest}")]
    differ = f"{result.differing} of {result.values} signs and levels"
    if not result.float_parts:
        return [("differ", differ), ("largest difference", largest)]
    parts = (
        f"{result.float_parts[0]} and {len(result.float_parts) - 1} more"
        if len(result.float_parts) > 1
        else result.float_parts[0]
    )
    if not result.unsettled:
        return [
            ("equal", f"all {layers} layers: every sign and level, bit for bit"),
            ("float parts", f"{parts}: no two programs compute them to the bit"),
            ("largest difference", f"{largest}, behind the float parts"),
        ]
    return [
        ("float layers", f"{parts}: no two programs compute them to the bit; --scheme int8 or bidrn does"),
        *([("differ", f"{differ}, because of them")] if result.values else []),
        ("largest difference", f"{largest}, with equal signs and levels"),
    ]


def _what_is_chosen(result: VerificationResult) -> list[tuple[str, str]]:
    """How often the largest value of a row stands at the same place, of outputs behind float parts."""
    if not result.argmax:
        return []
    first, *others = [f"{one.same} of {one.rows} rows of {name}" for name, one in result.argmax.items()]
    each = ", ".join((first, *(text.replace(" rows", "") for text in others)))
    parts = list(dict.fromkeys(part for one in result.argmax.values() for part in one.float_parts))
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    return [("argmax", f"as in model.onnx: {each}; in front in float: {parts[0]}{more}")]


def _what_the_file_says(result: VerificationResult) -> list[tuple[str, str]]:
    """Whether model.onnx is what the file gives, and how far it is from what the file itself computes."""
    pairs = []
    if result.remade is not None:
        same = "what --model gives with the recorded options, byte for byte"
        pairs.append(
            ("model.onnx", f"is {same}" if result.remade else f"is NOT {same}; outputs are compared")
        )
    if result.against_file:
        name = max(result.against_file, key=lambda one: result.against_file[one])
        worst = result.against_file[name]
        what = f"{worst:.2g} of its largest value, {name}" if worst else "every output is the same"
        rest = "; a distance: nothing bounds it in 8 bits" if result.int8_layers else ""
        pairs.append(("measured", f"against ONNX Runtime on the file: {what}{rest}"))
    return pairs


def _counted(*kinds: tuple[int, str]) -> str:
    """Like "38 binary and 28 8-bit"; kinds of which there are none are left out."""
    return " and ".join(f"{count} {word}" for count, word in kinds if count) or "0"


def require_verified(artifact: Path, result: VerificationResult) -> None:
    """Raise VerificationError, with the first difference, unless everything agreed."""
    if not result.ok:
        raise VerificationError(
            f"{artifact}: does not compute what its network computes; "
            f"first difference: {result.first_difference}"
        )
