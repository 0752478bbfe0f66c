"""The entry point: the group of commands, and how an exception becomes one line and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import click
from click.core import ParameterSource
from click_default_group import DefaultGroup

from bhpe_compile import __version__
from bhpe_compile.cli.bench import bench_command
from bhpe_compile.cli.cache import cache_command
from bhpe_compile.cli.common import with_common_options
from bhpe_compile.cli.compare import compare_command
from bhpe_compile.cli.compile import compile_command
from bhpe_compile.cli.configuration import KEY, find_file, read_configuration
from bhpe_compile.cli.data import data_command
from bhpe_compile.cli.distill import distill_command
from bhpe_compile.cli.eval import eval_command
from bhpe_compile.cli.example import example_command
from bhpe_compile.cli.explain import explain_command
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.networks import networks_command
from bhpe_compile.cli.passes import passes_command
from bhpe_compile.cli.report import report_command
from bhpe_compile.cli.run import run_command
from bhpe_compile.cli.sensitivity import sensitivity_command
from bhpe_compile.cli.serve import serve_command
from bhpe_compile.cli.signals import interruptible
from bhpe_compile.cli.targets import targets_command
from bhpe_compile.cli.train import train_command
from bhpe_compile.cli.tune import tune_command
from bhpe_compile.cli.verify import verify_command
from bhpe_compile.errors import BhpeError, UsageError

EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

UNWRITABLE = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What writing to a full disk or standard output ends with."""

TRACEBACK_VARIABLE = "BHPE_TRACEBACK"


class Commands(DefaultGroup):  # type: ignore[misc] # the package has no types
    """The commands; a word that is none of them is the model to compile."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or `compile`. UsageError for a word that is nothing but nearly a command."""
        if cmd_name not in self.commands and cmd_name.isidentifier() and not Path(cmd_name).exists():
            near = get_close_matches(cmd_name, self.commands, 1, 0.6)
            if near:
                raise UsageError(f"{cmd_name}: no such model or command; did you mean {near[0]}?")
        command: click.Command | None = super().get_command(ctx, cmd_name)
        return command


@click.group(
    cls=Commands,
    default="compile",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 internal error, 2 usage, 3 unsupported or damaged input, "
    "4 verification failed, 5 budget missed, 6 tool chain missing, 130 interrupted.",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with options.  [default: the nearest bhpe.toml, or pyproject.toml with [tool.bhpe]]",
)
@click.option("--no-config", is_flag=True, help="Read no file with options.")
@click.version_option(__version__, prog_name="bhpe-compile")
@click.pass_context
def cli(context: click.Context, config: Path | None, no_config: bool) -> None:
    """Compile a PyTorch pose network into a small library for one CPU.

    \b
    bhpe-compile example demo                              small trained models and pictures to try
    bhpe-compile demo/model-bidrn.pt --target x86          compile: writes dist/model-bidrn-x86/
    bhpe-compile run dist/model-bidrn-x86 demo/drawn.jpg   the pose as JSON
    bhpe-compile bench dist/model-bidrn-x86 --per-layer    how long it takes here

    Networks are described by packages: `bhpe-compile networks` lists those that are there.

    A word that is no command is taken as the model to compile. The result is a folder with a shared library,
    its weights, a C header and a manifest: it runs without Python, PyTorch or a compiler on the board.
    """
    if no_config or context.resilient_parsing:
        return
    try:
        found = read_configuration(cli, config if config is not None else find_file(Path.cwd()))
    except FileNotFoundError:  # the working folder is gone: nothing is found there
        found = read_configuration(cli, None)
    context.meta[KEY] = found
    context.default_map = found.values


for command in (
    bench_command,
    cache_command,
    compare_command,
    compile_command,
    distill_command,
    data_command,
    eval_command,
    example_command,
    explain_command,
    networks_command,
    passes_command,
    report_command,
    run_command,
    sensitivity_command,
    serve_command,
    targets_command,
    train_command,
    tune_command,
    verify_command,
):
    cli.add_command(with_common_options(command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every failure is one `error:` line on stderr."""
    if not sys.warnoptions:
        warnings.simplefilter(
            "ignore"
        )  # what libraries tell their developers helps no user; -W brings it back
    words = list(sys.argv[1:] if arguments is None else arguments)
    LOG.start(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files that are not UTF-8
    try:
        with interruptible():
            code = cli.main(args=words, prog_name="bhpe-compile", standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        return _fail(_usage_text(error), EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _fail(f"interrupted; {LOG.remains}", EXIT_INTERRUPTED)
    except BhpeError as error:
        return _fail(_with_notes(str(error), error), error.exit_code)
    except BrokenPipeError:
        _discard_stdout()  # the reader (`| head`) has gone
        return EXIT_INTERNAL
    except OSError as error:
        if error.errno not in UNWRITABLE:
            return _internal(error)
        _discard_stdout()
        place = error.filename or f"standard output or the temporary folder ({temporary_folder()})"
        return _fail(f"{place}: cannot be written ({error.strerror})", EXIT_USAGE)
    except Exception as error:  # the boundary of the process: a defect of ours becomes one line, too
        return _internal(error)
    return code if isinstance(code, int) else 0


def _internal(error: Exception) -> int:
    what = _with_notes(f"{type(error).__name__}: {error}".rstrip(": "), error)
    return _fail(
        f"internal error, {what} (please report it; {TRACEBACK_VARIABLE}=1 shows where it happened)",
        EXIT_INTERNAL,
    )


def temporary_folder() -> str:
    """Where temporary files go, for people."""
    import tempfile

    try:
        return tempfile.gettempdir()
    except OSError:
        return "none can be written; set TMPDIR"


def _discard_stdout() -> None:
    """What is still to be written would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: str, code: int) -> int:
    """Print the one line of a failure, behind its traceback when the user asked for that."""
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exc()
    line = " ".join(text.split())
    LOG.event("error", f"error: {line}", text=line, exit_code=code)
    return code


def _with_notes(text: str, error: Exception) -> str:
    """`text` and what was noted on the error's way: the pass, the node."""
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _usage_text(error: click.ClickException) -> str:
    """What click complains about, with the command whose help explains it."""
    text = error.format_message()
    context = getattr(error, "ctx", None)
    name = getattr(getattr(error, "param", None), "name", None) or ""
    if context is not None and context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
        text = f"{text.rstrip('.')}, in {context.find_root().meta[KEY].path}"
    return f"{text} (see '{context.command_path} --help')" if context is not None else text


if __name__ == "__main__":
    sys.exit(main())
