"""Every failure is one `error:` line on stderr and the exit code of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from bhpe_compile import errors
from bhpe_compile.cli.main import cli, main

Raise = Callable[[BaseException], list[str]]


@pytest.fixture
def failing() -> Iterator[Raise]:
    """Adds a command that raises what it is given; returns its command line."""

    def add(error: BaseException) -> list[str]:
        @click.command("fail")
        def fail() -> None:
            raise error

        cli.add_command(fail)
        return ["fail"]

    yield add
    cli.commands.pop("fail", None)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.InputError, 3),
        (errors.VerificationError, 4),
        (errors.BudgetError, 5),
        (errors.ToolchainError, 6),
    ],
)
def test_error_of_ours(
    kind: type[errors.BhpeError], code: int, failing: Raise, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(failing(kind("a.pt: damaged\n  at byte 7"))) == code
    assert capsys.readouterr() == ("", "error: a.pt: damaged at byte 7\n")


def test_notes_of_the_pass_manager_stay_on_the_line(
    failing: Raise, capsys: pytest.CaptureFixture[str]
) -> None:
    error = errors.InputError("conv1: no weight")
    error.add_note("in pass fold-batch-norm, at conv1; passes already run: none")
    assert main(failing(error)) == 3
    assert (
        capsys.readouterr().err
        == "error: conv1: no weight; in pass fold-batch-norm, at conv1; passes already run: none\n"
    )


def test_defect_of_ours(failing: Raise, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(failing(KeyError("lost"))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: internal error, KeyError: 'lost' (please report it")
    assert "BHPE_TRACEBACK=1" in err
    assert err.count("\n") == 1


def test_a_defect_in_a_pass_says_which(failing: Raise, capsys: pytest.CaptureFixture[str]) -> None:
    error = KeyError("lost")
    error.add_note("in pass pack-weights, at conv1")
    assert main(failing(error)) == 1
    assert "KeyError: 'lost'; in pass pack-weights, at conv1 (please report it" in capsys.readouterr().err


def test_traceback_when_asked_for(
    failing: Raise, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BHPE_TRACEBACK", "1")
    assert main(failing(errors.InputError("damaged"))) == 3
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("error: damaged\n")


def test_interrupt(failing: Raise, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(failing(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted; nothing was written"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nonsense"], "--nonsense"),
        (["tragets"], "tragets: no such model or command; did you mean targets?"),
        (["verfy", "dist/model-x86"], "verfy: no such model or command; did you mean verify?"),
        (["model", "--target", "x86"], "model: no such model or command"),
        (["compile"], "MODEL"),
        (["report", "--preset", "huge"], "huge"),
        (["no-such-model.pt", "--target", "x86"], "no-such-model.pt: no such model or command"),
        (["verify", "no-such-folder"], "no-such-folder: no such artefact"),
        (["run", "no-such-folder", "person.png"], "no-such-folder: no such artefact"),
    ],
)
def test_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


def test_target_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.pt").touch()
    assert main([str(tmp_path / "model.pt")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --target is missing")
    assert "bhpe-compile targets" in err


def test_folder_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--target", "x86"]) == 2
    assert "is a folder, not a model" in capsys.readouterr().err
