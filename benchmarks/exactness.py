"""How many values differ between torch, ONNX Runtime and the compiled library, on every target.

    python benchmarks/exactness.py [--pictures 200] [--emulated 20] [--targets x86,arm,...] [--models bidrn,int8]

The embedded models (`model-bidrn.pt`, and `model.pt` in 8 bits) are compiled for every target and run on drawn people.
Compared are, for every picture, the signs and levels that every binary and 8-bit layer reads, and every output: torch
(the folded graph) and the compiled library against ONNX Runtime on model.onnx. A library of this machine runs on 1, 2,
3 and 4 threads; the others run under emulation, on fewer pictures. `values` counts what was compared, `differ` what was
not the same number, which must be 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from common import Progress, report
from numpy.typing import NDArray

import bhpe_compile
from bhpe_compile.artifact.manifest import load_manifest
from bhpe_compile.check.verify.oracle import Oracle, OracleRun
from bhpe_compile.check.verify.verify import watched_steps
from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.evaluate.data import SYNTH, open_people
from bhpe_compile.evaluate.evaluate import Examples
from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.exchange.frozen import Frozen
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.open import open_session

HERE = Path(__file__).parent
DATA = Path(bhpe_compile.__file__).parent / "data"
TARGETS = ("x86", "x86-avx512", "arm", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32")
MODELS = {"bidrn": ("model-bidrn.pt", {}), "int8": ("model.pt", {"scheme": "int8"})}
THREADS = (1, 2, 3, 4)
HERE_PLACE = "in this process"

Array = NDArray[Any]


def pictures(examples: Examples, interface: Interface, count: int) -> Iterator[dict[str, Array]]:
    """The inputs of the first `count` people, one after the other."""
    seen = 0
    for batch in examples:
        for picture in batch.pictures:
            if seen == count:
                return
            seen += 1
            yield dict(network_inputs(interface, picture[None]))


class Tally:
    """Counts of values and of differences."""

    def __init__(self) -> None:
        self.values = self.differ = 0
        self.first: str | None = None

    def add(self, what: str, got: Array, want: Array) -> None:
        """Compare two arrays, number by number."""
        differ = int((got != want).sum()) if got.shape == want.shape else want.size
        self.values += want.size
        self.differ += differ
        if differ and self.first is None:
            self.first = f"{what}: {differ} of {want.size}"

    def row(self) -> dict[str, Any]:
        """Plain data."""
        return {"values": self.values, "differ": self.differ, "first": self.first}


def against_torch(
    frozen: Frozen, oracle: Oracle, feeds: Mapping[str, Array], want: OracleRun, tally: Tally
) -> None:
    """The folded graph in torch."""
    with torch.no_grad():
        values = frozen.run({name: torch.from_numpy(array) for name, array in feeds.items()})
    for name, layer in oracle.layers.items():
        tally.add(name, layer.of_value(values[layer.x].numpy()), want.reads[name])
    for name, array in want.outputs.items():
        tally.add(name, values[name].numpy(), array)


def against_library(
    session: Any, oracle: Oracle, feeds: Mapping[str, Array], want: OracleRun, tally: Tally
) -> None:
    """The compiled library."""
    steps = watched_steps(session, oracle)
    run = session.execute(feeds, taps=[(step.index, step.argument("x")) for step in steps])
    for step in steps:
        memory, read = run.taps[step.index, step.argument("x")], want.reads[step.layer]
        tally.add(step.layer, oracle.layers[step.layer].of_memory(memory, read.shape), read)
    for name, array in want.outputs.items():
        tally.add(name, run.outputs[name], array)


def measure(
    checkpoint: Path, options: CompileOptions, examples: Examples, counts: tuple[int, int]
) -> dict[str, Any]:
    """One model on one target."""
    with tempfile.TemporaryDirectory() as folder:
        artefact = Path(folder) / "model"
        compile_model(checkpoint, artefact, options)
        interface = Interface.from_dict(load_manifest(artefact)["network"])
        oracle = Oracle(onnx.load(artefact / "model.onnx"), interface)
        frozen = Frozen(onnx_ir.load(artefact / "model.onnx"))
        with open_session(artefact) as session:
            here = session.executed == HERE_PLACE
            executed = session.executed
        count = counts[0] if here else counts[1]
        library, in_torch = Tally(), Tally()
        sessions = [open_session(artefact, threads=one) for one in (THREADS if here else (1,))]
        started = time.monotonic()
        for feeds in pictures(examples, interface, count):
            want = oracle.run(feeds)
            against_torch(frozen, oracle, feeds, want, in_torch)
            for session in sessions:
                against_library(session, oracle, feeds, want, library)
        for session in sessions:
            session.close()
    return {
        "executed": executed,
        "pictures": count,
        "threads": list(THREADS if here else (1,)),
        "layers": len(oracle.layers),
        "library": library.row(),
        "torch": in_torch.row(),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Measure, print, write results/exactness.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--emulated", type=int, default=20)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "exactness.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tell = Progress()
    examples = open_people(SYNTH, asked.pictures, 0, None, lambda _, done: tell("people", done))
    result: dict[str, Any] = {"data": "open test set, seed 0", "models": {}}
    for model in asked.models.split(","):
        name, more = MODELS[model]
        rows = result["models"].setdefault(model, {})
        for target in asked.targets.split(","):
            options = CompileOptions(target=target, **more)
            rows[target] = measure(DATA / name, options, examples, (asked.pictures, asked.emulated))
            print(f"{model}, {target}: {rows[target]}", file=sys.stderr, flush=True)
    every = [
        row[part]
        for rows in result["models"].values()
        for row in rows.values()
        for part in ("library", "torch")
    ]
    result["values"], result["differ"] = (sum(one[key] for one in every) for key in ("values", "differ"))
    result["must"] = {"differ": 0, "held": result["differ"] == 0}
    report(result, asked.output)


if __name__ == "__main__":
    main()
