"""Options that every command has: --quiet, --log-json, --print-config."""

from __future__ import annotations

import functools
from typing import Any

import click

from bhpe_compile.cli.configuration import print_configuration
from bhpe_compile.cli.log import FLAG, LOG

PRINT = "bhpe.print"


def _print(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[PRINT] = True
        context.resilient_parsing = True  # arguments may be missing: nothing is done with them


def _json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    LOG.json = LOG.json or value


def _quiet(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    LOG.quiet = value
    return value


def with_common_options(command: click.Command) -> click.Command:
    """`command` with the options every command has; one that knows --quiet gets it as before.

    Of a group (`data`) the commands in it get them.
    """
    if isinstance(command, click.Group):
        for one in command.commands.values():
            with_common_options(one)
        return command
    names = {name for parameter in command.params for name in parameter.opts}
    if "--quiet" in names:
        for parameter in command.params:
            if "--quiet" in parameter.opts:
                parameter.callback = _quiet
    else:
        command.params.append(
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_quiet,
                help="Print errors only.",
            )
        )
    command.params += [
        click.Option(
            [FLAG],
            is_flag=True,
            expose_value=False,
            callback=_json,
            help="Write progress and messages on stderr as JSON, an object a line.",
        ),
        click.Option(
            ["--print-config"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print,
            help="Print the value of every option and where it comes from, and do nothing.",
        ),
    ]
    inner = command.callback
    if inner is not None:

        @functools.wraps(inner)
        def outer(*arguments: Any, **values: Any) -> Any:
            context = click.get_current_context()
            if context.meta.get(PRINT):
                print_configuration(context, str(values.get("style")))
                return None
            try:
                return inner(*arguments, **values)
            except KeyboardInterrupt:  # click would print an empty line, which is no JSON
                raise click.Abort from None

        command.callback = outer
    return command
