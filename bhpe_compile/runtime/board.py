"""Boards: machines elsewhere, named on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bhpe_compile.artifact.manifest import Manifest
from bhpe_compile.errors import UsageError
from bhpe_compile.runtime.machine import Machine


@dataclass(frozen=True)
class SshBoard:
    """What ssh reaches as `destination` (user@host, or a name of its configuration)."""

    destination: str
    config: Path | None = None


@dataclass(frozen=True)
class RpcBoard:
    """A device that registered with TVM's RPC tracker at `tracker` (host:port) under `key`."""

    tracker: str
    key: str


Board = SshBoard | RpcBoard


def open_board(board: Board, path: Path, manifest: Manifest) -> Machine:
    """Connect, for the artefact at `path`.

    UsageError for what runs on no board, ToolchainError without a connection.
    """
    if manifest["target"].get("family") == "wasm32":
        raise UsageError(
            f"{path}: is WebAssembly, which runs on no board by itself: leave --ssh and --rpc out"
        )
    if isinstance(board, SshBoard):
        from bhpe_compile.runtime.ssh import SshMachine

        return SshMachine(board.destination, board.config)
    from bhpe_compile.runtime.rpc import RpcMachine

    return RpcMachine(board.tracker, board.key, manifest["target"])
