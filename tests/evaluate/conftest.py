"""The default body, built once for all tests and processes, in the cache it always has; and a small made-up one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhpe_compile.cache import cache_folder
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.default_body import default_body
from tests.evaluate.made_up import write_body


@pytest.fixture(scope="session")
def body_path() -> Path:
    """Its file. pytest-xdist's processes wait for the one that builds."""
    pytest.importorskip("anny")
    from filelock import FileLock

    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "tests.lock"):
        return default_body()


@pytest.fixture(scope="session")
def body(body_path: Path) -> BodyModel:
    """The default body."""
    return BodyModel.load(body_path)


@pytest.fixture(scope="session")
def body_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small made-up body; read only."""
    return write_body(tmp_path_factory.mktemp("body") / "body.npz")
