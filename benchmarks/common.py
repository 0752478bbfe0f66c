"""What every benchmark shares: taking turns, facts about the run, JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from process import cpu_name

from bhpe_compile.files import write_atomically

os.environ.setdefault(
    "BHPE_CODE_CACHE", "off"
)  # what is timed is compiling, not finding what was compiled before

PACKAGES = ("apache-tvm", "nncf", "numpy", "onnxruntime", "openvino", "torch", "ziglang")
"""Packages whose versions a result names; null where one is not installed."""

DISTURBED = 1.15
"""A median this many times the fastest run is no median of undisturbed runs."""

Run = Callable[[], object]


class Progress:
    """Tells on stderr how far something is, a line each tenth of it."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def __call__(self, what: str, done: float) -> None:
        """`done` is a fraction."""
        tenth = what, int(done * 10)
        if tenth != self._last:
            self._last = tenth
            print(f"{what}: {done:.0%}", file=sys.stderr, flush=True)


def interleave(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every run, taken in turn after two warm-ups each."""
    for run in runs.values():
        run()
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """The median of every list."""
    return {name: statistics.median(values) for name, values in times.items()}


def disturbed(times: dict[str, list[float]]) -> list[str]:
    """Those whose median is far above their fastest run: other programs wanted the core, ratios mean nothing."""
    return sorted(
        name for name, values in times.items() if statistics.median(values) > DISTURBED * min(values)
    )


def summary(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and the spread of interleaved runs, as a result shows them."""
    return {
        "disturbed": disturbed(times),
        "median_ms": {name: round(value, 3) for name, value in medians(times).items()},
        "spread_ms": {name: [round(min(v), 3), round(max(v), 3)] for name, v in times.items()},
    }


def ratios(times: dict[str, list[float]], ours: str, peers: dict[str, str]) -> dict[str, float]:
    """How many times faster `ours` is than each peer that ran; `peers` maps the ratio's name to the peer's."""
    middle = medians(times)
    return {name: round(middle[peer] / middle[ours], 2) for name, peer in peers.items() if peer in middle}


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive numbers."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def relative_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Length of the difference over length of `want` (over 1 where that is 0); infinite where shapes differ."""
    if got.shape != want.shape:
        return math.inf
    length = float(np.linalg.norm(want.astype(np.float64))) or 1.0
    return float(np.linalg.norm(got.astype(np.float64) - want)) / length


def require_close(who: str, got: NDArray[Any], want: NDArray[Any], tolerance: float) -> float:
    """The relative error of `who`; SystemExit above `tolerance`: what computes something else is not timed."""
    error = relative_error(got, want)
    if not error <= tolerance:
        raise SystemExit(
            f"{who} disagrees with torch: relative error {error:.3g} over {tolerance}; not timed"
        )
    return error


def facts(threads: int = 1) -> dict[str, Any]:
    """Machine, threads, versions and date of a run, and the processes that wanted a core in the minute before."""
    return {
        "load_average": round(os.getloadavg()[0], 1),
        "cpu": cpu_name(),
        "threads": threads,
        "versions": {name: _version(name) for name in PACKAGES},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def parser(text: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="turns of every peer (default %(default)s)")
    made.add_argument("-o", "--output", type=Path, help="write the JSON here as well")
    return made


def report(figures: dict[str, Any], output: Path | None) -> None:
    """Print figures as JSON, and write them where asked."""
    text = json.dumps(figures, indent=2, sort_keys=True)
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, f"{text}\n".encode())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A plain text table: first column left, the others right."""
    texts = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in texts
    )
