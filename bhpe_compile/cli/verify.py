"""`bhpe-compile verify ARTEFACT`: does the compiled library compute what the network computes?"""

from __future__ import annotations

from functools import partial
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

RUNS, WORTH_SAYING = 3, 60
"""A verification takes about as long as three runs; seconds of emulation that are announced."""

PROVEN = "the library computes what model.onnx computes, for this picture"
"""What a verification says, and no more."""


@click.command("verify", short_help="Check that a compiled model computes the right thing.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Another picture to compute on.  [default: the one recorded when it was compiled]",
)
@click.option(
    "--model",
    metavar="CHECKPOINT",
    type=click.Path(path_type=Path),
    help="What it was compiled from: PyTorch runs it again, instead of taking its recorded outputs.",
)
@click.option(
    "--bisect",
    "bisecting",
    is_flag=True,
    help="Find the first pass and the first node that differ; with --model from PyTorch on, else from model.onnx on.",
)
@click.option(
    "--repro",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write there the smallest graph that shows the difference, its inputs and how to run it.  [with --bisect]",
)
@OPTIONS["calibrate"]
@board_options
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print the difference of each output.")
def verify_command(
    artifact: Path,
    picture: Path | None,
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

    The same picture goes through the library and through its model.onnx in ONNX Runtime, and both are
    compared with what PyTorch computed when the model was compiled. The integers of binary layers must agree
    bit for bit, outputs within a stated tolerance. A library for another CPU runs under emulation,
    or with --ssh or --rpc on a board: that one is checked then, not this machine's emulator.

    With --bisect every stage between PyTorch and the library is compared with the reference, layer by layer, and
    the first pass and node are named where something differs beyond its bound. The model is made again with the
    options its manifest records; pictures that it was calibrated on are not in there, --calibrate names them.

    Exit code 4 when they differ; the first layer that does is named.
    """
    existing(artifact, "artefact")
    if picture is not None:
        existing_file(picture, "picture")
    if model is not None:
        existing_file(model, "model")
    if bisecting:
        if board is not None:
            raise UsageError("--bisect runs on this machine: leave --ssh and --rpc out")
        if calibrate and model is None:
            raise UsageError("--calibrate is for making the model again: add --model")
        pictures = find_pictures(calibrate, LOG.message)
        bisect_artifact(artifact, model, picture, repro, pictures, style=style, quiet=quiet, verbose=verbose)
        return
    if calibrate:
        raise UsageError("--calibrate is for --bisect: add it")
    if repro is not None:
        raise UsageError("--repro is for --bisect: add it")
    result = run_verification(artifact, picture, model, board, quiet=quiet, verbose=verbose)
    if style == "json":
        print_json(result.to_json())
    elif not quiet:
        click.echo(render_verification(result, verbose=verbose))
    require_verified(artifact, result)


def run_verification(
    artifact: Path,
    picture: Path | None,
    model: Path | None = None,
    board: Board | None = None,
    *,
    quiet: bool,
    verbose: bool,
) -> VerificationResult:
    """Verify with progress on stderr."""
    from bhpe_compile.check.verify import verify

    network = None
    if model is not None:
        from bhpe_compile.check.bisect.stages import run_torch

        network = partial(run_torch, model)
    if board is None:
        announce_emulation(artifact)
    with Console([], quiet=quiet, verbose=verbose, first_stage="check hashes") as console:
        return verify(
            artifact, picture=picture, network=network, board=board, tick=lambda step: console(step, "", None)
        )


def announce_emulation(artifact: Path) -> None:
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
    if seconds is not None and RUNS * seconds >= WORTH_SAYING:
        LOG.message(
            f"{artifact} is for another CPU and is emulated: about {render_duration(RUNS * seconds)} "
            "(--ssh and --rpc verify on a board)"
        )


def render_verification(result: VerificationResult, *, verbose: bool) -> str:
    """What was found, one line each."""
    of = f" {result.largest_unit}, {result.largest_output}" if result.largest_output else ""
    pairs = [
        ("verified", f"yes: {PROVEN}" if result.ok else "NO"),
        ("accuracy", f"not checked here: bhpe-compile eval {result.artefact}"),
        ("executed", result.executed),
        (
            "binary layers",
            f"{result.binary_layers}, {'all exact' if result.binary_exact else 'NOT all exact'}",
        ),
        (
            "8-bit layers",
            f"{result.int8_layers}, {'all exact' if result.int8_exact else 'NOT all exact'}",
        ),
        ("flipped signs", f"{result.flips} of {result.signs} ({result.flip_rate:.2e})"),
        ("other 8-bit levels", f"{result.level_flip_rate:.2e}"),
        ("largest difference", f"{result.max_abs_error:.2e}{of} (without the flips' effect)"),
        ("  with it", f"{result.max_abs_error_free:.2e}"),
    ]
    if result.max_abs_error_torch is not None:
        pairs.append(("  against PyTorch", f"{result.max_abs_error_torch:.2e}"))
    if result.rounding is not None:
        worst = max((gap for name, gap in result.rounding.items() if name != "flip_rate"), default=0.0)
        flips = f"{100 * result.rounding['flip_rate']:.2g} % of the signs flip"
        pairs.append(("8-bit and float16 cost", f"{worst:.2e} against float32, {flips}"))
    if verbose:
        cost = result.rounding or {}
        for name, gap in result.outputs.items():
            rounded = f", {cost[name]:.2e} by 8-bit and float16" if name in cost else ""
            pairs.append((f"  {name}", f"{gap['forced']:.2e}{rounded}"))
    return render_pairs(pairs)


def require_verified(artifact: Path, result: VerificationResult) -> None:
    """Raise VerificationError, with the first difference, unless everything agreed."""
    if not result.ok:
        raise VerificationError(
            f"{artifact}: does not compute what its network computes; "
            f"first difference: {result.first_difference}"
        )
