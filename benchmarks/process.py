"""Watching processes: resident memory of a whole tree, and facts about the machine. Linux only."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bhpe_compile.processes import child_environment, python_command

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Finished:
    """A command that ended well: wall-clock seconds, and the largest resident memory of it and its children."""

    seconds: float
    peak_mb: float


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(q for child in children for q in _tree(int(child)))]


def status_kb(pid: int | str, field: str) -> int:
    """A line of /proc/PID/status in kB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def script_command(name: str, *arguments: str) -> list[str]:
    """Another benchmark; it needs `environment`."""
    return python_command(HERE / name, *arguments)


AVX2_ONLY = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
"""What holds OpenVINO to AVX2: it is read once a process."""


def environment(**more: str) -> dict[str, str]:
    """For commands and benchmarks, which import each other from their folder."""
    found = child_environment(**more)
    return {**found, "PYTHONPATH": f"{found['PYTHONPATH']}{os.pathsep}{HERE}"}


def watch(command: Sequence[str]) -> Finished:
    """Run `command`, sampling its tree's memory ten times a second; SystemExit when it fails."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            peak = max(peak, sum(status_kb(pid, "VmRSS:") for pid in _tree(process.pid)))
            time.sleep(0.1)  # the sampling interval
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: {process.stderr.read() if process.stderr else ''}")
    return Finished(time.perf_counter() - start, peak / 1024)


def cpu_name() -> str:
    """The processor as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def command(*arguments: str) -> list[str]:
    """The command line of bhpe-compile."""
    return python_command("-m", "bhpe_compile.cli", *arguments)


def output_of(words: Sequence[str], *, plain: bool = False, **variables: str) -> Any:
    """What a command prints, as JSON, or as it is; SystemExit when it fails. variables: more of its environment."""
    done = subprocess.run(words, env=environment(**variables), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout if plain else json.loads(done.stdout)


def footprint(kind: str, path: Path) -> dict[str, float]:
    """Load time and memory of one model in a process of its own, see footprint.py."""
    return dict(output_of(script_command("footprint.py", kind, str(path))))
