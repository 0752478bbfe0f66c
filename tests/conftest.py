"""Fixtures of several folders."""

from __future__ import annotations

import signal

from tests.boards import arm_tracker, ssh_config, tracker  # noqa: F401
from tests.examples import compiled, compiled_arm, compiled_bidrn, example  # noqa: F401
from tests.kept import kept_workers, kernel_by_kernel, shared_simplifier, shared_workers  # noqa: F401

# ignored by `make test &` in a script, which commands under test would inherit
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
