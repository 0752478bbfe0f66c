"""Bytes of a small artefact, by hand; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bhpe_compile.artifact import write_artifact
from bhpe_compile.artifact.program import Program
from bhpe_compile.errors import InputError
from bhpe_compile.report.artifact import Artifact, read_artifact
from bhpe_compile.report.compiled import compile_report
from bhpe_compile.report.cost import FLOAT16, LINEAR, Layer
from bhpe_compile.report.report import report_artifact
from tests.artifact.folders import HOST
from tests.artifact.programs import COLUMNS, DEPTH, small_program
from tests.passes.lower.graphs import Builder

WEIGHT, BIAS = 4 * DEPTH * COLUMNS, 4 * COLUMNS
GAP = 192 - BIAS  # the bias is padded to whole 64 bytes


def facts(program: Program) -> dict[str, Any]:
    """A report.json of the small program: one layer that owns the matrix; generated code reads the bias."""
    b = Builder()
    made = compile_report(b.build(b.dense_conv(b.input("image", (1, 8, 4, 4)), "x", 8, 8)), program, [], {})
    layer = Layer("body.first", LINEAR, FLOAT16, 960, 3840, DEPTH, COLUMNS, (1, 1), 4 * DEPTH, 4 * COLUMNS)
    made["layers"] = [layer.to_row()]
    return made


def write(folder: Path, change: Any = lambda report: None) -> Path:
    program = small_program(HOST)
    report = facts(program)
    change(report)
    write_artifact(folder, program, HOST, b"onnx", report, None, {}, force=True)
    return folder


def parts(artifact: Artifact) -> dict[str, int]:
    return {part.part: part.nbytes for part in artifact.parts if part.file == "weights.bin"}


def test_weights_by_owner(tmp_path: Path) -> None:
    artifact = read_artifact(write(tmp_path / "a"))
    assert parts(artifact) == {
        "header": 64,
        "layer": WEIGHT,
        "shared by several layers": 0,
        "other kernels and generated code": BIAS,
        "alignment": GAP,
    }
    assert artifact.costs.layers[0].nbytes == WEIGHT
    assert artifact.costs.layers[0].kernels == ("DenseLinear",)
    assert artifact.files == {path.name: path.stat().st_size for path in artifact.path.iterdir()}


def test_a_constant_of_two_owners_is_shared(tmp_path: Path) -> None:
    def share(report: dict[str, Any]) -> None:
        report["steps"][1]["constants"].append(["weight", 0, WEIGHT])

    found = parts(read_artifact(write(tmp_path / "a", share)))
    assert (found["layer"], found["shared by several layers"]) == (0, WEIGHT)
    assert sum(found.values()) == (tmp_path / "a" / "weights.bin").stat().st_size


def test_a_graph_without_preset_is_compared_with_itself_in_float32(tmp_path: Path) -> None:
    report = report_artifact(write(tmp_path / "a"))
    assert (report.preset, report.paper) == (None, None)
    assert report.before.weights()["float32"] == report.after.weights()["float16"] == 960
    assert report.before_bytes == 4 * 960
    json.dumps(report.to_json())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r.pop("layers"), "'layers' is missing"),
        (lambda r: r["steps"][0].pop("constants"), "'constants' is missing"),
        (lambda r: r["steps"][0]["constants"].append(["w", 1 << 20, 1 << 40]), "more constants than"),
        (lambda r: r.update(notes=[3]), "not iterable"),
        (lambda r: r.update(model=[1]), "no attribute"),
        (lambda r: r["layers"][0].update(kernel=3), "unpack"),
    ],
)
def test_a_report_that_does_not_fit_is_one_line(tmp_path: Path, change: Any, what: str) -> None:
    folder = write(tmp_path / "a", change)
    with pytest.raises(InputError, match="is damaged or of an earlier version") as caught:
        read_artifact(folder)
    assert what in str(caught.value)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "bhpe.h").write_text("changed")
    with pytest.raises(InputError, match=r"bhpe\.h: has 7 bytes"):
        read_artifact(folder)
