"""Where kernels are measured: in this process, or on a device behind TVM's RPC tracker.

A device runs `python -m tvm.exec.rpc_server --tracker HOST:PORT --key KEY`, the tracker anywhere
`python -m tvm.exec.rpc_tracker`; both need the packages tornado and cloudpickle.
"""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path
from typing import Any, Protocol

import tvm

from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.targets import Target, host_runs
from bhpe_compile.targets.host import missing_features

CONNECT_SECONDS = 10
LAST_PORT = 65535

SESSION_SECONDS = 3600
"""A device is given back after this time, whatever happens to this process."""


class Workplace(Protocol):
    """Loads compiled functions and tells the device their arguments live on."""

    device: Any

    def load(self, executable: Any) -> Any:
        """A `tvm.runtime.Module` to call functions of, here or there."""


class Here:
    """This process. UsageError when this machine does not run code for the target."""

    def __init__(self, target: Target) -> None:
        if not host_runs(target):
            missing = ", ".join(missing_features(target.family, target.requires))
            raise UsageError(
                f"{target.name}: this machine does not run its code (missing: {missing}); "
                "tune on a device with --rpc and --key"
            )
        self.device = tvm.cpu()

    def load(self, executable: Any) -> Any:
        """Linked in memory."""
        return executable.jit()


class There:
    """A device that registered with the tracker at `address` (host:port) under `key`."""

    def __init__(self, target: Target, address: str, key: str) -> None:
        match = re.fullmatch(r"(?P<host>[^:]+|\[[^\]]+\]):(?P<port>\d{1,5})", address)
        if match is None or int(match["port"]) > LAST_PORT:
            raise UsageError(f"--rpc {address}: must be host:port of TVM's RPC tracker")
        from tvm import rpc

        self._target = target
        host, port = match["host"].strip("[]"), int(match["port"])
        try:
            socket.create_connection((host, port), CONNECT_SECONDS).close()  # TVM would try for a minute
            tracker = rpc.connect_tracker(host, port)
            known = tracker.summary()["queue_info"]
            if key not in known:
                names = ", ".join(sorted(known)) or "none"
                raise UsageError(f"--key {key}: no device of that name at {address}; there are: {names}")
            self._session = tracker.request(key, session_timeout=SESSION_SECONDS)
        except (OSError, RuntimeError) as error:
            raise ToolchainError(f"--rpc {address}: {str(error).strip().splitlines()[-1]}") from None
        self.device = self._session.cpu()
        self._count = 0

    def load(self, executable: Any) -> Any:
        """Linked for the target with `zig cc` and sent over."""
        self._count += 1
        name = f"bhpe_tune_{self._count}.so"
        with tempfile.TemporaryDirectory(prefix="bhpe-tune-") as folder:

            def link(output: str, objects: list[str], options: Any = None, **_: Any) -> None:
                words = [*self._target.zig, "-shared", "-fPIC", "-o", str(output), *map(str, objects)]
                zig_cc([*words, *(options or ()), "-lm"], Path(folder))

            executable.export_library(str(Path(folder) / name), fcompile=link)
            self._session.upload(str(Path(folder) / name))
        return self._session.load_module(name)
