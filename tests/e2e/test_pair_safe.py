"""Everything that takes an artefact takes one with pair-safe weights, by the kernels that it has, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bhpe_compile.passes.lower.byte_pairs import fitted_target
from bhpe_compile.report.artifact import read_artifact
from bhpe_compile.report.balance import balance_of
from bhpe_compile.report.report import isa_of, target_of
from bhpe_compile.targets import get_target, host_runs
from bhpe_compile.targets.isa import AVX2, AVX2_BYTES
from tests.check.artefacts import damaged
from tests.command import inside
from tests.onnx_graphs import mobile, save

WORDS = "pmaddubsw, pair-safe weights"

HERE = pytest.mark.skipif(not host_runs(get_target("x86")), reason="this machine does not run x86 code")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file and its artefacts for AVX2, `plain` and `pairs`."""
    place = tmp_path_factory.mktemp("pairs")
    save(mobile(), place / "net.onnx")
    (port,) = onnx.load(place / "net.onnx").graph.input
    shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
    shown = np.random.default_rng(0).uniform(-1, 1, [3, *shape[1:]]).astype(np.float32)
    np.savez(place / "shown.npz", **{port.name: shown})
    np.save(place / "one.npy", shown[:1])
    for name, more in (("plain", ()), ("pairs", ("--pair-safe",))):
        words = ("net.onnx", "--target", "x86", "--calibrate", "shown.npz", "-o", name, "-q")
        outcome = inside(*words, *more, cwd=place)
        assert outcome.code == 0, outcome.stderr
    return place


def answer(folder: Path, *words: str) -> Any:
    """What a command prints as JSON."""
    outcome = inside(*words, "--format", "json", "-q", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


@HERE
def test_run_and_verify(folder: Path) -> None:
    outcome = inside("run", "pairs", "--input", "image=one.npy", "-o", "out.npz", cwd=folder)
    assert outcome.code == 0, outcome.stderr
    verified = answer(folder, "verify", "pairs", "--model", "net.onnx")
    assert (verified["ok"], verified["int8_exact"], verified["int8_layers"]) == (True, True, 10)
    assert verified["remade"] is True  # with the option, which the manifest tells


@HERE
def test_bisect_finds_a_wrong_weight_between_right_ones(folder: Path, tmp_path: Path) -> None:
    assert inside("verify", "pairs", "--bisect", cwd=folder).code == 0
    wrong = damaged(folder / "pairs", tmp_path / "wrong", "narrow", "weight", mask=1)
    outcome = inside("verify", wrong, "--bisect")
    assert outcome.code == 4
    assert "weights.bin" in outcome.stdout
    assert "weight of narrow" in outcome.stdout


def test_explain_says_how_weights_are_multiplied(folder: Path) -> None:
    told = {one["name"]: one["products"] for one in answer(folder, "explain", "pairs")}
    assert told["narrow"] == WORDS
    assert set(told.values()) == {WORDS, ""}  # depthwise layers have an instruction of their own
    assert WORDS in inside("explain", "pairs", "narrow", cwd=folder).stdout
    assert answer(folder, "explain", "plain", "narrow")[0]["products"] == "pmaddwd"


def test_report_and_compare_say_so(folder: Path) -> None:
    assert answer(folder, "report", "pairs")["products"] == WORDS
    assert WORDS in inside("report", "pairs", cwd=folder).stdout
    found = answer(folder, "compare", "plain", "pairs")
    assert [one["products"] for one in found["subjects"]] == ["pmaddwd", WORDS]
    assert WORDS in inside("compare", "plain", "pairs", cwd=folder).stdout
    refused = inside("report", "pairs", "--pair-safe", cwd=folder)
    assert (refused.code, "--pair-safe is for checkpoints" in refused.stderr) == (2, True)


def test_a_report_reckons_with_the_code_that_is_there(folder: Path) -> None:
    pairs, plain = read_artifact(folder / "pairs"), read_artifact(folder / "plain")
    assert (isa_of(pairs), isa_of(plain)) == (AVX2_BYTES, AVX2)
    faster, slower = balance_of(pairs.llvm, isa_of(pairs)), balance_of(plain.llvm, isa_of(plain))
    assert faster is not None
    assert slower is not None
    assert faster.int8 > slower.int8
    assert (faster.binary, faster.floats) == (slower.binary, slower.floats)


@HERE
def test_bench_says_so(folder: Path) -> None:
    assert answer(folder, "bench", "pairs", "--rounds", "1", "--per-layer")["products"] == WORDS
    assert WORDS in inside("bench", "pairs", "--rounds", "1", "-q", cwd=folder).stdout


@HERE
def test_tune_takes_file_and_artefact(folder: Path) -> None:
    """Shapes with a choice of tiles are those of float and binary layers."""
    words = ("tune", "net.onnx", "--target", "x86", "--rounds", "1", "-o", "t.json")
    floats = answer(folder, *words, "--scheme", "float")
    assert floats
    assert all(one["shape"].startswith("dense") for one in floats)
    assert answer(folder, *words, "--pair-safe", "--calibrate", "shown.npz") == answer(
        folder, "tune", "pairs", "--target", "x86", "-o", "t.json"
    )
    refused = inside(*words, "--pair-safe", "--scheme", "float", cwd=folder)
    assert (refused.code, "--pair-safe is for 8-bit weights" in refused.stderr) == (2, True)


def test_what_is_foretold(folder: Path) -> None:
    words = ("report", "--network", "hand4whole:tiny", "--scheme", "int8")
    plain, pairs = answer(folder, *words), answer(folder, *words, "--pair-safe")
    assert (plain["products"], pairs["products"]) == ("pmaddwd", WORDS)
    assert pairs["bytes"]["layers"] > plain["bytes"]["layers"]  # sums begin with the levels' shift
    assert answer(folder, *words[:-1], "float")["products"] is None


def test_the_target_of_an_artefact_is_the_one_its_weights_fit(folder: Path) -> None:
    from bhpe_compile.compiler.pipeline import Compilation

    target = target_of(read_artifact(folder / "pairs"))
    assert target == get_target("x86").in_pairs
    again = Compilation.of_artifact(folder / "pairs", target)
    assert again.fitted == target
    assert fitted_target(again.kernels, get_target("x86"))[0] == target
