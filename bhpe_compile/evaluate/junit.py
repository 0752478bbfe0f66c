"""The gate's verdicts as JUnit XML, which CI systems show: one test case a metric."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from bhpe_compile.evaluate.gate import Verdict
from bhpe_compile.text import printable_lines

SUITE = "bhpe-compile eval"


def junit(verdicts: Sequence[Verdict], figures: Sequence[tuple[str, str, str]]) -> str:
    """XML 1.0. `figures` (row, metric, value) become test cases without a verdict: they always pass.

    Characters that XML cannot hold (control characters in a file's name) are replaced.
    """
    failed = sum(not verdict.passed for verdict in verdicts)
    suite = ElementTree.Element(
        "testsuite",
        name=SUITE,
        tests=str(len(verdicts) + len(figures)),
        failures=str(failed),
        errors="0",
        skipped="0",
    )
    for verdict in verdicts:
        case = _case(suite, verdict.row, verdict.metric.name)
        if not verdict.passed:
            failure = ElementTree.SubElement(case, "failure", type="accuracy", message=_clean(str(verdict)))
            failure.text = _clean(str(verdict))
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(str(verdict))
    for row, metric, value in figures:
        ElementTree.SubElement(_case(suite, row, metric), "system-out").text = _clean(value)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")


def _case(suite: ElementTree.Element, row: str, metric: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_clean(row), name=metric)


def _clean(text: str) -> str:
    """`text` without what XML 1.0 has no way to write, and without escape sequences."""
    return printable_lines(text)
