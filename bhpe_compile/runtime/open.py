"""Where an artefact runs: a session in this process, under emulation or on a board."""

from __future__ import annotations

from pathlib import Path

from bhpe_compile.artifact.load import check_artifact
from bhpe_compile.runtime.board import Board, open_board
from bhpe_compile.runtime.driven import DrivenSession
from bhpe_compile.runtime.emulate import open_emulated
from bhpe_compile.runtime.inprocess import open_in_process
from bhpe_compile.runtime.session import Session
from bhpe_compile.targets.host import missing_features


def open_session(path: Path, how: str | None = None, threads: int = 1, board: Board | None = None) -> Session:
    """Open the artefact at `path`, its hashes checked, in this process, under emulation or on a board.

    how: "host", "qemu" or "unicorn"; None takes the first of them that works here. threads: of a model in this
    process or on a board; an emulated one runs on one. Raises UsageError (no such folder, no such board), InputError
    (damaged, or not for this machine when how is "host"), ToolchainError (no emulator, no connection).
    """
    manifest = check_artifact(path)
    if board is not None:
        return DrivenSession(path, manifest, open_board(board, path, manifest), threads)
    target = manifest["target"]
    if how is None and not missing_features(target["family"], target["requires"]):
        how = "host"
    return open_in_process(path, threads) if how == "host" else open_emulated(path, manifest, how)
