"""A board behind TVM's RPC tracker: TVM carries files there and back, a small library of ours starts the driver.

The board runs `python -P -m tvm.exec.rpc_server --tracker HOST:PORT --key KEY`, any machine
`python -P -m tvm.exec.rpc_tracker`; both need the packages tornado and cloudpickle. TVM's server knows how to load a
library and call its functions, and nothing about programs: `spawn.c` is built for the board and does the rest.
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.errors import ToolchainError, UsageError
from bhpe_compile.runtime.machine import Ran, problem_of
from bhpe_compile.targets import PRESETS

CONNECT_SECONDS = 10
LAST_PORT = 65535

SESSION_SECONDS = 3600
"""A device is given back after this time, whatever happens to this process."""

SPAWN = "bhpe_spawn"
SOURCE = files("bhpe_compile.runtime") / "spawn.c"


def connect(address: str, key: str) -> Any:
    """A session of `tvm.rpc` with the device `key` of the tracker at `address` (host:port).

    UsageError for a malformed address and an unknown key, ToolchainError without a connection.
    """
    match = re.fullmatch(r"(?P<host>[^:]+|\[[^\]]+\]):(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > LAST_PORT:
        raise UsageError(f"--rpc {address}: must be host:port of TVM's RPC tracker")
    from tvm import rpc

    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()  # TVM would try for a minute
        tracker = rpc.connect_tracker(host, port)
        known = tracker.summary()["queue_info"]
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UsageError(f"--key {key}: no device of that name at {address}; there are: {names}")
        return tracker.request(key, session_timeout=SESSION_SECONDS)
    except (OSError, RuntimeError) as error:
        raise ToolchainError(f"--rpc {address}: {str(error).strip().splitlines()[-1]}") from None


class RpcMachine:
    """The server's folder for this session; the server removes it when the session ends."""

    def __init__(self, address: str, key: str, target: Mapping[str, Any]) -> None:
        self.executed = f"{key} (rpc)"
        self._address = address
        self._session = connect(address, key)
        with tempfile.TemporaryDirectory(prefix="bhpe-rpc-") as folder:
            library = Path(folder) / f"{SPAWN}.so"
            like = next(one for one in PRESETS.values() if one.family == target["family"])
            words = [*like.zig, "-shared", "-fPIC", "-O1", "-o", library.name, str(SOURCE)]
            zig_cc(words, Path(folder))
            self.put(library.name, library.read_bytes())
        try:
            self._spawn = self._session.load_module(f"{SPAWN}.so")[SPAWN]
        except Exception as error:  # whatever the other side raised
            raise ToolchainError(
                f"--rpc {address}: {key} does not load code for {target['name']}: {str(error).strip().splitlines()[-1]}"
            ) from None

    def put(self, name: str, data: bytes, *, program: bool = False) -> None:
        self._session.upload(bytearray(data), name)  # what is run becomes executable when it is run

    def run(self, program: str, arguments: Sequence[str]) -> Ran:
        self.put("words", b"\0".join(word.encode() for word in (program, *arguments)) + b"\0")
        status = int(self._spawn())
        output, errors = (
            bytes(self.get(name) or b"").decode(errors="replace") for name in ("stdout", "stderr")
        )
        return Ran(output, problem_of(status, errors))

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self._session.download(name))
        except Exception:  # the other side's, of whatever kind: there is no such file
            return None

    def close(self) -> None:
        del self._spawn
        del self._session
