"""`bhpe-compile verify --bisect`: the first pass and the first node that differ."""

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

EQUAL = 1e-20
"""Bounds below it only keep off zero: what has them must be equal."""


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
            f"{artifact}: first difference after {found.pass_name}, at {found.node}: {found.what}"
        )


def render(result: BisectResult) -> str:
    """A line for each stage, then what was found."""
    rows = [
        (
            one.stage,
            one.name,
            str(one.compared),
            f"{one.flips} of {one.signs}",
            "equal within bounds" if one.ok else "DIFFERS",
        )
        for one in result.stages
    ]
    header = ("stage", "after", "compared", "flipped signs", "")
    text = f"reference: {result.reference}\n\n{render_table(header, rows, right=(2, 3))}"
    found = result.culprit
    if found is None:
        return text + "\n\nno difference"
    pairs = [("after", found.pass_name), ("node", found.node), ("where", found.what)]
    gap = found.difference
    if gap is not None:
        pairs += [
            ("beyond its bound", f"{gap.beyond} of {gap.elements} elements, the first at {gap.first}"),
            ("bound", f"{gap.bound:.4g}" if gap.bound > EQUAL else "equal"),
            ("largest difference", f"{gap.largest:.6g}, root mean square {gap.rms:.6g}"),
            ("expected", f"{gap.expected_range[0]:.6g} .. {gap.expected_range[1]:.6g}"),
            ("found", f"{gap.found_range[0]:.6g} .. {gap.found_range[1]:.6g}"),
            ("flipped signs", f"{gap.flips} ({gap.flip_rate:.2e})"),
        ]
    pairs += [("note", note) for note in found.notes]
    if result.repro:
        pairs.append(("reproduction", f"{Path(result.repro[0]).parent}/, see its README.md"))
    return f"{text}\n\n{render_pairs(pairs)}"
