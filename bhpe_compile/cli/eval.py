"""`bhpe-compile eval MODEL...`: accuracy in millimetres, and the gate that holds a model to a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.accuracy import (
    data_options,
    max_drop_option,
    open_data,
    tell_batches,
)
from bhpe_compile.cli.against import against_options, evaluate_against
from bhpe_compile.cli.compiling import compile_options, given
from bhpe_compile.cli.console import Console
from bhpe_compile.cli.eval_tables import print_evaluation
from bhpe_compile.cli.files import write_files
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import complete_target, existing_subject
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.evaluate.evaluate import Evaluation, Row
    from bhpe_compile.evaluate.gate import Verdict
    from bhpe_compile.evaluate.jitter import Jitter
    from bhpe_compile.search.layers.stages import Source

DEFAULT_DROP = "2%"


@click.command("eval", short_help="Measure accuracy in millimetres, and refuse what got worse.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@data_options
@click.option(
    "--stages",
    is_flag=True,
    help="Four rows of a checkpoint: full precision, binarized, frozen (as it ships), compiled for this machine.",
)
@click.option(
    "--target",
    "-t",
    shell_complete=complete_target,
    help="The same, compiled for this CPU; another CPU's code runs under emulation.",
)
@compile_options()
@click.option(
    "--save-baseline",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the figures (of the last stage) to be compared with later.",
)
@click.option(
    "--baseline",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare with these figures, and fail where a metric is worse than --max-drop allows.",
)
@max_drop_option(f"[default: {DEFAULT_DROP} with --baseline]")
@click.option(
    "--jitter",
    "shaken",
    is_flag=True,
    help="Also measure how far the answers move under noise that nobody sees, and in films.",
)
@click.option(
    "--max-jitter",
    metavar="MM",
    type=click.FloatRange(0, min_open=True),
    help="The same, and fail where the mesh (of the last stage) moves by more under one level of noise.",
)
@against_options
@click.option(
    "--mean-pose/--no-mean-pose",
    default=True,
    show_default=True,
    help="A row of what an answer without looking is worth.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "md", "junit"]),
    default="table",
    show_default=True,
    help="How the result is printed on stdout.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
@click.option("-v", "--verbose", is_flag=True, help="Print every step of compiling.")
def eval_command(
    models: tuple[Path, ...],
    data: str,
    count: int | None,
    seed: int,
    body: Path | None,
    stages: bool,
    options: CompileOptions,
    save_baseline: Path | None,
    baseline: Path | None,
    max_drop: tuple[str, ...],
    shaken: bool,
    max_jitter: float | None,
    against: Path | None,
    images: tuple[Path, ...],
    max_moved: tuple[str, ...],
    mean_pose: bool,
    style: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure the accuracy of checkpoints and compiled models in millimetres.

    \b
    bhpe-compile eval dist/model-x86                                 a compiled model
    bhpe-compile eval model.pt --stages                              where accuracy is lost
    bhpe-compile eval model.pt --stages --scheme int8                the same, nothing binary
    bhpe-compile eval dist/model-x86 --save-baseline accuracy.json   remember
    bhpe-compile eval dist/model-x86 --baseline accuracy.json --max-drop 2%
    bhpe-compile eval model.pt dist/model-x86 --jitter               does it hold still?
    bhpe-compile eval dist/hand-x86 --against hand.onnx --images pictures/ --max-moved joints=2px

    Measured on the open set (people drawn from a seed, kept in the cache folder) or on a folder of people with ground
    truth. With a baseline, exit code 5 says that a metric got worse than allowed; --max-drop without a baseline
    compares the last stage of a checkpoint with the first. Millimetres of the open set and its body never belong
    beside published figures of other sets.

    With --against there is a figure for any network: how far its outputs are from the original's on pictures of yours.
    """
    if against is not None:
        evaluate_against(models, against, images, max_moved, style, quiet=quiet, verbose=verbose)
        return
    if images or max_moved:
        raise UsageError(f"{'--images' if images else '--max-moved'} is for --against FILE: add it")
    for path in models:
        existing_subject(path)
    from bhpe_compile.evaluate.data import EMULATED_COUNT
    from bhpe_compile.evaluate.evaluate import evaluate
    from bhpe_compile.evaluate.gate import Allowance, read_baseline, require, require_still
    from bhpe_compile.evaluate.metrics import JITTER
    from bhpe_compile.search.layers.stages import open_sources

    chosen = _stage_options(models, stages, options)
    allowances = [Allowance.parse(text) for text in max_drop or (DEFAULT_DROP,)]
    _check_request(models, chosen, save_baseline, baseline, bool(max_drop))
    reference = None if baseline is None else read_baseline(baseline)
    with (
        Console([], quiet=quiet, verbose=verbose) as console,
        open_sources(models, chosen, console, options.network) as sources,
    ):
        emulated = any(source.emulated for source in sources)
        few = emulated and count is None
        examples = open_data(data, EMULATED_COUNT if few else count, seed, body, console, at_most=few)
        subjects = [subject for source in sources for subject in source.subjects]
        if mean_pose:
            subjects.insert(0, _mean_row(examples, console))
        result = evaluate(subjects, examples, tell_batches(console, examples.count))
        jitters: list[Jitter] = []
        kept = reference is not None and JITTER.name in reference[1]
        if shaken or max_jitter is not None or kept:
            jitters = _jitters(subjects, examples, data, seed, console)
            result = with_jitter(result, jitters)
    gated = [result.row(source.last.name) for source in sources]
    verdicts: list[Verdict] = []
    if baseline is not None and reference is not None:
        verdicts = _against_baseline(baseline, reference, result, gated, allowances)
    elif max_drop:
        verdicts = _against_first(result, sources, allowances)
    if save_baseline is not None:
        _save(save_baseline, result, gated[0])
    note = (
        f"emulated, so only {result.data.count} people were evaluated; --count asks for more"
        if emulated
        else ""
    )
    if style == "table" and note:
        LOG.message(note)
    print_evaluation(result, sources, verdicts, jitters, seed, style, note)
    require(verdicts)
    if max_jitter is not None:
        require_still([one for one in jitters if one.name in {row.name for row in gated}], max_jitter)


