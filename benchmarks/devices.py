"""Every target: what its artefact weighs, whether it computes the same, and how many instructions a frame takes.

    python benchmarks/devices.py [-o benchmarks/results/devices.json] [--only NAME ...]

No board is at hand, so nothing is timed. Instructions are counted: under qemu by a plugin (`count_instructions.c`), for
WebAssembly as the fuel that wasmtime burns, which is one unit for most instructions. A count is the difference between
a run of three frames and one of two, and comes out the same but for about a thousand that print the time.

`instructions_per_frame` is the body branch of the full-size network (a ResNet-50 of 256 x 192, seeded weights) in
BiDRN form, with every default; `fp32_instructions_per_frame` the same branch in full precision, compiled for the same
CPU with the same kind of kernels. `parts` has it without the stem and the shortcuts, which are in 8 bits
(`binary_layers`; drivers with symbols tell which function an instruction belongs to), and with its four shortcuts
binary as well (`binary_shortcuts`), which BiDRN does not have. x86 is not counted: `run.py` times it.

All other fields are the embedded binary model's: `executed`, `binary_exact`, `int8_exact` and `max_abs_error` those of
`bhpe-compile verify`, and in `embedded` its own instructions, beside those of the embedded full-precision model. That
network has a third of the channels, and gains far less.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor, nn

import bhpe_compile
from bhpe_compile.artifact import link
from bhpe_compile.artifact.manifest import library_name, load_manifest
from bhpe_compile.artifact.toolchain import zig_cc
from bhpe_compile.check.verify import verify
from bhpe_compile.compiler.compile import compile_graph, compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.files import write_atomically
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, freeze, trace
from bhpe_compile.processes import child_environment
from bhpe_compile.runtime.emulate import emulator_command
from bhpe_compile.runtime.machine import DRIVER, WEIGHTS
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.wasi import run_wasi
from bhpe_compile.targets import Target, get_target

HERE = Path(__file__).parent
DATA = Path(bhpe_compile.__file__).parent / "data"
TARGETS = ("x86", "arm", "arm-a53", "arm-a76", "armv7", "riscv64", "riscv64-v", "wasm32")
GAINS = {"arm": (9.0, 12.0), "arm-a53": (9.0, 12.0), "arm-a76": (9.0, 12.0), "armv7": (6.0, 9.0)}
"""Target -> must and aim: instructions of the full-precision body over those of the binary one."""

SHORTCUTS = ("*.downsample.0",)
"""Layers of the body that BiDRN leaves in full precision, but other binary networks do not."""

FP32 = CompileOptions(target="", scheme="float", residual="fp32")

Counts = dict[str, int]
"""Function -> instructions executed in it; "?" where functions have no names."""

Count = Callable[[Path, list[str]], Counts]
"""(artefact, arguments of its driver) -> what was executed."""


def under_qemu(target: Target, tools: Path) -> Count:
    """Counts with the plugin, which is built once."""
    plugin = tools / "count.so"
    if not plugin.exists():
        source = str((HERE / "count_instructions.c").resolve())
        zig_cc(["-shared", "-fPIC", "-O2", "-Wl,-undefined,dynamic_lookup", source, "-o", plugin.name], tools)
    command = emulator_command(target.emulator or "")
    if command is None:
        raise SystemExit(f"{target.emulator} is missing: install Debian's qemu-user")

    def count(artifact: Path, arguments: list[str]) -> Counts:
        words = [*command, "-d", "plugin", "-plugin", str(plugin), f"./{DRIVER}", *arguments]
        done = subprocess.run(
            words, cwd=artifact, env=child_environment(), capture_output=True, text=True, check=True
        )
        lines = re.findall(r"^executed (\d+) (\S+)", done.stderr + done.stdout, re.MULTILINE)
        return {name: int(number) for number, name in lines}

    return count


def in_wasmtime(artifact: Path, arguments: list[str]) -> Counts:
    """The fuel that a run burns."""
    from wasmtime import Config, Engine, Module, Store

    config = Config()
    config.consume_fuel = True
    engine = Engine(config)
    store, full = Store(engine), 1 << 60
    store.set_fuel(full)
    complaint = run_wasi(
        store, Module.from_file(engine, str(artifact / DRIVER)), artifact, [DRIVER, *arguments]
    )
    if complaint:
        raise SystemExit(f"{artifact}: {complaint}")
    return {"?": full - store.get_fuel()}


def instructions(count: Count, artifact: Path) -> Counts:
    """Of one frame."""
    two, three = (count(artifact, [WEIGHTS, "--time", str(runs)]) for runs in (1, 2))
    return {name: number - two.get(name, 0) for name, number in three.items()}


def total(counts: Counts) -> int:
    """In all functions."""
    return sum(counts.values())


class Body(nn.Module):
    """The body's trunk with a named output, as the compiler wants it."""

    def __init__(self, model: Hand4Whole) -> None:
        super().__init__()
        self.backbone = model.backbone

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"features": self.backbone(image)}


