"""Fixtures of several folders."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

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

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")
"""hypothesis holds an example to 200 ms otherwise, which a busy machine does not keep."""

LONG = (
    "tests/e2e/test_devices.py",
    "tests/kernels/test_binary.py",
    "tests/e2e/test_interrupt.py",
    "tests/compiler/test_pipeline.py",
    "tests/e2e/test_training.py",
    "tests/e2e/test_working_folder.py",
    "tests/e2e/test_compile.py",
    "tests/e2e/test_accuracy.py",
    "tests/e2e/",
    "tests/check/",
    "tests/compiler/",
    "tests/kernels/",
    "tests/search/",
    "tests/report/",
    "tests/test_adding_a_network.py",
)
"""The files that take longest, and where others are, in the order in which they go: the processes of pytest-xdist end
together, and the two that begin do not make the same machine code at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(LONG) if item.nodeid.startswith(name)), len(LONG))

    items.sort(key=place)
