"""Messages and progress on stderr: lines for people, or one JSON object a line with --log-json.

{"event": "message", "text": ...}
{"event": "progress", "stage": ..., "step": ..., "fraction": ...}
{"event": "options", "options": {...}}
{"event": "error", "text": ..., "exit_code": ...}
"""

from __future__ import annotations

import json
from typing import Any

import click

from bhpe_compile.text import printable_lines

FLAG = "--log-json"

NOTHING = "nothing was written"


class Log:
    """Where messages go; one for the process, set anew by every `main`."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.remains = NOTHING
        """What Ctrl-C leaves behind, in words; a command that writes before its end sets it."""

    def start(self, arguments: list[str]) -> None:
        """Begin a command; the flag is looked for here too, so that usage errors are JSON as well."""
        self.json = FLAG in arguments
        self.quiet = False
        self.remains = NOTHING

    def message(self, text: str) -> None:
        """Something the user should know; --quiet silences it."""
        if not self.quiet:
            self.event("message", text, text=text)

    def warning(self, text: str) -> None:
        """Something the user should know even with --quiet."""
        self.event("message", text, text=text)

    def event(self, kind: str, line: str, **facts: Any) -> None:
        """`line` for people, or the event with its facts."""
        click.echo(json.dumps({"event": kind, **facts}) if self.json else printable_lines(line), err=True)


LOG = Log()
"""The log of this process."""
