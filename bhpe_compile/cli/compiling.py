"""The options that say what compiling makes of a model, for every command that compiles one or foretells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from bhpe_compile.cli.agreement import scheme_was_said
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import NETWORK, existing_file
from bhpe_compile.compiler.options import ARRAYS, FLOAT, INT8, SCHEMES, CompileOptions, is_former_int8
from bhpe_compile.errors import UsageError
from bhpe_compile.files import find_pictures

F = TypeVar("F", bound=Callable[..., object])

OPTIONS: dict[str, Callable[[Any], Any]] = {
    "network": NETWORK,
    "scheme": click.option(
        "--scheme",
        type=click.Choice(SCHEMES),
        default="bidrn",
        show_default=True,
        help="bidrn, bnn, reactnet: which layers become binary, and how. int8: none does, convolutions compute with 8 "
        "bits. float: everything computes in float32.",
    ),
    "keep_float": click.option(
        "--keep-float",
        multiple=True,
        metavar="GLOB",
        help="Layers that do not become binary, by name: 'backbone.layer4.*'; they are 8-bit, or float with --dense "
        "fp32.  [repeatable]",
    ),
    "binarize": click.option(
        "--binarize",
        multiple=True,
        metavar="GLOB",
        help="Layers that become binary although the scheme would leave them.  [repeatable]",
    ),
    "residual_tap": click.option(
        "--residual-tap",
        type=click.Choice(["after", "before"]),
        default="after",
        show_default=True,
        help="Where the residual of a binary layer is taken: after or before its clipping.",
    ),
    "dense": click.option(
        "--dense",
        type=click.Choice(["int8", "fp32"]),
        help="How convolutions that are not binary compute.  [default: int8; fp32 with --scheme float]",
    ),
    "pair_safe": click.option(
        "--pair-safe",
        is_flag=True,
        help="8-bit weights in steps that let AVX2 multiply bytes, in pairs: faster with --target x86; weights have "
        "about 2 dB more noise, on every target.",
    ),
    "residual": click.option(
        "--residual",
        type=click.Choice(["fp16", "fp32"]),
        default="fp16",
        show_default=True,
        help="How residuals between binary layers are kept in memory.",
    ),
    "calibrate": click.option(
        "--calibrate",
        multiple=True,
        metavar="PICTURES",
        type=click.Path(path_type=Path),
        help="A picture, or a folder of them, that shows what 8-bit layers will read; for an ONNX file also an .npz of "
        "its inputs.  [repeatable; default: what the model was trained with, or else an embedded photograph]",
    ),
    "shapes": click.option(
        "--shape",
        "shapes",
        multiple=True,
        metavar="NAME=1,3,H,W",
        help="The size of an input that an ONNX file leaves open.  [repeatable]",
    ),
    "tiles": click.option(
        "--tiles",
        type=click.Path(path_type=Path),
        help="A table of register tiles that `bhpe-compile tune` wrote.  [default: the target's]",
    ),
    "cache": click.option(
        "--cache/--no-cache",
        default=True,
        show_default=True,
        help="Use machine code that an earlier compilation made; the result is the same.",
    ),
}
"""Every such option, by the name of its parameter."""

BINARIZING = ("network", "scheme", "keep_float", "binarize", "residual_tap")
"""Those that decide what is made binary, and how."""


def compile_options(*names: str) -> Callable[[F], F]:
    """Options by the names of `OPTIONS`; none: all. The command gets them as one `CompileOptions`, called `options`.

    Its target is the command's --target, "" where there is none.
    """
    chosen = names or tuple(OPTIONS)

    def decorate(command: F) -> F:
        @wraps(command)
        def with_options(*arguments: Any, **values: Any) -> object:
            said = {name: values.pop(name) for name in chosen}
            return command(*arguments, options=make_options(values.pop("target", None), said), **values)

        decorated: Callable[..., object] = with_options
        for name in reversed(chosen):
            decorated = OPTIONS[name](decorated)
        return cast(F, decorated)

    return decorate


def make_options(target: str | None, said: dict[str, Any]) -> CompileOptions:
    """What the words of a command line ask for; UsageError for what contradicts itself or does not exist."""
    if is_former_int8(said["scheme"], said.get("dense")):
        LOG.message(
            "note: --scheme float --dense int8 is --scheme int8 now; the next version knows that only"
        )
    if said.get("calibrate"):
        said["calibrate"] = find_pictures(said["calibrate"], LOG.message)
    if said.get("tiles") is not None:
        said["tiles"] = existing_file(said["tiles"], "table of tiles")
    if said.get("shapes"):
        from bhpe_compile.frontends.shapes import parse_shape

        said["shapes"] = tuple(parse_shape(text) for text in said["shapes"])
    options = CompileOptions(target=target or "", **said)
    if options.calibrate and not options.computes_int8:
        wrong = "--scheme float" if options.scheme == FLOAT else "--dense fp32"
        raise UsageError(f"--calibrate is for 8-bit layers, {wrong} has none: leave one of them out")
    return options


def given(*names: str) -> tuple[str, ...]:
    """Those of the options (by the names of `OPTIONS`; none: all) that stand on the command line, with their dashes."""
    context = click.get_current_context()
    words = {one.name: one.opts[0] for one in context.command.params}
    return tuple(
        words[name]
        for name in names or OPTIONS
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    )


def for_door(options: CompileOptions, imported: bool) -> CompileOptions:
    """The options for a checkpoint, or for an ONNX file, whose scheme is int8 where nothing else is said.

    UsageError for options that are for the other.
    """
    if not imported:
        arrays = next((path for path in options.calibrate if path.suffix == ARRAYS), None)
        if arrays is not None:
            raise UsageError(f"--calibrate {arrays}: arrays are for ONNX files; name pictures")
        return options
    kept = () if options.is_binary and scheme_was_said() else ("keep_float",)
    wrong = given(*kept, "binarize", "residual_tap", "residual")
    if wrong:
        raise UsageError(f"{wrong[0]} is for checkpoints: leave it out")
    if scheme_was_said():
        return replace(options, residual="fp32")
    return replace(options, scheme=FLOAT if options.dense == "fp32" else INT8)
