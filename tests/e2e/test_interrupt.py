"""Ctrl-C in the middle of the work: exit code 130, and nothing left behind anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from bhpe_compile.processes import python_command
from tests.command import COMMAND, bhpe, environment, listing
from tests.e2e.conftest import Compiled


@pytest.fixture
def model(example: Path, tmp_path: Path) -> Path:
    """A model that was never compiled from there: the workers are started, whether its code is kept or not."""
    return shutil.copy(example / "model.pt", tmp_path / "new.pt")


CACHES = ("torchinductor_",)
"""What libraries keep in the folder for temporary files on every run, interrupted or not."""


def interrupt(
    stage: str, place: Path, *words: str | Path, ending: signal.Signals = signal.SIGINT
) -> tuple[Path, Path, list[str]]:
    """Compile, and Ctrl-C (to the group) or another signal (to the process alone) when `stage` begins.

    Working folder, folder for temporary files, lines after that.
    """
    work, temporary = place / "work", place / "temporary"
    work.mkdir()
    temporary.mkdir()
    ours = signal.signal(ending, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and children inherit that
    try:
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=work,
            env=environment(TMPDIR=str(temporary)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, which a terminal would interrupt as a whole
        )
    finally:
        signal.signal(ending, ours)
    with process:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if stage in line:
                if ending == signal.SIGINT:
                    os.killpg(process.pid, ending)
                else:
                    process.send_signal(ending)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, seen + err
    with pytest.raises(ProcessLookupError):  # no worker is left in the group
        os.killpg(process.pid, 0)
    assert out == ""
    assert "Traceback" not in err
    return work, temporary, err.splitlines()


@pytest.mark.parametrize("stage", ["export", "lower", "write"])
def test_interrupt_leaves_nothing(stage: str, model: Path, tmp_path: Path) -> None:
    work, temporary, rest = interrupt(f"  {stage}", tmp_path, model, "--target", "x86")
    assert rest[-1] == "error: interrupted; nothing was written"
    assert listing(work) == []
    assert [name for name in listing(temporary) if not name.startswith(CACHES)] == []


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", ["export", "lower"])
def test_other_signals_are_ctrl_c(stage: str, ending: signal.Signals, model: Path, tmp_path: Path) -> None:
    """What `kill`, `timeout`, a container's stop or a closed terminal sends, to this process alone."""
    words = (model, "--target", "x86")
    work, temporary, rest = interrupt(f"  {stage}", tmp_path, *words, ending=ending)
    assert rest[-1] == "error: interrupted; nothing was written"
    assert listing(work) == []
    assert [name for name in listing(temporary) if not name.startswith(CACHES)] == []


def test_nothing_stays_after_success(compiled: Compiled, tmp_path: Path) -> None:
    """ONNX Runtime keeps a file of its telemetry in the folder for temporary files."""
    outcome = bhpe("verify", compiled.folder, TMPDIR=str(tmp_path))
    assert outcome.code == 0, outcome.stderr
    assert listing(tmp_path) == []


LOST = """
import os, signal, sys, time
from bhpe_compile.cli.signals import interruptible
def asked():
    signal.raise_signal(signal.SIGINT)
os.register_at_fork(before=asked)
try:
    with interruptible():
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        print("dropped", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interruption_that_python_drops_comes_again() -> None:
    """A signal while a callback of a fork runs: Python tells of the exception and goes on."""
    done = subprocess.run(
        python_command("-c", LOST), env=environment(), capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.splitlines() in (["dropped", "interrupted"], ["interrupted"])


def test_what_was_dumped_is_named(model: Path, tmp_path: Path) -> None:
    words = (model, "--target", "x86", "-o", "a", "--dump-ir-after", "plain", "--log-json")
    work, _, rest = interrupt('"stage": "export"', tmp_path, *words)
    *_, last = map(json.loads, rest)  # every line is an object
    assert last["text"] == "interrupted; no artefact was written; graphs dumped before are in a-ir"
    assert listing(work) == ["a-ir", "a-ir/001_binarize_plain.txt"]
