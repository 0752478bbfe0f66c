"""Layers and reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bhpe_compile.report.cost import BINARY, CONVOLUTION, Costs, Layer
from bhpe_compile.report.report import Report, report_network

HOSTILE = '<img src=x onerror="window.hit=1">"\'&<script>window.hit=1</script>'


def layer(name: str = "backbone.layer1.0.conv2", precision: str = BINARY, **facts: Any) -> Layer:
    """A 3x3 convolution of 64 channels on a map of 64x48, with whatever differs."""
    cin, cout = facts.pop("in_channels", 64), facts.pop("out_channels", 64)
    kernel = facts.pop("kernel", (3, 3))
    weights = cin * cout * kernel[0] * kernel[1]
    made = Layer(
        name=name,
        kind=CONVOLUTION,
        precision=precision,
        weights=weights,
        macs=weights * 64 * 48,
        in_channels=cin,
        out_channels=cout,
        kernel=kernel,
        inputs=cin * 64 * 48,
        outputs=cout * 64 * 48,
        nbytes=weights // 8,
        traffic=cin * 64 * 48 // 8 + cout * 64 * 48 * 17 // 8,
    )
    return replace(made, **facts)


def hostile_report() -> Report:
    """The tiny preset with names that try to become markup, notes and a verification that failed."""
    report = report_network("hand4whole:tiny", "bidrn", "x86-avx512", None)
    first, *others = report.after.layers
    after = Costs((replace(first, name=HOSTILE), *others), "bidrn")
    note = {"pass_name": HOSTILE, "site": HOSTILE, "applied": False, "reason": HOSTILE}
    other = {"pass_name": "fold", "site": "backbone.conv1", "applied": True, "reason": "folded"}
    return replace(
        report,
        name=HOSTILE,
        after=after,
        notes=(note, other),
        verification={"ok": False, "executed": HOSTILE, "binary_exact": False, "first_difference": HOSTILE},
    )
