"""Artefacts that several folders verify; tests only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check.artefacts import Small, exact_network
from tests.kept import KeptWorkers
from tests.shared import made_once


@pytest.fixture(scope="session")
def small(kept_workers: KeptWorkers) -> Small:
    """A network of binary and 8-bit layers, compiled for x86."""
    return Small.of(exact_network(), kept_workers)


@pytest.fixture(scope="session")
def right(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its artefact."""
    return made_once(tmp_path_factory, "small", lambda folder: small.write(folder / "a") and None) / "a"
