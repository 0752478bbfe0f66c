"""AArch64 figures of the binary convolution's inner loop, without a board.

    python benchmarks/arm.py [-o arm.json] [--llvm-mca PATH]

The kernel (3x3, 256 to 256 channels at 16x12, bits out) is compiled as the package ships it, linked into a static
program and executed by unicorn, which counts every instruction: the difference between a run with two calls and one
with one call is one call. Its inner loop is where the largest counts are. llvm-mca predicts that loop's cycles for
the CPU the target is scheduled for. A multiply-accumulate is one bit of one sum: `cnt` on a register counts 128.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bhpe_compile.files import write_atomically
from bhpe_compile.kernels import BinaryConv2d, Epilogue
from bhpe_compile.processes import child_environment, find_program
from bhpe_compile.targets import Target, get_target

KERNEL = BinaryConv2d(1, 16, 12, 256, 256, 3, 1, 1, 1, Epilogue(store=False, bits=True, bits_border=1))
MACS = 16 * 12 * 256 * 256 * 9

CPUS = {"arm-a53": "cortex-a53", "arm": "cortex-a72", "arm-a76": "neoverse-n1"}
"""Target -> llvm-mca's name of its CPU. The Neoverse N1 is the Cortex-A76 of servers."""

MUST = {"mac_per_instruction": 32.5, "cortex-a53": 25, "cortex-a72": 72, "neoverse-n1": 72}
AIM = {"mac_per_instruction": 35, "cortex-a53": 31, "cortex-a72": 80, "neoverse-n1": 80}

BRANCH = re.compile(r"b\.[a-z]+\t|cbn?z\t|tbn?z\t")
REGISTER_BITS = 128
ITERATIONS = 200


