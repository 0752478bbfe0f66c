"""Fixtures of several folders."""

from __future__ import annotations

import signal

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401
from tests.examples import (  # noqa: F401
    compiled,
    compiled_arm,
    compiled_bidrn,
    example,
    kept_workers,
    shared_workers,
)
from tests.films import walk  # noqa: F401

# ignored by `make test &` in a script, which commands under test would inherit
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
