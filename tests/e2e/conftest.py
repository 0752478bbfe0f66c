"""Folders that a test may damage or must not touch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.examples import Compiled


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
