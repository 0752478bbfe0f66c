"""The published table in docs/reports.md says what is counted."""

from __future__ import annotations

import pytest

from bhpe_compile.report.count import account
from tests.command import ROOT


@pytest.mark.parametrize("scheme", ["float", "bnn", "reactnet", "bidrn"])
def test_row(scheme: str) -> None:
    (row,) = (
        line for line in (ROOT / "docs" / "reports.md").read_text().splitlines() if f"| `{scheme}` |" in line
    )
    figures = [cell.strip() for cell in row.strip("|").split("|")][2:]
    counted = account("hand4whole:full", scheme)
    assert counted.published is not None
    assert figures == [
        f"{counted.published.paper_m:.2f}",
        f"{counted.compiled.params_paper_m:.4f}",
        f"{counted.published.paper_g:.2f}",
        f"{counted.compiled.ops_paper_g:.4f}",
    ]
