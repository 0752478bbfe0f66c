"""Trunks as data, and layers that know no network."""

from __future__ import annotations

import subprocess
import sys

from bhpe_compile.networks.layers.trunk import RESNET50
from tests.command import ROOT, environment
from tests.test_storeys import imports


def test_layers_import_no_network() -> None:
    for path in sorted((ROOT / "bhpe_compile/networks/layers").glob("*.py")):
        for name in imports(path.read_text()):
            own = name.startswith(("networks.layers", "networks.levels"))
            assert own or not name.startswith("networks"), path.name


def test_a_trunk_is_described_without_torch() -> None:
    code = "import sys, bhpe_compile.networks.layers.trunk; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment()).returncode == 0


def test_resnet50_gives_2048_channels_in_a_32nd_of_the_picture() -> None:
    assert RESNET50.out_channels == 2048
    assert RESNET50.cells((256, 192)) == (8, 6)
