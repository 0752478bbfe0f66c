"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from bhpe_compile.errors import UsageError
from bhpe_compile.reading import kind_of

if TYPE_CHECKING:
    from bhpe_compile.runtime.board import Board

F = TypeVar("F", bound=Callable[..., object])

MOST_THREADS = 64
"""What the C interface accepts."""


class OutwardOption(click.Option):
    """An option that starts a program or opens a connection (a board, a server, a camera).

    The command line says it. A file with options may not: it may lie in a folder that came from somebody else.
    """


def format_option(command: F) -> F:
    """--format table|json: how the data on stdout look."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="How the result is printed on stdout.",
    )(command)


def complete_network(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of networks with their presets, for the shell's completion."""
    from bhpe_compile.networks.registry import networks

    names = [f"{network.name}:{preset}" for network in networks() for preset in network.presets]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


NETWORK = click.option(
    "--network",
    metavar="NAME[:PRESET]|FILE.toml",
    help="Which network the checkpoint holds; `bhpe-compile networks` lists them.  [default: seen from its keys]",
    shell_complete=complete_network,
)


def network_option(*, preset: bool = False) -> Callable[[F], F]:
    """--network NAME[:PRESET]|FILE.toml, given as `network`, None where nothing is said; `preset`: and --preset."""

    def decorate(command: F) -> F:
        @wraps(command)
        def chosen(
            *arguments: Any, network: str | None, preset_name: str | None = None, **others: Any
        ) -> object:
            if preset_name is not None:
                from bhpe_compile.networks.registry import FIRST

                if network is not None:
                    raise UsageError(f"--preset is --network {FIRST}:PRESET: give one of them")
                network = f"{FIRST}:{preset_name}"
            return command(*arguments, network=network, **others)

        decorated: Callable[..., object] = chosen
        if preset:
            decorated = click.option(
                "--preset", "preset_name", metavar="NAME", help="The same as --network hand4whole:NAME."
            )(decorated)
        return cast(F, NETWORK(decorated))

    return decorate


def rounds_option(command: F) -> F:
    """--rounds N: how often something is timed."""
    return click.option(
        "--rounds",
        metavar="N",
        type=click.IntRange(1, 100_000),
        default=30,
        show_default=True,
        help="Runs to time.",
    )(command)


def page_output_option(command: F) -> F:
    """--output FILE: a report or a comparison goes there instead of stdout."""
    return click.option(
        "--output", "-o", type=click.Path(path_type=Path), help="Write there.  [default: stdout]"
    )(command)


def checkpoint_option(command: F) -> F:
    """--output FILE: what training ends with."""
    return click.option(
        "--output", "-o", required=True, type=click.Path(path_type=Path), help="The checkpoint to write."
    )(command)


def threads_option(command: F) -> F:
    """--threads N: the command is given a number of threads, one a core for 0."""
    return click.option(
        "--threads",
        metavar="N",
        type=click.IntRange(0, MOST_THREADS),
        default=1,
        show_default=True,
        callback=lambda context, parameter, value: value or available_cores(),
        help="Run on N threads, 0 for one a core; results are the same bits.",
    )(command)


def board_options(command: F) -> F:
    """--ssh, --rpc and what belongs to them: the command is given a `board`, or None for this machine."""

    @wraps(command)
    def with_board(
        *arguments: Any,
        ssh: str | None,
        ssh_config: Path | None,
        rpc: str | None,
        key: str | None,
        **others: Any,
    ) -> object:
        return command(*arguments, board=make_board(ssh, ssh_config, rpc, key), **others)

    decorated: Callable[..., object] = with_board
    for option in (
        click.option("--key", cls=OutwardOption, help="The name the board has at the tracker.  [with --rpc]"),
        click.option(
            "--rpc",
            cls=OutwardOption,
            metavar="HOST:PORT",
            help="Use a board that TVM's RPC tracker knows.",
        ),
        click.option(
            "--ssh-config",
            cls=OutwardOption,
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="ssh's configuration.  [with --ssh; default: ssh's own]",
        ),
        click.option(
            "--ssh",
            cls=OutwardOption,
            metavar="USER@HOST",
            help="Use a board that ssh reaches without a password; nothing needs to be installed there.",
        ),
    ):
        decorated = option(decorated)
    return cast(F, decorated)


def make_board(ssh: str | None, ssh_config: Path | None, rpc: str | None, key: str | None) -> Board | None:
    """The board that options name, None where they name none; UsageError where they contradict each other."""
    from bhpe_compile.runtime.board import RpcBoard, SshBoard

    if (rpc is None) != (key is None):
        raise UsageError("--rpc and --key belong together: the tracker, and the board's name there")
    if ssh is None and ssh_config is not None:
        raise UsageError("--ssh-config is for --ssh: add it")
    if ssh is not None and rpc is not None:
        raise UsageError("--ssh and --rpc are two ways to a board: give one of them")
    if ssh is not None:
        return SshBoard(ssh, None if ssh_config is None else existing_file(ssh_config, "ssh configuration"))
    return None if rpc is None or key is None else RpcBoard(rpc, key)


def available_cores() -> int:
    """Cores this process may use, at most as many as a model takes threads."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


def complete_target(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of targets for the shell's completion."""
    from bhpe_compile.targets import PRESETS

    return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]


def complete_pass(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of passes, and of the points between them, for the shell's completion."""
    from bhpe_compile.compiler.plan import POINTS, list_passes

    names = ["all", *POINTS, *(one.name for one in list_passes(imported=True))]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def existing(path: Path, what: str) -> Path:
    """`path` if something is there; otherwise a UsageError that names it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path}: no such {what}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    return path


def existing_file(path: Path, what: str) -> Path:
    """`path` if it is a regular file; otherwise a UsageError that names it."""
    kind = kind_of(existing(path, what).stat().st_mode)
    if kind is not None:
        raise UsageError(f"{path}: is {kind}, not a {what}")
    return path


def existing_checkpoint(path: Path, what: str = "model") -> Path:
    """`path` if it is a checkpoint by its content; else a UsageError or InputError, before anything heavy is
    imported."""
    from bhpe_compile.frontends.kinds import CHECKPOINT, require_door

    require_door(existing_file(path, what), CHECKPOINT)
    return path


def existing_subject(path: Path) -> Path:
    """`path` if it is a folder, which may be an artefact, or a checkpoint; raises as `existing_checkpoint`."""
    if existing(path, "model or artefact").is_dir():
        return path
    return existing_checkpoint(path, "model or artefact")
