"""The script of ONNX's own node tests still runs: two of its tests, the whole way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "node-tests"


def test_a_family_of_node_tests_passes(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--only", "hardswish"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pass +2 of 2 ", done.stdout, re.MULTILINE), done.stdout + done.stderr
