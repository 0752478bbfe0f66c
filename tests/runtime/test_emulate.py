"""How long emulation takes is said beforehand, from what an artefact's report counts."""

from __future__ import annotations

from typing import Any

import pytest

from bhpe_compile.runtime.emulate import RATES, emulated_seconds
from bhpe_compile.targets import get_target
from bhpe_compile.targets.host import host_family

FOREIGN = "riscv64" if host_family() != "riscv64" else "arm"


def manifest(name: str) -> dict[str, Any]:
    target = get_target(name)
    return {"target": {"family": target.family, "requires": list(target.requires)}}


def test_seconds_follow_the_macs_of_each_precision() -> None:
    report = {"macs": {"binary": 3e9, "int8": 1.9e9, "float": 0}}
    assert emulated_seconds(manifest(FOREIGN), report) == pytest.approx(3e9 / RATES["binary"] + 10)
    assert emulated_seconds(manifest("native"), report) is None


@pytest.mark.parametrize("report", [{}, [], None, {"macs": "many"}])
def test_a_report_that_does_not_say(report: object) -> None:
    assert emulated_seconds(manifest(FOREIGN), report) is None
