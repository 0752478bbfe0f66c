"""Where kernels are measured: in this process, or on a device behind TVM's RPC tracker.

`runtime.rpc` says what a device and its tracker run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Protocol

import tvm

from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.errors import UsageError
from bhpe_compile.runtime.rpc import connect
from bhpe_compile.targets import Target, host_runs
from bhpe_compile.targets.host import missing_features


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
        self._target = target
        self._session = connect(address, key)
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
