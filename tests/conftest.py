"""Tests of one file run in one process, where module fixtures are built once; so do files that share the compiled
example."""

from __future__ import annotations

import pytest

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401 (fixtures of several folders)

SHARED = {"compiled", "compiled_arm"}
"""Fixtures of tests/e2e that are made once a process, each by a whole compilation."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `pytest -n 2 --dist loadgroup`; without pytest-xdist the mark is only a name."""
    files = [item.nodeid.split("::")[0] for item in items]
    sharing = {
        file
        for item, file in zip(items, files, strict=True)
        if file.startswith("tests/e2e/") and not SHARED.isdisjoint(getattr(item, "fixturenames", ()))
    }
    for item, file in zip(items, files, strict=True):
        item.add_marker(pytest.mark.xdist_group("compiled" if file in sharing else file))


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark for runs without pytest-xdist."""
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one process")
