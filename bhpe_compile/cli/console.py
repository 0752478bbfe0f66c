"""What goes to stderr: the resolved options, then progress. stdout is left to data.

A terminal gets a progress bar, anything else (a file, a CI log) one line a stage, or one line a pass with -v.
-q silences both; with --log-json each is a JSON object (see `log`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.tables import render_pairs

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


SECONDS_BETWEEN_LINES = 10
"""A long stage tells a file or a CI log so often where it is."""


class Console:
    """Progress of one command as a context manager; an instance is the observer that `compile_model` calls.

    `options` are held back until the model is read (the end of `first_stage`): a damaged input then costs
    exactly one line on stderr, the error.
    """

    def __init__(
        self, options: Iterable[tuple[str, str]], *, quiet: bool, verbose: bool, first_stage: str = "load"
    ) -> None:
        self._options: tuple[tuple[str, str], ...] = tuple(options)
        self._quiet = quiet
        self._verbose = verbose
        self._first_stage = first_stage
        self._stage = ""
        self._told = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Console:
        if not self._quiet and not LOG.json and sys.stderr.isatty():
            self._start_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, step: str, fraction: float | None) -> None:
        """Show that `step` of `stage` begins, `fraction` of the whole work (None: unknown) being done."""
        if self._quiet:
            return
        reading = stage == self._first_stage
        if self._options and not reading:
            self._print_options()
        if self._bar is not None:
            if self._task is None:  # a bar without a total shows that something goes on
                self._task = self._bar.add_task(
                    "", total=None if fraction is None else 1.0, stage="", step=""
                )
            self._bar.update(self._task, completed=fraction, stage=stage, step=step)
        elif not reading and (self._verbose or stage != self._stage or self._is_due()):
            self._told = time.monotonic()
            done = "" if fraction is None else f"{fraction:4.0%}  "
            line = f"{done}{stage}{': ' if step else ''}{step}"
            LOG.event("progress", line, stage=stage, step=step, fraction=fraction)
        self._stage = stage

    def _is_due(self) -> bool:
        """Whether a log has heard nothing for a while."""
        return time.monotonic() - self._told >= SECONDS_BETWEEN_LINES

    def _print_options(self) -> None:
        options, self._options = self._options, ()
        text = render_pairs(options)
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            LOG.event("options", text, options=dict(options))

    def _start_bar(self) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.fields[stage]:<9}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}"),
            console=RichConsole(stderr=True),
            transient=True,
        )
        self._bar.start()
