"""The driver on a board: the same bits through ssh and TVM's RPC as in this process, and nothing left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import BhpeError, InputError, ToolchainError, UsageError
from bhpe_compile.runtime import Probe, open_session
from bhpe_compile.runtime.board import Board, RpcBoard, SshBoard
from bhpe_compile.runtime.ssh import SshMachine
from bhpe_compile.runtime.timing import time_on_board
from tests.artifact.folders import on_host
from tests.artifact.programs import COLUMNS, ROWS, some_input
from tests.boards import BOARD, KEY

pytestmark = on_host


@pytest.fixture(params=["ssh", "rpc"], scope="module")
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    if request.param == "ssh":
        yield SshBoard(BOARD, request.getfixturevalue("ssh_config"))
    else:
        yield RpcBoard(request.getfixturevalue("tracker"), KEY)


def test_the_same_bits(board: Board, artifact: Path) -> None:
    probe = Probe(1, {0: np.full((ROWS, COLUMNS), 0.5, np.float32)}, 2, "exp")
    with open_session(artifact) as here, open_session(artifact, board=board) as there:
        assert there.executed == (f"{BOARD} (ssh)" if isinstance(board, SshBoard) else f"{KEY} (rpc)")
        assert (there.inputs, there.outputs, there.steps) == (here.inputs, here.outputs, here.steps)
        for seed in (1, 2):
            runs = [s.execute({"x": some_input(seed)}, taps=[(0, 2)], probes=[probe]) for s in (here, there)]
            for first, second in (
                (getattr(run, part) for run in runs) for part in ("outputs", "taps", "probes")
            ):
                assert first.keys() == second.keys()
                for name, value in first.items():
                    np.testing.assert_array_equal(second[name], value)


def test_threads_and_times(board: Board, artifact: Path) -> None:
    timing = time_on_board(artifact, board, {"x": some_input()}, 5, threads=2)
    assert (timing.rounds, timing.threads, timing.steps) == (5, 2, ())
    assert 0 < timing.whole.fastest <= timing.whole.median <= timing.whole.p90
    assert timing.place.startswith((BOARD, KEY))


def test_what_the_driver_reports(board: Board, copy: Path) -> None:
    """A driver that refuses its weights says so from afar."""
    with open_session(copy, board=board) as session:
        session._machine.put("weights.bin", b"no weights")  # type: ignore[attr-defined]
        with pytest.raises(InputError, match=r"the driver did not answer: driver: .*weights"):
            session.execute({"x": some_input()})


def test_for_another_cpu(board: Board, arm_artifact: Path) -> None:
    with pytest.raises(BhpeError, match=r"did not answer|does not load code for arm"):
        open_session(arm_artifact, board=board)


# ---- RPC ----


def test_a_server_under_qemu(arm_artifact: Path, arm_tracker: str) -> None:
    """Upload, load, start and fetch through a server of another CPU; its bits are those of the emulated driver."""
    board = RpcBoard(arm_tracker, KEY)
    with open_session(arm_artifact) as here, open_session(arm_artifact, board=board) as there:
        assert there.executed == f"{KEY} (rpc)"
        first, second = (session.execute({"x": some_input(3)}).outputs for session in (here, there))
        assert first.keys() == second.keys()
        for name, value in first.items():
            np.testing.assert_array_equal(second[name], value)


# ---- ssh ----


def test_nothing_is_left(
    ssh_config: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_session(artifact, board=SshBoard(BOARD, ssh_config)) as session:
        session.execute({"x": some_input()})
        there = Path(session._machine._folder)  # type: ignore[attr-defined]
        assert sorted(path.name for path in there.iterdir()) == [
            "driver",
            "request",
            "response",
            "weights.bin",
        ]
    assert not there.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a blank", 'a "quote"', "50% off", "long" * 30])
def test_any_folder_for_temporary_files(
    name: str, ssh_config: Path, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(
        prefix=f"{name} ", dir="/tmp"
    ) as folder:  # a socket's path is a short one
        monkeypatch.setattr("tempfile.tempdir", folder)
        with open_session(artifact, board=SshBoard(BOARD, ssh_config)) as session:
            assert session.steps
        assert not list(Path(folder).iterdir())


def test_names_are_not_commands(ssh_config: Path, tmp_path: Path) -> None:
    machine = SshMachine(BOARD, ssh_config)
    odd = "a b; touch $(echo c)'"
    machine.put(odd, b"#!/bin/sh\nprintf '%s,' \"$@\"\necho no good >&2\nexit 3\n", program=True)
    ran = machine.run(odd, ["one two", "$HOME", "`x`"])
    assert (ran.output, ran.problem) == ("one two,$HOME,`x`,", "no good")
    assert machine.get("c") is None
    machine.close()


@pytest.mark.parametrize("destination", ["", "-oProxyCommand=x", "a b", "a;b", "$(x)"])
def test_no_destination(destination: str) -> None:
    with pytest.raises(UsageError, match="must be user@host"):
        SshMachine(destination)


def test_no_connection(
    ssh_config: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"--ssh stranger: .*Permission denied"):
        open_session(artifact, board=SshBoard("stranger", ssh_config))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolchainError, match="ssh is missing: install it"):
        SshMachine(BOARD, ssh_config)


# ---- artefacts that run on no board ----


def test_an_artifact_without_a_driver(ssh_config: Path, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["driver"]
    (copy / "driver").unlink()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="holds no driver to run; compile the model again"):
        open_session(copy, board=SshBoard(BOARD, ssh_config))


def test_web_assembly(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["target"]["family"] = "wasm32"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="is WebAssembly, which runs on no board by itself"):
        open_session(copy, board=SshBoard(BOARD))