def _stage_options(models: Sequence[Path], stages: bool, options: CompileOptions) -> CompileOptions | None:
    """How checkpoints are compiled, for this machine unless --target says another; None: they are not."""
    from bhpe_compile.targets import get_target

    if not stages and not options.target:
        if words := [word for word in given() if word != "--network"]:
            raise UsageError(f"{words[0]} says how a checkpoint is compiled: add --stages or --target")
        return None
    if all(path.is_dir() for path in models):
        raise UsageError("--stages and --target are for checkpoints; an artefact is compiled already")
    chosen = replace(options, target=options.target or "native")
    get_target(chosen.target)
    return chosen


def _check_request(
    models: Sequence[Path],
    options: CompileOptions | None,
    save_baseline: Path | None,
    baseline: Path | None,
    asked: bool,
) -> None:
    if save_baseline is not None and len(models) > 1:
        raise UsageError("--save-baseline keeps one model's figures: name one model")
    if asked and baseline is None and options is None:
        raise UsageError("--max-drop compares: name a --baseline, or ask for --stages of a checkpoint")


def _mean_row(examples: Any, console: Console) -> Any:
    from bhpe_compile.evaluate.mean_pose import PEOPLE, mean_pose

    return mean_pose(
        examples.bodies.body.source,
        told=lambda done: console("mean pose", f"{done} of {PEOPLE}", done / PEOPLE),
    )


def _jitters(subjects: Sequence[Any], examples: Any, data: str, seed: int, console: Console) -> list[Jitter]:
    """Of every row that looks at the picture."""
    from bhpe_compile.evaluate.data import open_films
    from bhpe_compile.evaluate.jitter import jitter

    films = open_films(examples, data, seed, lambda step, done: console("films", step, done))
    if films is None:
        LOG.warning(
            f"{data}: has no films, so movement from frame to frame is not measured; draw some with `data synth --film`"
        )
    total = examples.count + (0 if films is None else films.count)
    looking = [subject for subject in subjects if subject.executed]
    return jitter(
        looking,
        examples,
        films,
        seed,
        lambda done: console("jitter", f"{done} of {total} pictures", done / total),
    )


def with_jitter(result: Evaluation, jitters: Sequence[Jitter]) -> Evaluation:
    """The rows with their figure of that name."""
    found = {one.name: one.figure for one in jitters}
    return replace(result, rows=tuple(replace(row, jitter=found.get(row.name)) for row in result.rows))


def _against_baseline(
    path: Path,
    reference: tuple[dict[str, Any], dict[str, float]],
    result: Evaluation,
    rows: Sequence[Row],
    allowances: Any,
) -> list[Verdict]:
    from bhpe_compile.evaluate.gate import judge, require_same_data

    require_same_data(path, reference[0], vars(result.data))
    return [verdict for row in rows for verdict in judge(row.name, row.figures(), reference[1], allowances)]


def _against_first(result: Evaluation, sources: Sequence[Source], allowances: Any) -> list[Verdict]:
    """The last stage of every checkpoint with several against its first."""
    from bhpe_compile.evaluate.gate import judge

    verdicts = []
    for source in sources:
        if len(source.subjects) > 1:
            first, last = (result.row(source.subjects[i].name) for i in (0, -1))
            verdicts += judge(last.name, last.figures(), first.figures(), allowances)
    return verdicts


def _save(path: Path, result: Evaluation, row: Row) -> None:
    from bhpe_compile.evaluate.gate import baseline_bytes

    write_files({path: baseline_bytes(vars(result.data), row.name, row.figures())})
