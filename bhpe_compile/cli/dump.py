"""The options of `compile` that look into the compiler: --dump-ir-after, --dump-dir, --stop-after, --print-passes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.options import complete_pass
from bhpe_compile.cli.tables import print_json
from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.check.inspect import Dumper, Stopped
    from bhpe_compile.compiler.options import CompileOptions

OPTIONS = (
    click.option(
        "--dump-ir-after",
        multiple=True,
        metavar="PASS",
        shell_complete=complete_pass,
        help="Write the graph as it stands after PASS, a readable file each; `all` for every pass.  [repeatable]",
    ),
    click.option(
        "--dump-dir",
        type=click.Path(path_type=Path),
        help="The folder for --dump-ir-after and --stop-after.  [default: the output's name and -ir]",
    ),
    click.option("--dump-onnx", is_flag=True, help="Write ONNX graphs as .onnx files as well."),
    click.option(
        "--stop-after",
        metavar="PASS",
        shell_complete=complete_pass,
        help="Stop behind PASS: write its graph as --dump-ir-after does, and no artefact.",
    ),
    click.option(
        "--print-passes", is_flag=True, help="Print the passes with what each requires and ensures."
    ),
)


@dataclass(frozen=True)
class DumpOptions:
    """What was asked for."""

    after: tuple[str, ...]
    folder: Path | None
    onnx: bool
    stop: str | None
    print_passes: bool

    def check(self, options: CompileOptions, imported: bool = False) -> None:
        """UsageError for unknown passes, with near names, and for options that ask for nothing."""
        from bhpe_compile.check.inspect.dumper import ALL
        from bhpe_compile.compiler.plan import check_points

        wanted = tuple(name for name in self.after if name != ALL)
        check_points((*wanted, *((self.stop,) if self.stop is not None else ())), options, imported)
        if not self.after and self.stop is None and (self.folder is not None or self.onnx):
            raise UsageError(
                "--dump-dir and --dump-onnx are for --dump-ir-after or --stop-after: name a pass"
            )

    def dumper(self, output: Path) -> Dumper | None:
        """What writes it, or None when nothing was asked for."""
        from bhpe_compile.check.inspect import Dumper

        if not self.after and self.stop is None:
            return None
        folder = self.folder if self.folder is not None else output.with_name(f"{output.name}-ir")
        LOG.remains = f"no artefact was written; graphs dumped before are in {folder}"
        return Dumper(folder, self.after, stop=self.stop, onnx=self.onnx)


def dump_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to `command`, which gets them as `dump`."""

    @functools.wraps(command)
    def wrapped(
        dump_ir_after: tuple[str, ...],
        dump_dir: Path | None,
        dump_onnx: bool,
        stop_after: str | None,
        print_passes: bool,
        **others: Any,
    ) -> None:
        command(dump=DumpOptions(dump_ir_after, dump_dir, dump_onnx, stop_after, print_passes), **others)

    decorated: Callable[..., None] = wrapped
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated


def report_stop(stopped: Stopped, style: str, quiet: bool) -> None:
    """What was written; stdout carries the files' names."""
    if style == "json":
        print_json({"stopped_after": stopped.point, "files": [str(path) for path in stopped.files]})
        return
    if not quiet:
        LOG.message(f"stopped after {stopped.point}; no artefact was written, only")
    for path in stopped.files:
        click.echo(path)
