"""`bhpe-compile MODEL --target T`: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.accuracy import max_drop_option
from bhpe_compile.cli.agreement import scheme_was_said, warn_imported, warn_moved, warn_untrained
from bhpe_compile.cli.budget import FEW, compile_in_budget, render_within, within_json
from bhpe_compile.cli.compile_tables import describe_model, describe_options, plan, render_result, summarise
from bhpe_compile.cli.compiling import compile_options, for_door
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.distilling import (
    check_distill,
    distill_first,
    distilled_json,
    render_before_after,
)
from bhpe_compile.cli.dump import DumpOptions, dump_options, report_stop
from bhpe_compile.cli.explain import explain_compiled, render_explanations
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import complete_target, existing_file
from bhpe_compile.cli.passes import print_passes
from bhpe_compile.cli.tables import print_json
from bhpe_compile.cli.verify import render_verification, require_verified, run_verification
from bhpe_compile.compiler.options import (
    FORMS,
    STATIC,
    WEB,
    WHEEL,
    CompileOptions,
    default_output,
)
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    pass

FORMER_FORMATS = (STATIC, WHEEL)
"""What --format said before there was --form."""


@click.command("compile", short_help="Compile a model for one CPU (the word may be left out).")
@click.argument("model", metavar="MODEL", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target",
    "-t",
    shell_complete=complete_target,
    help="The CPU to compile for: x86, native, arm, ...; `bhpe-compile targets` lists them.  [required]",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The folder to write.  [default: dist/<model>-<target>]",
)
@click.option("--force", is_flag=True, help="Replace the output even if it is no folder of ours.")
@compile_options()
@click.option(
    "--verify/--no-verify",
    default=False,
    show_default=True,
    help="Check the result as `bhpe-compile verify` does.",
)
@max_drop_option("Layers that cost most stay in 8 bits until it holds.")
@click.option(
    "--accuracy-data",
    metavar="DIR|synth",
    default="synth",
    show_default=True,
    help="With --max-drop: people with ground truth to measure on, as in `eval --data`.",
)
@click.option(
    "--accuracy-count",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=FEW,
    show_default=True,
    help="With --max-drop: how many of them, at most.",
)
@click.option(
    "--accuracy-body",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --max-drop: a body in the SMPL-X layout, as in `eval --body`.",
)
@click.option(
    "--distill",
    "distill_pictures",
    metavar="DIR|synth",
    help="Train the binary form first, on these pictures and without labels, then compile it. The same command goes on "
    "where it was stopped.",
)
@click.option(
    "--minutes",
    type=float,
    metavar="N",
    help="With --distill: how long to train, about.  [default: as long as `distill` does]",
)
@click.option(
    "--explain",
    multiple=True,
    metavar="GLOB",
    help="Say of these layers what every pass decided and why, as `explain` does.  [repeatable]",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(FORMS),
    help="What is built. folder: always. static: libmodel.a in it, to link into a program, with a CMake package. "
    "wheel: a Python package beside it, which needs NumPy alone. web: a package for browsers and Node in it, "
    "with a page that `serve` shows (wasm32).  [repeatable]",
)
@click.option(
    "--embed-weights", is_flag=True, help="Put the weights into the library as well: bhpe_create_embedded."
)
@dump_options
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", *FORMER_FORMATS]),
    metavar="[table|json]",
    default="table",
    show_default=True,
    help="How the result is printed on stdout.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print every pass, and each layer that is not binary with the reason.",
)
def compile_command(
    model: Path | None,
    options: CompileOptions,
    output: Path | None,
    force: bool,
    verify: bool,
    distill_pictures: str | None,
    minutes: float | None,
    explain: tuple[str, ...],
    forms: tuple[str, ...],
    embed_weights: bool,
    dump: DumpOptions,
    max_drop: tuple[str, ...],
    accuracy_data: str,
    accuracy_count: int,
    accuracy_body: Path | None,
    dry_run: bool,
    style: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compile MODEL for one CPU.

    MODEL is an ONNX file of any convolutional network, or a checkpoint of a network that `bhpe-compile networks` lists:
    as its authors publish it, or a .pt or .safetensors of ours, in full precision or already binary. The word `compile`
    may be left out.

    \b
    bhpe-compile network.onnx --target arm --calibrate pictures/ --network network.toml
    bhpe-compile model.pt --target x86 --scheme int8        8 bits: accurate without training
    bhpe-compile model.pt --target x86 --distill pictures/  binary: trains it first, without labels
    bhpe-compile model-bidrn.pt --target arm -o board/pose  binary: a network that `distill` trained
    bhpe-compile model-bidrn.pt --target arm --form wheel

    Written is a folder: model.so and weights.bin for the device, bhpe.h for C programs, manifest.json with
    checksums, model.onnx and report.json to look into. Compiling twice gives the same bytes.

    A network that was not trained in its binary form loses its accuracy when it is made binary here: weights
    are taken over, not trained again. That is measured and said; --scheme bidrn says that it is meant. --max-drop
    keeps layers in 8 bits until the loss is allowed; it exits with 5, and writes nothing, where that is not enough.
    """
    from bhpe_compile.artifact.web import check_web_family
    from bhpe_compile.artifact.wheel import check_family, write_wheel
    from bhpe_compile.check.inspect import Stopped
    from bhpe_compile.compiler.compile import compile_model
    from bhpe_compile.compiler.doors import door_of, kind_of_compilation
    from bhpe_compile.compiler.pipeline import Compilation
    from bhpe_compile.frontends.kinds import ONNX
    from bhpe_compile.targets import get_target

    if dump.print_passes:
        print_passes(style, requires=True)
        return

    if model is None:  # of all options, only --print-passes goes without
        raise click.MissingParameter(
            "", click.get_current_context(), param_hint="'MODEL'", param_type="argument"
        )
    existing_file(model, "model or command")
    if not options.target:
        raise UsageError("--target is missing: say the CPU to compile for; `bhpe-compile targets` lists them")
    resolved = get_target(options.target)
    imported = door_of(model) == ONNX and distill_pictures is None  # a student is a checkpoint
    options = for_door(options, imported)
    kind = Compilation if distill_pictures is not None else kind_of_compilation(model)
    if style in FORMER_FORMATS:
        LOG.message(f"note: --format {style} is --form {style} now; the next version knows that only")
        forms, style = (*forms, style), "table"
    if WHEEL in forms:
        check_family(resolved.family)
    if WEB in forms:
        check_web_family(resolved.family)
    destination = output if output is not None else default_output(model, resolved.name)
    options = replace(options, forms=forms, embed_weights=embed_weights)
    dump.check(options, imported)
    dumper = dump.dumper(destination)
    if max_drop and dumper is not None:
        raise UsageError("--max-drop compiles several times; leave out the options that dump or stop")
    if minutes is not None and distill_pictures is None:
        raise UsageError("--minutes says how long to distill: add --distill PICTURES")
    if distill_pictures is not None:
        check_distill(distill_pictures, minutes, options, bool(max_drop))
    if imported and max_drop:
        raise UsageError(f"--max-drop is for checkpoints, {model} is an ONNX file: leave it out")
    if dry_run:
        from bhpe_compile.evaluate.gate import Allowance

        for text in max_drop:
            Allowance.parse(text)
        compilation = kind(options, model)
        compilation.rehearse(destination, force)
        options = compilation.options
        described = describe_options(model, destination, resolved.summary, options, imported)
        if imported:
            plan(described, options, style, imported=True)
            return
        loaded = compilation.loaded
        plan([*described, *describe_model(loaded)], options, style)
        if options.is_binary and loaded.binarization is None and distill_pictures is None:
            warn_untrained(model, options, {}, meant=bool(max_drop) or scheme_was_said())
        return
    described = describe_options(model, destination, resolved.summary, options, imported)
    within = distilled = None
    source, teacher = model, None
    watched: tuple[Path, ...] = ()
    if distill_pictures is not None:
        kind(options, model).check(destination, force)
        distilled = distill_first(model, destination, options, distill_pictures, minutes, quiet=quiet)
        source, teacher, watched = distilled.student, distilled.teacher, distilled.pictures
        options = replace(options, keep_float=(), shapes=())  # the student was made with them
        if teacher.network.carried:
            options = replace(options, network=None)  # and carries its description
        LOG.remains = f"{distilled.student} is there, nothing else"
    try:
        with Console(described, quiet=quiet, verbose=verbose) as console:
            if max_drop:
                people = (accuracy_data, accuracy_count, accuracy_body)
                within = compile_in_budget(model, destination, options, max_drop, people, force, console)
                result = within.result
            else:
                result = compile_model(
                    source,
                    destination,
                    options,
                    force=force,
                    observer=console,
                    inspector=dumper,
                    teacher=teacher,
                    watched=watched,
                    kind=kind,
                )
    except Stopped as stopped:
        report_stop(stopped, style, quiet)
        return
    LOG.remains = f"{destination} had been written before"
    if result.untrained and imported:
        warn_imported(model, result.report["against_file"])
    elif result.untrained:
        warn_untrained(model, options, result.agreement, meant=bool(max_drop) or scheme_was_said())
    elif result.moved_much:
        warn_moved(model, options, result.moved_much)
    for note in result.notes:
        if not note.applied and (verbose or not note.site):
            LOG.message(": ".join(word for word in (note.pass_name, note.site, note.reason) if word))
    verified = run_verification(destination, quiet=quiet, verbose=verbose) if verify else None
    explained = explain_compiled(destination, explain) if explain else None
    wheel = write_wheel(destination, destination.parent) if WHEEL in forms else None
    if style == "json":
        extra: dict[str, Any] = {} if wheel is None else {"wheel": str(wheel)}
        extra |= {} if explained is None else {"explain": [one.to_json() for one in explained]}
        extra |= {"accuracy": within_json(within)} if within else {}
        extra |= distilled_json(distilled) if distilled else {}
        print_json(summarise(result) | ({"verification": verified.to_json()} if verified else {}) | extra)
    elif not quiet:
        click.echo(render_result(result))
        if distilled:
            click.echo("\n" + render_before_after(distilled.before, result.agreement))
        if within:
            click.echo("\n" + render_within(within))
        if verified:
            click.echo("\n" + render_verification(verified, verbose=verbose))
        if wheel is not None:
            click.echo(f"\nwheel  {wheel}")
    if explained and style != "json":
        click.echo(("" if quiet else "\n") + render_explanations(explained))
    if verified:
        require_verified(destination, verified)
