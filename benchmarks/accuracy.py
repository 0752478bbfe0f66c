"""Accuracy of the shipped models and of what they are compared with, on the open test set.

    python benchmarks/accuracy.py --models training [--count 1000] [--seed 0] [--calibrate PICTURE]

`--models` is the folder `make train` filled: model.pt (full precision), bidrn-alike.pt, bnn.pt and reactnet.pt
(distilled alike), bidrn.pt (gone on from the first of them), bidrn-still.pt (gone on from that one, until it held
still), and bidrn-all.pt, from before its narrow stages went back to 8 bits. The rows: the mean pose; full precision;
`naive`, binarized as BiDRN without any training; the binary networks in torch, their remainder in float32, `bidrn_all`
with every core layer binary; and bidrn.pt with every default (dense layers in 8 bits, float16 residuals), frozen as it
ships and compiled for this machine, which are the same. Every figure is the mean over the people, with a bootstrap
interval; `differences` are taken person by person.
`bhpe-compile eval` on the same files and the same people gives the same figures.

A binary network whose file is not there (other than bidrn.pt) keeps its row and its differences from the last result.
`kept` lists such rows with the data they were measured on: another machine builds and draws people who differ in the
last bits, so the hashes may differ, but full precision must come out the same within half a percent.

`jitter` is how far answers move under what nobody sees, and in drawn films (`evaluate/jitter.py`), of full precision,
of bidrn.pt and bidrn-still.pt compiled for this machine, and of bidrn-all.pt, where they are there. `--part jitter`
measures that alone and leaves the rest of the file as it is.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from common import Progress

from bhpe_compile.compiler.compile import compile_model, finish
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.evaluate.data import SYNTH, open_films, open_people
from bhpe_compile.evaluate.evaluate import Evaluation, evaluate
from bhpe_compile.evaluate.jitter import jitter
from bhpe_compile.evaluate.mean_pose import mean_pose
from bhpe_compile.evaluate.metrics import interval, mean
from bhpe_compile.evaluate.subjects import FrozenSubject, Subject, open_artifact
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.search.layers.stages import binarized, full_precision

HERE = Path(__file__).parent
FIGURES = ("mpvpe", "pa_mpvpe", "mpjpe", "pa_mpjpe", "hands_mpvpe", "face_mpvpe")
BINARY = ("bnn", "reactnet", "bidrn_alike", "bidrn_all", "bidrn_still", "bidrn")
"""Rows; their files have a hyphen for the underscore."""

ALIKE = ("bnn", "reactnet")
"""Rows that are compared with `bidrn_alike`, person by person."""

NEAR = 0.005
"""By how much the same people, built and drawn by another machine, may differ in full precision."""

LIMITS = {
    "full_precision / mean_pose, mpvpe": (0.42, 0.35),
    "bidrn / full_precision, mpvpe": (1.08, 1.03),
    "bidrn / full_precision, hands_mpvpe": (1.20, 1.10),
    "bidrn / full_precision, face_mpvpe": (1.25, 1.10),
    "bidrn_still / full_precision, mpvpe": (1.08, 1.03),
    "bidrn_still / full_precision, hands_mpvpe": (1.20, 1.10),
    "bidrn_all / full_precision, mpvpe": (1.20, 1.10),
    "compiled - frozen, mpvpe": (0.001, 0.0),
    "bidrn_alike / bnn, mpvpe": (1.0, 1.0),
    "bidrn_alike / reactnet, mpvpe": (1.0, 1.0),
}
"""Name -> must, aim."""

STILL = {
    f"{row}{figure}": limits
    for row in ("bidrn", "bidrn_still")
    for figure, limits in {
        ", one_level, mesh_mm": (12.0, 6.0),
        ", one_level, box_px": (2.0, 0.7),
        " / full_precision, film, mesh_mm": (2.0, 1.3),
    }.items()
}
"""The same of medians of the jitter, of rows that are there."""


def binary_files(models: Path) -> dict[str, Path]:
    """The binary networks in the folder, by row; bidrn.pt must be there."""
    files = {row: models / f"{row.replace('_', '-')}.pt" for row in BINARY}
    return {row: path for row, path in files.items() if row == "bidrn" or path.exists()}


def measure(models: Path, count: int, seed: int, calibrate: tuple[Path, ...]) -> Evaluation:
    """All rows over the same people."""
    tell = Progress()
    examples = open_people(SYNTH, count, seed, None, lambda _, done: tell("people", done))
    teacher = load_model(models / "model.pt")
    naive = CompileOptions(target="", scheme="bidrn")
    subjects: list[Subject] = [
        mean_pose(examples.bodies.body.source),
        full_precision(teacher, "full_precision"),
        binarized(load_model(models / "model.pt"), naive, "naive"),
    ]
    subjects += [binarized(load_model(path), None, row) for row, path in binary_files(models).items()]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = CompileOptions(target="native", calibrate=calibrate)
        compilation = Compilation.of_loaded(load_model(models / "bidrn.pt"), options)
        finish(compilation, folder / "compiled")
        interface = compilation.interface
        subjects.append(FrozenSubject("frozen", compilation.frozen_outputs, interface))
        subjects.append(stack.enter_context(open_artifact(folder / "compiled", "compiled")))
        return evaluate(subjects, examples, lambda done: tell("evaluated", done / count))


def measure_jitter(models: Path, count: int, seed: int) -> dict[str, Any]:
    """Row -> perturbation -> quantity -> median, mean, 90 %."""
    tell = Progress()
    examples = open_people(SYNTH, count, seed, None, lambda _, done: tell("people", done))
    films = open_films(examples, SYNTH, seed)
    assert films is not None
    total = count + films.count
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subjects: list[Subject] = [full_precision(load_model(models / "model.pt"), "full_precision")]
        files = binary_files(models)
        for row in ("bidrn", "bidrn_still"):
            if row in files:
                compile_model(files[row], folder / row, CompileOptions(target="native"))
                subjects.append(stack.enter_context(open_artifact(folder / row, row)))
        if "bidrn_all" in files:
            subjects.append(binarized(load_model(files["bidrn_all"]), None, "bidrn_all"))
        rows = jitter(subjects, examples, films, seed, lambda done: tell("jitter", done / total))
    return {row.name: _rounded(row.figures()) for row in rows}


def _rounded(values: Any) -> Any:
    return (
        {name: _rounded(value) for name, value in values.items()}
        if isinstance(values, dict)
        else round(values, 3)
    )


def summarise(result: Evaluation, seed: int, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The contract's JSON: figures and intervals by row, ratios beside what they must be.

    `before` is an earlier one, whose rows stand in for binary networks that were not measured.
    """
    names = {"mean pose": "mean_pose"}
    rows = {
        names.get(row.name, row.name): {
            **{figure: round(row.figures()[figure], 3) for figure in FIGURES},
            "interval": {figure: [round(v, 2) for v in row.interval(figure, seed)] for figure in FIGURES},
        }
        for row in result.rows
    }
    differences = _differences(result, seed)
    kept: dict[str, Any] = {}
    for row in (row for row in BINARY if row not in rows):
        if before is None or row not in before["rows"]:
            raise SystemExit(f"{row}: neither a file nor a row of an earlier result")
        _require_same_people(before, rows, result.data.count, seed)
        rows[row] = before["rows"][row]
        kept[row] = before.get("kept", {}).get(row, before["data"])
        differences |= {
            name: value for name, value in before["differences"].items() if name.startswith(f"{row} - ")
        }
    return {
        "test_images": result.data.count,
        "seeds": [seed],
        "interval": "bootstrap, 95 %",
        "data": vars(result.data).copy(),
        "rows": rows,
        "kept": kept,
        "limits": _limits(rows),
        "differences": differences,
    }


