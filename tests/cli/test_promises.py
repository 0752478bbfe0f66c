"""Faults of the request and of files end with 2 or 3, never with 1: everything here was a traceback once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bhpe_compile.cli.configuration import find_file
from bhpe_compile.cli.main import main
from tests.artifact.folders import write
from tests.command import COMMAND, environment

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "words", "code"),
    [
        ("bhpe.toml", f"a = {DEEP}", ("targets",), 3),
        ("bhpe.toml", "[report]\npreset = 99999999999999999999", ("report",), 3),
        ("pyproject.toml", "tool = [1]", ("targets",), 0),
        ("pyproject.toml", "[tool]\nbhpe = [1]", ("targets",), 2),
        ("bhpe.toml", "[report]\nnetwork = 'a\\u0000.toml'", ("report",), 2),
        ("net.toml", f"network = {DEEP}", ("report", "--network", "net.toml"), 3),
        (
            "net.toml",
            "network = 'hand4whole:tiny'\ninputs.image.crop.enlarge = inf",
            ("report", "--network", "net.toml"),
            3,
        ),
        ("net.toml", "network = 'hand4whole:tiny'\ninputs = [1]", ("report", "--network", "net.toml"), 3),
        ("boards.toml", f"a = {DEEP}", ("compile", "--target", "boards.toml", "--dry-run", "model.pt"), 3),
        ("tiles.json", DEEP, ("compile", "--target", "x86", "--tiles", "tiles.json", "model.pt"), 3),
        (
            "tiles.json",
            '{"isa": "avx2", "tiles": [1]}',
            ("compile", "-t", "x86", "--tiles", "tiles.json", "model.pt"),
            3,
        ),
        ("people/manifest.json", DEEP, ("data", "check", "people"), 3),
        (
            "people/manifest.json",
            '{"format": "bhpe-people", "version": 1e999}',
            ("data", "check", "people"),
            3,
        ),
        ("model/manifest.json", DEEP, ("run", "model", "person.png"), 3),
        ("model/manifest.json", '{"format": NaN}', ("verify", "model"), 3),
        ("x", "", ("compile", "--target", "llvm -mtriple='x", "--dry-run", "model.pt"), 2),
        ("x", "", ("report", "--preset", "tiny", "-o", ""), 2),
        ("x", "", ("report", "--preset", "tiny", "-o", "/"), 2),
    ],
)
def test_one_line_and_the_right_code(
    name: str,
    content: str,
    words: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    for file in ("model.pt", "person.png"):
        (tmp_path / file).write_bytes(b"\0")
    assert main(list(words)) == code
    err = capsys.readouterr().err
    assert err.startswith("error: ") == bool(code)
    assert err.count("\n") == bool(code)


def test_a_full_disk_under_standard_output() -> None:
    for words in (("targets",), ("report", "--preset", "tiny"), ("--help",)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*COMMAND, *words],
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: standard output")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("run", "model", "f"), ("f", "--target", "x86")])
def test_a_fifo_is_not_waited_for(words: tuple[str, ...], tmp_path: Path) -> None:
    """As picture, checkpoint, and as any file of an artefact."""
    write(tmp_path / "model")
    os.mkfifo(tmp_path / "f")
    run = [*COMMAND, *words]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "is a FIFO, not a" in done.stderr
    for name in ("weights.bin", "manifest.json", "model.so"):
        (tmp_path / "model" / name).unlink()
        os.mkfifo(tmp_path / "model" / name)
        done = subprocess.run(
            [*COMMAND, "verify", "model"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 3, done.stderr
        assert "is a FIFO, not a" in done.stderr


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
    done = subprocess.run(
        [COMMAND[0], "-c", code, gone, *COMMAND, "targets"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "aarch64" in done.stdout or "arm" in done.stdout


def test_somebody_elses_broken_pyproject_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.other\n")
    monkeypatch.chdir(tmp_path / "sub")
    assert find_file(Path.cwd()) is None
    (tmp_path / "pyproject.toml").write_text("[tool.bhpe\n")
    assert main(["targets"]) == 3
