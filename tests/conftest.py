"""Fixtures of several folders."""

from __future__ import annotations

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401
