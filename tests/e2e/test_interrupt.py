"""Ctrl-C in the middle of the work: exit code 130, and nothing left behind anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command import COMMAND, environment, listing

CACHES = (".ses", "torchinductor_")
"""What libraries keep in the folder for temporary files on every run, interrupted or not."""


def interrupt(stage: str, place: Path, *words: str | Path) -> tuple[Path, Path, list[str]]:
    """Compile, and Ctrl-C when `stage` begins: working folder, folder for temporary files, lines after that."""
    work, temporary = place / "work", place / "temporary"
    work.mkdir()
    temporary.mkdir()
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=work,
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, which a terminal would interrupt as a whole
    ) as process:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if stage in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, seen + err
    assert out == ""
    assert "Traceback" not in err
    return work, temporary, err.splitlines()


@pytest.mark.parametrize("stage", ["export", "lower", "write"])
def test_interrupt_leaves_nothing(stage: str, example: Path, tmp_path: Path) -> None:
    work, temporary, rest = interrupt(f"  {stage}", tmp_path, example / "model.pt", "--target", "x86")
    assert rest[-1] == "error: interrupted; nothing was written"
    assert listing(work) == []
    assert [name for name in listing(temporary) if not name.startswith(CACHES)] == []


def test_what_was_dumped_is_named(example: Path, tmp_path: Path) -> None:
    words = (example / "model.pt", "--target", "x86", "-o", "a", "--dump-ir-after", "plain", "--log-json")
    work, _, rest = interrupt('"stage": "export"', tmp_path, *words)
    *_, last = map(json.loads, rest)  # every line is an object
    assert last["text"] == "interrupted; no artefact was written; graphs dumped before are in a-ir"
    assert listing(work) == ["a-ir", "a-ir/001_binarize_plain.txt"]
