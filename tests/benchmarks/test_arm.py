"""The AArch64 figures reach the performance goals, and a tool that is not there is named."""

from __future__ import annotations

import runpy
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "arm.py"


def arm() -> dict[str, Any]:
    """The names of the benchmark, which is a script and no module of the package."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    if find_spec("unicorn") is None:
        pytest.skip("the unicorn package counts the instructions")
    result: dict[str, Any] = arm()["measure"]()
    return result


def test_instructions_reach_the_aim(figures: dict[str, Any]) -> None:
    assert figures["mac_per_instruction"] >= figures["aim"]["mac_per_instruction"]
    for target in figures["targets"].values():
        assert target["executed"]["loop_macs_of_all"] == 1  # the loop counts every bit exactly once


def test_scheduled_for_the_cpu_of_the_target(figures: dict[str, Any]) -> None:
    cpus = {name: target["scheduled_for"] for name, target in figures["targets"].items()}
    assert cpus == {"arm-a53": "cortex-a53", "arm": "cortex-a72", "arm-a76": "cortex-a76"}


@pytest.mark.skipif(
    shutil.which("llvm-mca") is None, reason="llvm-mca (Debian package llvm) is not installed"
)
def test_cycles_reach_the_must(figures: dict[str, Any]) -> None:
    for cpu, reached in figures["mca_mac_per_cycle"].items():
        assert reached >= figures["must"][cpu], cpu


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = arm()["measure"]()
    assert "llvm-mca" in result["missing"]
    assert result["mca_mac_per_cycle"] is None
