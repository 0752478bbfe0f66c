"""A real headless browser, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browsers import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Of all tests that look at a report."""
    with chromium() as started:
        yield started
