"""One interface, three ways to execute: in this process, under qemu and under unicorn."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import BhpeError, InputError, ToolchainError
from bhpe_compile.runtime import Probe, Session, emulate, open_session
from bhpe_compile.runtime.emulate import EMULATORS
from bhpe_compile.runtime.session import Array
from bhpe_compile.targets import PRESETS
from tests.artifact.folders import HOST
from tests.artifact.programs import BIAS, COLUMNS, HIDDEN, OUT, ROWS, SIGN, WEIGHT, X, expected, some_input

QEMU = pytest.param(
    "qemu",
    marks=pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-aarch64 is not installed"),
)
UNICORN = pytest.param(
    "unicorn", marks=pytest.mark.skipif(find_spec("unicorn") is None, reason="unicorn is not installed")
)
HOSTED = pytest.param("host", marks=pytest.mark.skipif(HOST.family != "x86_64", reason="x86 only"))

TOLERANCE = 1e-6
"""Sums of 24 products below 4 in float32, in another order than NumPy's, then exp of values below 3."""


@pytest.fixture(params=[HOSTED, QEMU, UNICORN], scope="module")
def session(request: pytest.FixtureRequest, artifact: Path, arm_artifact: Path) -> Iterator[Session]:
    how: str = request.param
    with open_session(artifact if how == "host" else arm_artifact, how) as opened:
        yield opened


def close(got: Array, want: Array) -> None:
    np.testing.assert_allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE)


def test_description(session: Session) -> None:
    assert session.executed in ("in this process", "qemu-aarch64", "unicorn")
    assert [t.name for t in session.inputs] == ["x"]
    assert [t.name for t in session.outputs] == ["out", "sign"]
    first, second, third = session.steps
    assert (first.symbol, first.kind, first.layer) == ("matmul", "DenseLinear", "body.first")
    assert third.layer == 'odd "näme"\\ % ??='
    assert first.roles == ("x", "weight", "out")
    assert first.args == (X, WEIGHT, HIDDEN)
    assert second.args == (HIDDEN, BIAS, OUT)
    assert [t.constant for t in first.arguments] == [False, True, False]
    assert [t.offset for t in second.arguments] == [0, 3840, 640]
    assert third.shapes == ((ROWS, COLUMNS), (ROWS, COLUMNS))
    assert third.arguments[1].dtype == "uint8"
    assert third.arguments[1].nbytes == ROWS * COLUMNS


def test_outputs(session: Session) -> None:
    want = expected(some_input(5))
    run = session.execute({"x": some_input(5)})
    assert list(run.outputs) == ["out", "sign"]
    close(run.outputs["out"], want["out"])
    assert run.outputs["sign"].dtype == np.uint8
    assert (run.taps, run.probes) == ({}, {})


def test_taps_are_exact_copies(session: Session) -> None:
    run = session.execute({"x": some_input(5)}, taps=[(0, 0), (0, 2), (1, 0), (1, 2), (2, 1), (0, 2)])
    assert set(run.taps) == {(0, 0), (0, 2), (1, 0), (1, 2), (2, 1)}
    np.testing.assert_array_equal(run.taps[0, 0], some_input(5))
    np.testing.assert_array_equal(run.taps[0, 2], run.taps[1, 0])
    np.testing.assert_array_equal(run.taps[1, 2], run.outputs["out"])
    np.testing.assert_array_equal(run.taps[2, 1], run.outputs["sign"])
    np.testing.assert_array_equal(run.taps[2, 1], run.taps[0, 2] > 0)
    close(run.taps[0, 2], expected(some_input(5))["hidden"])


def test_probes_leave_no_trace(session: Session) -> None:
    plain = session.execute({"x": some_input(6)}, taps=[(0, 2)])
    hidden = plain.taps[0, 2]
    zeros, ones = np.zeros(COLUMNS, np.float32), np.ones((ROWS, COLUMNS), np.float32)
    run = session.execute(
        {"x": some_input(6)},
        taps=[(1, 1), (1, 2)],
        probes=[
            Probe(1, {1: zeros}, 2, "no bias"),
            Probe(2, {0: -ones}, 1, "negative"),
            Probe(1, {0: 0 * ones, 1: zeros + 2}, 2, "constant"),
            Probe(1, {}, 0, "nothing replaced"),
            Probe(1, {}, 1, "a constant argument"),
        ],
    )
    close(run.probes["no bias"], np.exp(hidden))
    np.testing.assert_array_equal(run.probes["negative"], np.zeros((ROWS, COLUMNS)))
    np.testing.assert_array_equal(run.probes["constant"], np.full((ROWS, COLUMNS), 3))
    np.testing.assert_array_equal(run.probes["nothing replaced"], hidden)
    np.testing.assert_array_equal(run.probes["a constant argument"], run.taps[1, 1])
    for name, array in plain.outputs.items():
        np.testing.assert_array_equal(run.outputs[name], array)


