"""`--help` answers at once, because nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess

import pytest

from bhpe_compile.cli.main import cli, main
from bhpe_compile.processes import python_command
from tests.command import ROOT, bhpe, environment

HEAVY = ("torch", "tvm", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "numpy", "PIL", "rich", "ziglang")
COMMANDS = (
    "bench",
    "cache",
    "compare",
    "compile",
    "data",
    "distill",
    "eval",
    "example",
    "explain",
    "networks",
    "passes",
    "report",
    "run",
    "sensitivity",
    "serve",
    "targets",
    "train",
    "tune",
    "verify",
)

IMPORTS = """
import sys
from bhpe_compile.cli.main import main
code = main(["compile", "--help"])
sys.stderr.write(" ".join(sys.modules))
sys.exit(code)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        python_command("-c", IMPORTS),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stderr.split()
    assert len(modules) < 300  # why it answers in 0.3 s and less; benchmarks/start.py has the clock
    imported = {name.split(".")[0] for name in modules}
    assert "click" in imported
    assert imported.isdisjoint(HEAVY)


def test_group_has_these_commands() -> None:
    assert sorted(cli.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"bhpe-compile {name}" in text
    assert len(text.splitlines()) > 5
    assert max(len(line) for line in text.splitlines()) <= 100


def test_help_says_where_the_models_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["example", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "trained here, on drawn people" in text
    assert "not for use" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from bhpe_compile import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bhpe-compile, version {__version__}\n"


def test_no_arguments_prints_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: bhpe-compile" in captured.err


def test_shell_completion_offers_commands_and_targets() -> None:
    words = bhpe(_BHPE_COMPILE_COMPLETE="bash_complete", COMP_WORDS="bhpe-compile ta", COMP_CWORD="1")
    assert "plain,targets" in words.stdout.split()
    targets = bhpe(
        _BHPE_COMPILE_COMPLETE="bash_complete", COMP_WORDS="bhpe-compile compile --target ar", COMP_CWORD="3"
    )
    assert "plain,arm" in targets.stdout.split()