def still_limits(measured: dict[str, Any]) -> dict[str, Any]:
    """Of `measure_jitter`, what `STILL` says, and whether what must be is held."""
    found = {}
    for name, (must, aim) in STILL.items():
        rows, change, quantity = name.split(", ")
        if not set(rows.split(" / ")) <= set(measured):
            continue
        first, *others = (measured[row][change][quantity]["median"] for row in rows.split(" / "))
        value = first / others[0] if others else first
        found[name] = {"value": round(value, 4), "must": must, "aim": aim, "held": value <= must}
    return found


def _require_same_people(before: dict[str, Any], rows: dict[str, Any], count: int, seed: int) -> None:
    """SystemExit where rows of `before` do not belong beside these."""
    then, now = (one["full_precision"]["mpvpe"] for one in (before["rows"], rows))
    if (before["test_images"], before["seeds"]) != (count, [seed]) or abs(then - now) > NEAR * now:
        raise SystemExit(
            f"the earlier result is of other people: full precision {then} mm there, {now} mm here"
        )


def _limits(rows: dict[str, Any]) -> dict[str, Any]:
    """The ratios and differences of `LIMITS`, and whether what must be is held."""
    found = {}
    for name, (must, aim) in LIMITS.items():
        pair, figure = name.split(", ")
        first, operator, second = pair.split()
        a, b = rows[first][figure], rows[second][figure]
        value = a / b if operator == "/" else abs(a - b)
        found[name] = {"value": round(value, 4), "must": must, "aim": aim, "held": value <= must}
    return found


def _differences(result: Evaluation, seed: int) -> dict[str, Any]:
    """How much worse than BiDRN the networks trained alike are, with intervals; nothing for those not measured."""
    measured = {row.name: row.errors for row in result.rows}
    found = {}
    for name in ALIKE:
        if name not in measured or "bidrn_alike" not in measured:
            continue
        for figure in FIGURES:
            apart = measured[name][figure] - measured["bidrn_alike"][figure]
            low, high = interval(apart, seed)
            found[f"{name} - bidrn_alike, {figure}"] = {
                "value": round(mean(apart), 3),
                "interval": [round(low, 2), round(high, 2)],
            }
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("all", "jitter"), default="all")
    parser.add_argument("--calibrate", type=Path, action="append", default=[], help="a picture; repeatable")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "accuracy.json")
    arguments = parser.parse_args()
    output: Path = arguments.output
    before = json.loads(output.read_text()) if output.exists() else None
    if arguments.part == "all":
        result = measure(arguments.models, arguments.count, arguments.seed, tuple(arguments.calibrate))
        summary = summarise(result, arguments.seed, before)
    else:
        if before is None:
            raise SystemExit(f"{output}: no earlier result, so there is nothing to add the jitter to")
        summary = before
    summary["jitter"] = measure_jitter(arguments.models, arguments.count, arguments.seed)
    summary["limits"] |= still_limits(summary["jitter"])
    print(json.dumps(summary, indent=1))
    write_atomically(output, (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
