"""Tests of one file run in one process, where module fixtures are built once; so do all end-to-end tests."""

from __future__ import annotations

import pytest

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401 (fixtures of several folders)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `pytest -n 2 --dist loadgroup`; without pytest-xdist the mark is only a name."""
    for item in items:
        file = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group("e2e" if file.startswith("tests/e2e/") else file))


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark for runs without pytest-xdist."""
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one process")
