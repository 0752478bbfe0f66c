"""Fixtures of several folders."""

from __future__ import annotations

import signal

import pytest

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401
from tests.examples import (  # noqa: F401
    compiled,
    compiled_arm,
    compiled_bidrn,
    compiled_bidrn_arm,
    compiled_int8,
    compiled_int8_armv7,
    compiled_web,
    example,
)
from tests.films import walk  # noqa: F401
from tests.kept import kept_pair, kept_workers, no_code_cache, shared_code, shared_simplifier  # noqa: F401

# ignored by `make test &` in a script, which commands under test would inherit
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    "tests/e2e/",
    "tests/check/",
    "tests/compiler/",
    "tests/kernels/",
    "tests/search/",
    "tests/report/",
    "tests/test_adding_a_network.py",
)
"""Where the files that take longest are: they go first, so that the processes of pytest-xdist end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
