"""What `compile` derives from its arguments before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhpe_compile.cli.main import main
from bhpe_compile.compiler.options import default_output


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("model.pt", "dist/model-x86"),
        ("/data/snapshot_6.pth.tar", "dist/snapshot_6-x86"),
        ("a/pose.v2.safetensors", "dist/pose.v2-x86"),
        ("bare", "dist/bare-x86"),
    ],
)
def test_default_output(model: str, folder: str) -> None:
    assert default_output(Path(model), "x86") == Path(folder)


def test_print_passes_needs_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--print-passes"]) == 0
    shown = capsys.readouterr().out
    assert main(["passes", "--requires"]) == 0
    assert shown == capsys.readouterr().out
    assert main(["compile", "--target", "x86"]) == 2
    assert "Missing argument 'MODEL'" in capsys.readouterr().err
