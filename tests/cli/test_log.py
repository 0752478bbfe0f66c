"""--log-json: every line of stderr is one object; --quiet and NO_COLOR are kept."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from bhpe_compile.cli.console import Console
from bhpe_compile.cli.log import LOG
from bhpe_compile.cli.main import cli, main
from tests.command import COMMAND, environment, every_command

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-9]|9[0-7]|4[0-8])(?:;\d+)*m")


@pytest.fixture(autouse=True)
def restored() -> None:
    """Every test begins as a command does."""
    LOG.start([])


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_progress_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.start(["--log-json"])
    with Console([("target", "x86")], quiet=False, verbose=False) as console:
        console("load", "", 0.0)
        console("fold", "", 0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert objects(err) == [
        {"event": "options", "options": {"target": "x86"}},
        {"event": "progress", "stage": "fold", "step": "", "fraction": 0.5},
    ]


@pytest.mark.parametrize("arguments", [["verify", "none"], ["--nonsense"], ["compile", "--nonsense"]])
def test_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--log-json"]) == 2
    (only,) = objects(capsys.readouterr().err)
    assert (only["event"], only["exit_code"]) == ("error", 2)
    assert main(arguments) == 2  # and the next command speaks plainly again
    assert capsys.readouterr().err.startswith("error: ")


def test_messages_and_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    LOG.message("one")
    LOG.quiet = True
    LOG.message("two")
    LOG.warning("three")
    assert capsys.readouterr().err == "one\nthree\n"


def test_every_command_has_the_common_options() -> None:
    for words, command in every_command(cli):
        names = {word for parameter in command.params for word in parameter.opts}
        assert {"--quiet", "-q", "--log-json", "--print-config"} <= names, words


@pytest.mark.parametrize("no_colour", [False, True])
def test_no_color(no_colour: bool) -> None:
    """A bar on a real pseudo terminal, without colours when they are not wanted."""
    script = (
        "from bhpe_compile.cli.console import Console\n"
        "with Console([], quiet=False, verbose=False) as console:\n"
        "    console('fold', 'fold-batch-norm', 0.5)\n"
    )
    reader, writer = pty.openpty()
    more = {"NO_COLOR": "1"} if no_colour else {}
    clean = {
        k: v for k, v in environment(TERM="xterm-256color", **more).items() if no_colour or k != "NO_COLOR"
    }
    done = subprocess.run([COMMAND[0], "-c", script], env=clean, stderr=writer, cwd=Path.cwd(), check=True)
    os.close(writer)
    shown = b""
    while True:
        try:
            piece = os.read(reader, 4096)
        except OSError:  # the writer's end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(reader)
    assert done.returncode == 0
    assert "━".encode() in shown
    assert bool(COLOUR.search(shown)) != no_colour
