"""How long commands that compile nothing take to answer, Python's start included: the median of interleaved runs.

    python benchmarks/start.py [--rounds 7]

Prints one JSON object: milliseconds on the wall and of the processor. No test asserts them (what shares the machine
would decide it); tests hold what makes them short: which modules are imported, and how many.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time

from bhpe_compile.processes import child_environment, python_command

COMMANDS = {
    "import": ("-c", "import bhpe_compile"),
    "help": ("-m", "bhpe_compile.cli", "--help"),
    "compile help": ("-m", "bhpe_compile.cli", "compile", "--help"),
    "report full": ("-m", "bhpe_compile.cli", "report", "--preset", "full"),
}


def seconds(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor time of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(python_command(*arguments), env=child_environment(), stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])  # user and system time of finished children


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            found[name].append(seconds(arguments))
    figures = {
        name: {
            unit: round(statistics.median(times) * 1e3, 1)
            for unit, times in zip(("wall_ms", "processor_ms"), zip(*runs, strict=True), strict=True)
        }
        for name, runs in found.items()
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
