"""Debian's Chromium, driven by playwright; what needs it is skipped, with the reason, without either."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE = 180_000
"""Milliseconds: a loaded machine is slow, not wrong."""


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """A headless browser, started with these options."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine (scripts/system-packages installs it)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, timeout=PATIENCE, args=list(options))
        yield started
        started.close()