def find_mca() -> str | None:
    """The newest llvm-mca: newer ones model more CPUs, and the kernels come from LLVM 22."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 13, -1)), "llvm-mca"]
    return next((found for found in map(find_program, names) if found), None)


def build(target: Target) -> tuple[bytes, str, str]:
    """Object code of the kernel, its assembly, and the CPU that LLVM scheduled it for."""
    import tvm

    from bhpe_compile.passes.lower.codegen import build_library

    functions = {KERNEL.symbol(): KERNEL.prim_func(target.isa)}
    library, _ = build_library(functions, tvm.target.Target(dict(target.llvm)), scheduled=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        library.write_to_file(str(path))
        code = path.read_bytes()
    cpus = set(re.findall(r'"target-cpu"="([^"]+)"', library.inspect_source("ll")))
    return code, library.inspect_source("asm"), "+".join(sorted(cpus))


def inner_loop(assembly: str) -> list[str]:
    """The instructions of the block that branches back to itself and counts most bits."""
    loops = []
    for block in re.split(r"\n(?=\.LBB)", assembly):
        label = block.partition(":")[0]
        lines = [line.strip() for line in block.splitlines() if re.match(r"\t[a-z]", line)]
        ends = [i for i, line in enumerate(lines) if BRANCH.match(line) and line.endswith(label)]
        if ends:
            loops.append(lines[: ends[0] + 1])
    return max(loops, key=_count_cnt, default=[])


def _count_cnt(lines: Sequence[str]) -> int:
    return sum(line.split()[0] == "cnt" for line in lines)


def executed(target: Target, code: bytes) -> Counter[int]:
    """Address -> how often its instruction is executed in one call of the kernel."""
    from bhpe_compile.artifact.toolchain import zig_cc

    sizes = [prod(p.shape) * np.dtype(p.dtype).itemsize for p in KERNEL.parameters(target.isa)]
    defines = [f"-DKERNEL=__tvm_ffi_{KERNEL.symbol()}", f"-DTENSORS={','.join(map(str, sizes))}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.o").write_bytes(code)
        source = str(Path(__file__).with_suffix(".c").resolve())
        words = [*target.zig_driver, "-O1", "-s", *defines, source, "kernel.o", "-o", "program"]
        zig_cc(words, folder)
        once, twice = _run(folder, 1), _run(folder, 2)
    return twice - once


def _run(folder: Path, calls: int) -> Counter[int]:
    """Execute the program; blocks are counted, then spread over their instructions."""
    from unicorn import UC_HOOK_BLOCK

    from bhpe_compile.runtime.unicorn_linux import Process

    blocks: Counter[tuple[int, int]] = Counter()

    def enter(_: object, address: int, size: int, __: object) -> None:
        blocks[address, size] += 1

    process = Process(folder, "program", ["x"] * calls)
    process.unicorn.hook_add(UC_HOOK_BLOCK, enter)
    process.run()
    counts: Counter[int] = Counter()
    for (address, size), times in blocks.items():
        for place in range(address, address + size, 4):
            counts[place] += times
    return counts


def hottest(counts: Counter[int]) -> tuple[int, int]:
    """(instructions, executions) of the loop: the longest run of addresses that share the largest count."""
    most = max(counts.values())
    places = sorted(place for place, times in counts.items() if times == most)
    length = longest = 1
    for before, after in pairwise(places):
        length = length + 1 if after == before + 4 else 1
        longest = max(longest, length)
    return longest, most


def predicted_cycles(mca: str, cpu: str, lines: Sequence[str]) -> float:
    """Cycles of one iteration of the loop."""
    command = [mca, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    done = subprocess.run(
        command,
        input="\n".join(lines) + "\n",
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if found is None:
        raise SystemExit(f"{mca}: {done.stderr.strip() or 'no cycles in its answer'}")
    return int(found[1]) / ITERATIONS


def mca_version(mca: str) -> str:
    """The line of `llvm-mca --version` that names LLVM."""
    text = subprocess.run(
        [mca, "--version"], env=child_environment(), capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"LLVM version (\S+)", text)
    return found[1] if found else "unknown"


def measure_target(target: Target, mca: str | None) -> dict[str, Any]:
    """The figures of one target; those whose tool is missing are left out."""
    code, assembly, cpu = build(target)
    lines = inner_loop(assembly)
    work = REGISTER_BITS * _count_cnt(lines)
    result: dict[str, Any] = {
        "scheduled_for": cpu,
        "tile": list(target.isa.binary_tile),
        "loop_instructions": len(lines),
        "loop_macs": work,
        "loop_mnemonics": dict(Counter(line.split()[0] for line in lines).most_common()),
    }
    if find_spec("unicorn") is not None and find_spec("ziglang") is not None:
        counts = executed(target, code)
        length, times = hottest(counts)
        if length != len(lines):
            raise SystemExit(
                f"{target.name}: the hottest loop has {length} instructions, the assembly {len(lines)}"
            )
        result["executed"] = {
            "loop_iterations": times,
            "loop_macs_of_all": work * times / MACS,
            "loop_instructions_of_all": length * times / counts.total(),
            "instructions": counts.total(),
            "mac_per_instruction_loop": work / length,
            "mac_per_instruction_kernel": MACS / counts.total(),
        }
    if mca is not None:
        cycles = predicted_cycles(mca, CPUS[target.name], lines)
        result["mca"] = {"cpu": CPUS[target.name], "cycles": cycles, "mac_per_cycle": work / cycles}
    return result


def measure(mca: str | None = None) -> dict[str, Any]:
    """All figures. `missing` names the tools without which some of them are null."""
    mca = mca or find_mca()
    tools = {"llvm-mca": mca, "unicorn": find_spec("unicorn"), "ziglang": find_spec("ziglang")}
    targets = {name: measure_target(get_target(name), mca) for name in CPUS}
    counted = [t["executed"]["mac_per_instruction_loop"] for t in targets.values() if "executed" in t]
    return {
        "kernel": KERNEL.symbol(),
        "mac_per_instruction": round(min(counted), 2) if counted else None,
        "mca_mac_per_cycle": {
            t["mca"]["cpu"]: round(t["mca"]["mac_per_cycle"], 1) for t in targets.values() if "mca" in t
        }
        or None,
        "missing": [name for name, found in tools.items() if found is None],
        "llvm_mca": mca_version(mca) if mca else None,
        "must": MUST,
        "aim": AIM,
        "targets": targets,
    }


def main() -> None:
    """Print the figures, and write them where asked. Exit code 1 when a tool is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--llvm-mca", help="the program to use instead of the newest on PATH")
    options = parser.parse_args()
    result = measure(options.llvm_mca)
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        write_atomically(options.output, f"{text}\n".encode())
    if result["missing"]:
        sys.exit(f"missing: {', '.join(result['missing'])} (llvm-mca: Debian package llvm; the others: pip)")


if __name__ == "__main__":
    main()
