"""The Python interface's documentation builds without a warning and names everything public."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bhpe_compile
from bhpe_compile.processes import python_command
from tests.command import ROOT, environment


def test_api_docs_build_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    done = subprocess.run(
        python_command(ROOT / "scripts" / "api-docs", tmp_path / "docs"),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    page = (tmp_path / "docs" / "bhpe_compile.html").read_text()
    for name in bhpe_compile.__all__:
        assert f'id="{name}"' in page, name
    assert str(ROOT) not in page


def test_every_option_and_command_is_in_the_readme_or_its_pages() -> None:
    """What the configuration page promises exists."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    for word in (
        "bhpe.toml",
        "[tool.bhpe",
        "--print-config",
        "--no-config",
        "--log-json",
        "NO_COLOR",
        "zsh_source",
    ):
        assert word in page, word
    page = (ROOT / "docs" / "debugging.md").read_text()
    for word in (
        "explain",
        "--dump-ir-after",
        "--stop-after",
        "--print-passes",
        "passes --run",
        "--bisect",
        "--repro",
    ):
        assert word in page, word
