"""`bhpe-compile verify --bisect`: the first step that differs, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.tables import print_json, render_pairs, render_table
from bhpe_compile.errors import VerificationError

if TYPE_CHECKING:
    from bhpe_compile.check.bisect import BisectResult


def bisect_artifact(
    artifact: Path,
    model: Path | None,
    picture: Path | None,
    repro: Path | None,
    calibrate: tuple[Path, ...],
    *,
    style: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Bisect and print what was found; VerificationError when something differs."""
    from bhpe_compile.check.bisect import bisect

    with Console([], quiet=quiet, verbose=verbose, first_stage="check hashes") as console:
        result = bisect(
            artifact,
            checkpoint=model,
            picture=picture,
            repro=repro,
            calibrate=calibrate,
            tick=lambda step: console(step, "", None),
        )
    for remark in result.remarks:
        LOG.warning(f"remark: {remark}")
    if style == "json":
        print_json(result.to_json())
    elif not quiet:
        click.echo(render(result))
    if result.culprit is not None:
        found = result.culprit
        raise VerificationError(
            f"{artifact}: first difference in {found.origin}, at {found.node}: {found.what}"
        )


def render(result: BisectResult) -> str:
    """A line for each stage, then what was found."""
    rows = [
        (one.name, f"{one.differing} of {one.compared}", "equal" if one.ok else "DIFFERS")
        for one in result.stages
    ]
    header = ("compared", "differing signs and levels", "")
    text = f"reference: {result.reference}\n\n{render_table(header, rows, right=(1,))}"
    if result.against_file:
        worst = max(result.against_file, key=lambda name: result.against_file[name])
        text += "\n\nmeasured against ONNX Runtime on the file: "
        text += f"{result.against_file[worst]:.2g} of its largest value, {worst}"
    if result.float_parts:
        text += f"\n\n{_behind_float_parts(result)}"
    found = result.culprit
    if found is None:
        return text + ("\n\nno difference" if not result.float_parts else "\n\nno difference beyond that")
    pairs = [("wrong", found.origin), ("node", found.node), ("where", found.what)]
    pairs += [("note", note) for note in found.notes]
    if result.repro:
        pairs.append(("reproduction", f"{Path(result.repro[0]).parent}/, see its README.md"))
    return f"{text}\n\n{render_pairs(pairs)}"


def _behind_float_parts(result: BisectResult) -> str:
    """What is proven where float parts stand in front of signs and levels."""
    parts = result.float_parts[0] + (
        f" and {len(result.float_parts) - 1} more" if len(result.float_parts) > 1 else ""
    )
    text = f"in float, in front of signs or levels: {parts}. Every layer was given the signs and levels of model.onnx: "
    text += "what is checked is each layer, not the whole way"
    if result.near:
        text += (
            f"; right behind a float part are {result.near} layers, which may differ where a rounding decides"
        )
    if result.unjudged:
        text += f"; {result.unjudged} layers are counted and not judged"
    return text
