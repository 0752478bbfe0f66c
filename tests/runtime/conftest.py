"""Artefacts of the small program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bhpe_compile.targets import get_target
from tests.artifact.folders import write


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this machine; read only."""
    return write(tmp_path_factory.mktemp("host") / "model")


@pytest.fixture(scope="session")
def arm_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For AArch64; read only."""
    return write(tmp_path_factory.mktemp("arm") / "model", get_target("arm"))


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """For this machine; a test may damage it."""
    return shutil.copytree(artifact, tmp_path / "model")
