"""Options that contradict the checkpoint are refused, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from bhpe_compile.compiler.compile import compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.errors import UsageError
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.passes.binarize import BinarizeOptions, binarize
from bhpe_compile.targets.tile import write_tiles


def test_layers_of_a_binary_checkpoint_are_chosen_already(tmp_path: Path) -> None:
    options = BinarizeOptions()
    graph, _ = binarize(initialise(Hand4Whole(TINY), 1), options)
    source = tmp_path / "binary.pt"
    save_model(source, graph, "hand4whole:tiny", options.to_dict())
    with pytest.raises(UsageError, match="binary already"):
        compile_model(source, tmp_path / "out", CompileOptions("x86", keep_float=("backbone.*",)))
    assert [path.name for path in tmp_path.iterdir()] == ["binary.pt"]


def test_tiles_of_another_instruction_set_are_refused_before_the_work(tmp_path: Path) -> None:
    tiles = tmp_path / "tiles.json"
    tiles.write_text(write_tiles({}, "arm", "neon", "board"))
    with pytest.raises(UsageError, match=r"tiles\.json: was measured for neon, the target has avx2"):
        compile_model(tmp_path / "none.pt", tmp_path / "out", CompileOptions("x86", tiles=tiles))
