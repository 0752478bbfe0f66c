"""Fixtures of several folders."""

from __future__ import annotations

import signal

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # `make test &` in a script: commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
