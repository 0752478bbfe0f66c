"""The made-up body, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.made_up import write_body


@pytest.fixture(scope="session")
def body_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A body in the SMPL-X layout; read only."""
    return write_body(tmp_path_factory.mktemp("body") / "body.npz")
