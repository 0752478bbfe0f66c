"""Progress goes to stderr, options come first, and a damaged input costs no line but the error."""

from __future__ import annotations

import pytest

from bhpe_compile.cli.console import Console

OPTIONS = [("model", "m.pt"), ("target", "x86")]


def play(console: Console) -> None:
    """The events of a short compilation."""
    with console:
        console("load", "", 0.0)
        console("binarize", "", 0.1)
        console("binarize", "plain", 0.2)
        console("fold", "", 0.5)
        console("fold", "batch_norm", 0.75)


def test_one_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    play(Console(OPTIONS, quiet=False, verbose=False))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["model   m.pt", "target  x86", " 10%  binarize", " 50%  fold"]


def test_one_line_a_pass_when_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    play(Console(OPTIONS, quiet=False, verbose=True))
    assert capsys.readouterr().err.splitlines()[2:] == [
        " 10%  binarize",
        " 20%  binarize: plain",
        " 50%  fold",
        " 75%  fold: batch_norm",
    ]


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    play(Console(OPTIONS, quiet=True, verbose=True))
    assert capsys.readouterr() == ("", "")


def test_nothing_is_printed_before_the_model_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(OPTIONS, quiet=False, verbose=True) as console:
        console("load", "", 0.0)
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_tells_a_log_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line every ten seconds, whatever the stage."""
    monkeypatch.setattr("bhpe_compile.cli.console.SECONDS_BETWEEN_LINES", 0)
    with Console([], quiet=False, verbose=False) as console:
        console("data", "64 of 500", 0.1)
        console("data", "128 of 500", 0.25)
    assert capsys.readouterr().err.splitlines() == [" 10%  data: 64 of 500", " 25%  data: 128 of 500"]
    monkeypatch.setattr("bhpe_compile.cli.console.SECONDS_BETWEEN_LINES", 1000)
    with Console([], quiet=False, verbose=False) as console:
        console("data", "64 of 500", 0.1)
        console("data", "128 of 500", 0.25)
    assert capsys.readouterr().err.splitlines() == [" 10%  data: 64 of 500"]
