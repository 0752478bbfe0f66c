"""Tuning a small graph, here and through a tracker on localhost: real kernels, real times, a table that is read."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from hypothesis import given
from onnx import TensorProto, helper

from bhpe_compile.artifact import write_artifact
from bhpe_compile.cli.main import main
from bhpe_compile.errors import BhpeError, ToolchainError, UsageError
from bhpe_compile.kernels.kernel import Kernel
from bhpe_compile.passes.lower import lower_passes
from bhpe_compile.search.tiles import Here, There, candidates, shapes_of, tune, winners
from bhpe_compile.search.tiles.tune import build, compare, random_arguments
from bhpe_compile.targets import get_target, host_runs, native_target
from bhpe_compile.targets.isa import AVX2, AVX512, NEON
from bhpe_compile.targets.tile import read_tiles
from tests.artifact.programs import small_program
from tests.boards import KEY
from tests.kernels import strategies
from tests.passes.lower.graphs import small_network

ON_HOST = pytest.mark.skipif(not host_runs(get_target("x86")), reason="this machine does not run x86 code")


def lowered() -> ir.Model:
    model = small_network()
    for one in lower_passes():
        one(model)
    return model


@given(kernel=strategies.binary_convs(plain=True))
def test_candidates_are_distinct_and_fit(kernel: Kernel) -> None:
    for isa in (AVX2, AVX512, NEON):
        first, *others = candidates(kernel, isa)
        assert first == kernel.default_tile(isa)
        assert len(others) <= 12
        assert len({first, *others}) == 1 + len(others)
        assert all(t.pixels * t.vectors < isa.registers for t in others if t.channels_outside is None)


def test_shapes_are_distinct_and_counted() -> None:
    model = lowered()
    shapes = shapes_of([model, model])
    assert len({shape.key for shape in shapes}) == len(shapes)
    assert [s.calls for s in shapes] == [2 * s.calls for s in shapes_of([model])]
    assert sum(s.calls for s in shapes_of([model])) == 5  # the convolutions of the small network


@ON_HOST
def test_tune_here() -> None:
    target = native_target()
    seen: list[str] = []
    shapes = shapes_of([lowered()])[:2]
    measured = tune(shapes, target, Here(target), 1, lambda key, _: seen.append(key))
    assert seen == [shape.key for shape in shapes]
    assert all(m.best_ns > 0 and m.default_ns > 0 and m.tried > 1 for m in measured)
    for key, tuned in winners(measured).items():
        assert key in seen
        assert tuned.ns < 0.98 * tuned.default_ns


def test_other_cpus_need_a_device() -> None:
    foreign = get_target("arm" if host_runs(get_target("x86")) else "x86")
    with pytest.raises(UsageError, match=r"does not run its code .*--rpc and --key"):
        Here(foreign)


@ON_HOST
def test_a_kernel_that_computes_something_else_is_caught() -> None:
    target = native_target()
    right: Any = next(s.kernel for s in shapes_of([lowered()]) if s.key.startswith("binary"))
    wrong = replace(right, epilogue=replace(right.epilogue, activation="relu"))
    right = replace(right, epilogue=replace(right.epilogue, activation="none"))
    here = Here(target)
    arguments = random_arguments(right, target, here.device)
    compare([right, right], target, here.load(build([right, right], target)), arguments)
    with pytest.raises(BhpeError, match="computes something else than the first"):
        compare([right, wrong], target, here.load(build([right, wrong], target)), arguments)


# ---- through RPC ----


@ON_HOST
def test_tune_there(tracker: str) -> None:
    target = native_target()
    (measured,) = tune(shapes_of([lowered()])[1:2], target, There(target, tracker, KEY), 1)
    assert measured.tried > 1
    assert measured.best_ns > 0


def test_unknown_device(tracker: str) -> None:
    with pytest.raises(UsageError, match=f"no device of that name at {tracker}; there are: {KEY}"):
        There(get_target("arm"), tracker, "pi")


def test_no_tracker_and_no_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        with pytest.raises(ToolchainError, match=r"--rpc 127\.0\.0\.1:\d+: "):
            There(get_target("arm"), f"127.0.0.1:{probe.getsockname()[1]}", "pi")
    for address in ("localhost", "localhost:", "localhost:99999", ":9190"):
        with pytest.raises(UsageError, match="must be host:port"):
            There(get_target("arm"), address, "pi")


# ---- the command ----


def folded() -> bytes:
    """The small network as an artefact's model.onnx: with the shapes of all values."""
    model = small_network()
    proto = ir.to_proto(model)
    for value in (value for node in model.graph for value in node.outputs):
        shape = [int(size) for size in value.shape or ()]
        proto.graph.value_info.append(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
    return bytes(proto.SerializeToString())


@ON_HOST
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An artefact in, a table out, which `compile --tiles` would read."""
    target = get_target("x86")
    write_artifact(tmp_path / "model", small_program(target), target, folded(), {}, None, {})
    table = tmp_path / "tiles.json"
    words = ["tune", str(tmp_path / "model"), "--target", "x86", "--rounds", "1", "-o", str(table)]
    assert main([*words, "--format", "json"]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert {row["shape"] for row in rows if row["kept"]} == set(read_tiles(table, "avx2"))
    assert all(row["shape"] in captured.err for row in rows)  # progress names each shape
    assert json.loads(table.read_text())["target"] == "x86"


def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tmp_path / "none.pt"), "--target", "x86"]) == 2
    assert "no such model or artefact" in capsys.readouterr().err
    (tmp_path / "m.pt").touch()
    assert main(["tune", str(tmp_path / "m.pt"), "--target", "x86", "--key", "pi"]) == 2
    assert "--rpc and --key belong together" in capsys.readouterr().err
