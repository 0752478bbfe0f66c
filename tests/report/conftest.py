"""A real headless browser, where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

PATIENCE = 180_000
"""Milliseconds: a loaded machine is slow, not wrong."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; the test is skipped, with the reason, without either."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine (scripts/system-packages installs it)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, timeout=PATIENCE)
        yield started
        started.close()
