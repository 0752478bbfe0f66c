"""The example and its compiled forms, made once by the real command line and only read by the tests."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Outcome, bhpe


@dataclass(frozen=True)
class Compiled:
    """An artefact, what the command printed and how long it took, Python's start included."""

    folder: Path
    outcome: Outcome
    seconds: float


def compile_example(model: Path, target: str, folder: Path) -> Compiled:
    """Compile for `target`; the test fails here, with what was printed, when the command does."""
    start = time.perf_counter()
    outcome = bhpe(model, "--target", target, "-o", folder, "--format", "json")
    assert outcome.code == 0, outcome.stderr
    return Compiled(folder, outcome, time.perf_counter() - start)


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `bhpe-compile example` writes."""
    folder = tmp_path_factory.mktemp("example") / "demo"
    outcome = bhpe("example", folder)
    assert outcome.code == 0, outcome.stderr
    return folder


@pytest.fixture(scope="session")
def compiled(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example for x86."""
    return compile_example(example / "model.pt", "x86", tmp_path_factory.mktemp("x86") / "model-x86")


@pytest.fixture(scope="session")
def compiled_arm(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The example for AArch64."""
    return compile_example(example / "model.pt", "arm", tmp_path_factory.mktemp("arm") / "model-arm")


@pytest.fixture
def copy(compiled: Compiled, tmp_path: Path) -> Path:
    """An artefact for x86 that a test may damage."""
    return shutil.copytree(compiled.folder, tmp_path / "model-x86")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with somebody's file in it, under the name of an output."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    return folder
