"""`bhpe-compile explain ARTEFACT [NAME]...`: why a layer is what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import existing, format_option
from bhpe_compile.cli.tables import print_json, render_bytes, render_count, render_pairs, render_table

if TYPE_CHECKING:
    from bhpe_compile.report.explain import Explainer, Explanation


@click.command("explain", short_help="Say why a layer of a compiled model is what it is.")
@click.argument("artifact", metavar="ARTEFACT", type=click.Path(path_type=Path))
@click.argument("names", metavar="[NAME]...", nargs=-1)
@format_option
def explain_command(artifact: Path, names: tuple[str, ...], style: str) -> None:
    """Say why a layer of a compiled model is what it is.

    NAME is the name of a layer or a pattern ('backbone.layer4.*'); without any, all layers are listed, a line each.
    Told are the decisions of every pass at that layer with the reason, what the layer became, its kernel and
    register tile, its bytes and its multiply-accumulates (MACs). Everything comes from the artefact's report.json.

    \b
    bhpe-compile explain dist/model-x86
    bhpe-compile explain dist/model-x86 backbone.conv1 'box_net.*'
    """
    from bhpe_compile.report.explain import Explainer

    explainer = Explainer.of(existing(artifact, "artefact"))
    found = [explainer.explain(name) for name in (explainer.match(names) if names else explainer.layers)]
    if style == "json":
        print_json([one.to_json() for one in found])
    elif names:
        click.echo(render_explanations(found))
    else:
        click.echo(render_layers(found))


def explain_compiled(artifact: Path, patterns: Sequence[str]) -> list[Explanation]:
    """What `compile --explain` tells; a pattern that matches nothing is told on stderr, the model being compiled."""
    from bhpe_compile.errors import UsageError
    from bhpe_compile.report.explain import Explainer

    explainer: Explainer = Explainer.of(artifact)
    names: list[str] = []
    for pattern in patterns:
        try:
            names += explainer.match([pattern])
        except UsageError as error:
            LOG.warning(f"--explain: {error}")
    return [explainer.explain(name) for name in dict.fromkeys(names)]


PRECISION = {"int8": "8-bit", "float16": "float", "float32": "float"}
"""How a layer computes, in the words of the reports."""


def render_layers(found: Sequence[Explanation]) -> str:
    """One line a layer."""
    rows = []
    for one in found:
        main = one.calls[-1] if one.calls else None
        rows.append(
            (
                one.name,
                PRECISION.get(one.precision, one.precision),
                main.kind if main else "",
                (main.tile or "") if main else "",
                render_bytes(one.stored_bytes),
                render_count(one.macs),
            )
        )
    return render_table(("layer", "precision", "kernel", "tile", "weights", "MACs"), rows, right=(4, 5))


def render_explanations(found: Sequence[Explanation]) -> str:
    """A section for each."""
    return "\n\n".join(_section(one) for one in found)


def _section(one: Explanation) -> str:
    became = one.kind if not one.precision else f"{one.kind}, {PRECISION.get(one.precision, one.precision)}"
    pairs = [("became", became)]
    if one.products:
        pairs.append(("products by", one.products))
    if one.precision:
        pairs.append(("weights", f"{render_count(one.weights)} in {render_bytes(one.stored_bytes)}"))
        pairs.append(("MACs", render_count(one.macs)))
    for call in one.calls:
        tile = f", tile {call.tile}" if call.tile else ""
        pairs.append((f"step {call.step}", f"{call.kernel} ({call.kind}{tile})"))
        moved = f"reads {render_bytes(call.read_bytes)} and {render_bytes(call.constant_bytes)} of constants"
        pairs.append(("", f"{moved}, writes {render_bytes(call.written_bytes)}"))
    rows = [(one.pass_name, "applied" if one.applied else "refused", one.reason) for one in one.decisions]
    text = f"{one.name}\n{'=' * len(one.name)}\n{render_pairs(pairs)}"
    if rows:
        text += "\n\n" + render_table(("pass", "", "why"), rows)
    return text + f"\n\nnothing to do here: {', '.join(one.silent)}"