def test_forced_values_travel_on(session: Session) -> None:
    forced = np.linspace(-1, 1, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)
    run = session.execute(
        {"x": some_input(7)},
        taps=[(0, 2), (1, 0)],
        probes=[Probe(0, {}, 2, "own")],
        forced={(0, 2): forced},
    )
    np.testing.assert_array_equal(run.outputs["sign"], forced > 0)
    np.testing.assert_array_equal(run.taps[1, 0], forced)
    np.testing.assert_array_equal(run.taps[0, 2], run.probes["own"])  # taps and probes come before
    assert not np.array_equal(run.taps[0, 2], forced)


def test_forced_output_is_returned(session: Session) -> None:
    forced = np.full((ROWS, COLUMNS), 7, np.uint8)
    run = session.execute({"x": some_input(7)}, forced={(2, 1): forced})
    np.testing.assert_array_equal(run.outputs["sign"], forced)


def test_runs_do_not_depend_on_earlier_ones(session: Session) -> None:
    first = session.execute({"x": some_input(8)})
    session.execute({"x": some_input(9)}, forced={(0, 2): np.zeros((ROWS, COLUMNS), np.float32)})
    again = session.execute({"x": some_input(8)})
    np.testing.assert_array_equal(first.outputs["out"], again.outputs["out"])


def test_writers(session: Session) -> None:
    assert session.writers() == {HIDDEN: (0, 2), OUT: (1, 2), SIGN: (2, 1)}


def test_wrong_requests(session: Session) -> None:
    x = {"x": some_input()}
    with pytest.raises(InputError, match="inputs are x, not y"):
        session.execute({"y": some_input()})
    with pytest.raises(InputError, match=r"input x must be float32 \[4, 24\]"):
        session.execute({"x": some_input()[:2]})
    with pytest.raises(InputError, match="forced argument"):
        session.execute(x, forced={(0, 2): np.zeros(3, np.float32)})
    with pytest.raises(InputError, match="argument 1 of probe p"):
        session.execute(x, probes=[Probe(1, {1: np.zeros(3, np.float32)}, 2, "p")])
    for place in ((3, 0), (-1, 0), (0, 3), (0, -1)):
        with pytest.raises(IndexError):
            session.execute(x, taps=[place])
    with pytest.raises(ValueError, match="constant"):
        session.execute(x, forced={(1, 1): np.zeros(COLUMNS, np.float32)})
    with pytest.raises(ValueError, match="same key"):
        session.execute(x, probes=[Probe(1, {}, 2, "p"), Probe(1, {}, 2, "p")])


@pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None or find_spec("unicorn") is None, reason="needs both emulators"
)
def test_both_emulators_give_the_same_bits(arm_artifact: Path) -> None:
    with open_session(arm_artifact, "qemu") as first, open_session(arm_artifact, "unicorn") as second:
        runs = [s.execute({"x": some_input(3)}, taps=[(0, 2)]) for s in (first, second)]
    np.testing.assert_array_equal(runs[0].taps[0, 2], runs[1].taps[0, 2])
    np.testing.assert_array_equal(runs[0].outputs["out"], runs[1].outputs["out"])


def test_default_prefers_the_fastest_way(artifact: Path) -> None:
    with open_session(artifact) as session:
        assert session.executed == "in this process"


@pytest.mark.skipif(HOST.family == "aarch64", reason="this machine needs no emulator")
def test_no_emulator_says_what_to_install(arm_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(emulate, "find_spec", lambda _: None)
    with pytest.raises(ToolchainError, match=r"qemu-aarch64 \(Debian package qemu-user\) or `pip install"):
        open_session(arm_artifact)


@pytest.mark.skipif(HOST.family == "aarch64", reason="this machine needs no emulator")
@pytest.mark.skipif(find_spec("unicorn") is None, reason="unicorn is not installed")
def test_unicorn_steps_in(arm_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with open_session(arm_artifact) as session:
        assert session.executed == "unicorn"


def test_the_emulator_comes_from_our_own_table(arm_artifact: Path, tmp_path: Path) -> None:
    """A manifest that names a program on PATH, its hashes right: the program is not started."""
    folder = shutil.copytree(arm_artifact, tmp_path / "model")
    program, mark = tmp_path / "bin" / "evil", tmp_path / "ran"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"]["emulator"] = "evil"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        with suppress(ToolchainError), open_session(folder) as session:  # no emulator here at all
            assert "evil" not in session.executed
            session.execute({"x": some_input()})
    assert not mark.exists()


def test_every_target_that_names_an_emulator_gets_it() -> None:
    named = {(t.family, t.emulator) for t in PRESETS.values() if t.emulator is not None}
    assert named == set(EMULATORS.items())


def test_emulating_what_has_no_emulator(artifact: Path) -> None:
    with pytest.raises(BhpeError):
        open_session(artifact, "qemu")


def test_temporary_files_are_removed(
    arm_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("unicorn") is None:
        pytest.skip("unicorn is not installed")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_session(arm_artifact, "unicorn") as session:
        session.execute({"x": some_input()})
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