def measure(target: Target, folder: Path) -> dict[str, Any]:
    """One row of the result."""
    tell(f"{target.name}: compile")
    binary, full = folder / f"{target.name}-binary", folder / f"{target.name}-fp32"
    options = CompileOptions(target=target.name)
    compile_model(DATA / "model-bidrn.pt", binary, options)
    tell(f"{target.name}: verify")
    checked = verify(binary)
    row: dict[str, Any] = {
        "executed": checked.executed,
        "verified": checked.ok,
        "binary_exact": checked.binary_exact,
        "int8_exact": checked.int8_exact,
        "max_abs_error": checked.max_abs_error,
        "library_bytes": (binary / library_name(load_manifest(binary))).stat().st_size,
        "weights_bytes": (binary / WEIGHTS).stat().st_size,
        "driver_bytes": (binary / DRIVER).stat().st_size,
        "memory_bytes": sum(load_manifest(binary)["memory"][name] for name in ("arena", "workspace")),
        "instructions_per_frame": None,
        "fp32_instructions_per_frame": None,
    }
    if target.emulator is None:
        return row
    count = in_wasmtime if target.emulator == "wasmtime" else under_qemu(target, folder)
    tell(f"{target.name}: count")
    compile_model(DATA / "model.pt", full, replace(FP32, target=target.name))
    row["embedded"] = gain(total(instructions(count, full)), total(instructions(count, binary)))
    return row | body(target, count, folder)


def gain(full: int, binary: int, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Two counts, their ratio, and whether it is what it must be."""
    row: dict[str, Any] = {
        "instructions_per_frame": binary,
        "fp32_instructions_per_frame": full,
        "ratio": round(full / binary, 2),
    }
    if limits is not None:
        must, aim = limits
        row |= {"must": must, "aim": aim, "held": full / binary >= must}
    return row


def body(target: Target, count: Count, folder: Path) -> dict[str, Any]:
    """Instructions of the full-size body branch, binary and in full precision; parts where there is a goal."""
    network = initialise(Hand4Whole(FULL), 0)
    picture = np.random.default_rng(3).random((1, 3, *network.preset.body), np.float32)
    model = Body(network).eval()
    limits = GAINS.get(target.name)
    graphs = {"binary": freeze(binarize(model, BinarizeOptions())[0]), "fp32": freeze(trace(model))}
    if limits is not None:
        graphs["shortcuts"] = freeze(binarize(model, BinarizeOptions(binarize=SHORTCUTS))[0])
    found, core = {}, {}
    for name, graph in graphs.items():
        tell(f"{target.name}: {name} body")
        out = folder / f"{target.name}-body-{name}"
        kind = replace(FP32, target=target.name) if name == "fp32" else CompileOptions(target.name)
        with mock.patch.object(link, "LINK", [word for word in link.LINK if word != "-s"]):
            compile_graph(graph, {"image": picture}, out, kind)
        counts = instructions(count, out)
        found[name] = total(counts)
        if limits is not None:
            core[name] = total(counts) - dense(counts, out)
    row = gain(found["fp32"], found["binary"], limits)
    if limits is not None:
        row["parts"] = {
            "binary_layers": gain(core["fp32"], core["binary"], limits),
            "binary_shortcuts": gain(found["fp32"], found["shortcuts"], limits),
        }
    return row


def dense(counts: Counts, artifact: Path) -> int:
    """Instructions in kernels of layers that are not binary: the stem and the shortcuts."""
    rows = json.loads((artifact / "report.json").read_bytes())["layers"]
    role_of = {row["name"]: row["role"] for row in rows}
    with open_session(artifact) as session:
        roles: dict[str, set[str]] = {}
        for step in session.steps:
            if step.layer:
                roles.setdefault(step.symbol, set()).add(role_of.get(step.layer, "head"))
    names = [symbol for symbol, found in roles.items() if found <= {"stem", "shortcut"}]
    return sum(
        number for name, number in counts.items() if any(f"{symbol}_compute_" in name for symbol in names)
    )


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "devices.json")
    arguments = parser.parse_args()
    rows = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        for target in arguments.only:
            rows[target] = measure(get_target(target), Path(name))
            write_atomically(arguments.output, (json.dumps(rows, indent=1, sort_keys=True) + "\n").encode())
    print(json.dumps(rows, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
