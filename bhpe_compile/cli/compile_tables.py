"""What `compile` prints: the options it goes by, its plan, and what was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.tables import print_json, render_bytes, render_count, render_pairs, render_table
from bhpe_compile.compiler.options import ARRAYS, FOLDER, CompileOptions

if TYPE_CHECKING:
    from bhpe_compile.compiler.result import CompileResult
    from bhpe_compile.frontends.imported import Imported


def describe_options(
    model: Path, output: Path, target_summary: str, options: CompileOptions, imported: bool
) -> list[tuple[str, str]]:
    """The options after defaults are filled in, as they are printed first."""
    pairs = [
        ("model", str(model)),
        ("target", f"{options.target} ({target_summary})"),
        ("output", str(output)),
        ("scheme", options.scheme),
    ]
    if options.keep_float:
        pairs.append(("keep float", ", ".join(options.keep_float)))
    if options.binarize:
        pairs.append(("binarize", ", ".join(options.binarize)))
    if options.tiles is not None:
        pairs.append(("tiles", str(options.tiles)))
    if options.is_binary and not imported:
        pairs.append(("residual tap", options.residual_tap))
        pairs.append(("residuals", options.residual))
    pairs.append(("dense layers", describe_dense(options, imported)))
    if options.forms:
        pairs.append(("forms", ", ".join(dict.fromkeys((FOLDER, *options.forms)))))
    return pairs


def describe_dense(options: CompileOptions, imported: bool) -> str:
    """How convolutions that are not binary compute, and what 8-bit ones were calibrated on."""
    if not options.computes_int8:
        return "fp32"
    count = len(options.calibrate)
    if count:
        arrays = any(path.suffix == ARRAYS for path in options.calibrate)
        word = "file" if arrays else "picture"
        return f"int8, calibrated on {count} {word}{'s' if count > 1 else ''}"
    if imported:
        return "int8, with the scales of the file"
    return "int8, ranges of training or else of the embedded photograph; --calibrate names pictures of yours"


def describe_model(loaded: Imported) -> list[tuple[str, str]]:
    """What a checkpoint holds."""
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    return [
        ("preset", loaded.preset),
        ("parameters", render_count(parameters)),
        ("form", "full precision" if loaded.binarization is None else "binary"),
    ]


def plan(
    described: list[tuple[str, str]], options: CompileOptions, style: str, *, imported: bool = False
) -> None:
    """Print the resolved options and the passes that would run."""
    from bhpe_compile.compiler.plan import list_passes

    passes = [(one.stage, one.name, one.summary) for one in list_passes(options, imported)]
    if style == "json":
        print_json(
            {
                "options": dict(described),
                "passes": [{"stage": stage, "name": name} for stage, name, _ in passes],
            }
        )
        return
    click.echo(render_pairs(described))
    click.echo()
    click.echo(render_table(("stage", "pass", "what it does"), passes))


def summarise(result: CompileResult) -> dict[str, Any]:
    """The result for programs; layer by layer it stands in the folder's report.json."""
    totals = {key: value for key, value in result.report.items() if key in ("weights", "macs", "bytes")}
    return {
        "output": str(result.output),
        "files": file_sizes(result.output),
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
        "code": dict(zip(("kept", "parts"), result.code, strict=True)),
        **{key: value for key, value in result.report.items() if key in ("trained_binary", "agreement")},
        **totals,
    }


def file_sizes(folder: Path) -> dict[str, int]:
    """Name and size in bytes of each file of an artefact."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def render_result(result: CompileResult) -> str:
    """The table printed last: counts, files, seconds."""
    weights, macs = result.report["weights"], result.report["macs"]
    floats = weights["float16"] + weights.get("float32", 0)
    counts = [
        ("weights", *map(render_count, (weights["binary"], weights["int8"], floats))),
        ("multiply-accumulates", *(render_count(macs[kind]) for kind in ("binary", "int8", "float"))),
    ]
    moved = [(kind, str(movement)) for kind, movement in result.agreement.items()]
    files = [(name, render_bytes(size)) for name, size in file_sizes(result.output).items()]
    seconds = [(stage, f"{spent:.1f}") for stage, spent in result.seconds.items()]
    seconds.append(("all", f"{sum(result.seconds.values()):.1f}"))
    kept, parts = result.code
    pictures = max((movement.pictures for movement in result.agreement.values()), default=0)
    beside = f"against full precision, {pictures} pictures"
    return "\n\n".join(
        [
            render_table(("", "binary", "8-bit", "float"), counts, right=(1, 2, 3)),
            *([render_table((beside, "moves by"), moved, right=(1,))] if moved else []),
            render_table((f"{result.output}/", "size"), files, right=(1,)),
            render_table(("stage", "seconds"), seconds, right=(1,)),
            *([f"machine code: {kept} of {parts} parts kept from before"] if kept else []),
        ]
    )
