"""The full preset, the size of the published network: every bit of it on x86, and on AArch64 under emulation.

It takes three to six minutes and 4 GB, so it is not part of the ordinary run: `make test-full`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bhpe_compile.cli.main import main
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import FULL

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "full.pt"
    save_model(path, initialise(Hand4Whole(FULL), 1), "hand4whole:full")
    return path


@pytest.mark.parametrize("target", ["x86", "arm"])
def test_every_bit(checkpoint: Path, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if target == "arm" and not shutil.which("qemu-aarch64"):
        pytest.skip("qemu-aarch64 is not here: the code is not run")
    artefact = tmp_path / target
    assert main([str(checkpoint), "--target", target, "-o", str(artefact), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["verify", str(artefact), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"]
    assert found["first_difference"] is None
    assert found["float_parts"] == []
    assert (found["binary_layers"], found["int8_layers"]) == (121, 21)
    assert found["max_abs_error"] == 0.0
